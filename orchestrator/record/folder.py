"""The folder a sweep leaves behind: made once, found again by name, refused when the file has
become another sweep. Knows no trial's insides.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.record.journal import Journal
from orchestrator.record.resolved import load_resolved
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.trials.proposed import Proposal
from trainables.contract import locks
from trainables.contract.artifacts import write_atomic, write_json
from trainables.contract.errors import UserError

DEFINING = ("data", "parameters", "constraints", "sparsity", "model", "train", "method", "seed")
"""Parts of a sweep file that decide which trials there are; resources, budget, tracking and
ensembles may change between runs.
"""


def folder_of(sweep: Sweep) -> Path:
    """Where the sweep keeps everything."""
    return Path(sweep.storage) / sweep.name


def list_folders(storage: str = "runs") -> list[Path]:
    """The folders of all sweeps, by name."""
    return sorted(path.parent for path in Path(storage).glob("*/resolved.json"))


def find_folder(name: str, storage: str = "runs") -> Path:
    """The folder of an existing sweep, by its name or its path; UserError lists the sweeps there
    are.
    """
    for candidate in (Path(storage) / name, Path(name)):
        if (candidate / "resolved.json").is_file():
            return candidate
    known = [path.name for path in list_folders(storage)]
    raise UserError(
        f"{name}: must be a sweep in {storage}/ or a sweep's folder; there"
        f" {'are ' + ', '.join(known) if known else 'are none'}"
    )


def load_folder(run: Path) -> Sweep:
    """The sweep as it was when it last ran, independent of the file and the environment it came
    from.
    """
    return parse_sweep(str(run / "resolved.json"), json.dumps(load_resolved(run)["sweep"]))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sweep's folder, ready to be run in."""

    mark: str  # names this folder's life: a deleted and repeated sweep is another one in MLflow
    resumed: bool


def prepare(sweep: Sweep, proposals: Sequence[Proposal]) -> Prepared:
    """Write what the folder says of the sweep.

    UserError names every difference to what an earlier run of it wrote there.
    """
    run = folder_of(sweep)
    resolved = sweep.resolved()
    known = load_resolved(run) if (run / "resolved.json").is_file() else None
    if known is not None:
        before = known.get("sweep", {})
        changes = list(_differences(_defining(before), _defining(resolved)))
        if changes:
            raise UserError(
                f"{run}: holds another sweep of the name '{sweep.name}'; take another name (--name)"
                " or undo these changes:",
                *changes,
            )
    write_atomic(run / "sweep.yaml", sweep.text.encode())
    mark = known["mark"] if known is not None else uuid.uuid4().hex[:12]
    entries = [asdict(trial) for trial in proposals]
    write_json(
        run / "resolved.json",
        {"sweep": resolved, "digest": sweep.digest(), "mark": mark, "trials": entries},
    )
    return Prepared(mark, known is not None)


def journal_of(run: Path) -> Journal:
    """The sweep's record of events."""
    return Journal(run / "journal.jsonl")


def held(run: Path) -> AbstractContextManager[None]:
    """Hold the sweep's folder against a second driver."""
    # `status` holds the lock for a moment to see whether it is free, hence the patience.
    return locks.held(
        run,
        patience=1.0,
        busy=(
            f"{run}: is being run by another process; `orchestrate status {run.name}` shows how far"
            " it is"
        ),
    )


def is_running(run: Path) -> bool:
    """Whether a driver holds the sweep's folder."""
    return locks.is_held(run)


def _defining(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What decides which trials there are; where they keep the joints does not."""
    data = {
        name: value for name, value in (resolved.get("data") or {}).items() if name != "residence"
    }
    return {key: resolved.get(key) for key in DEFINING} | {"data": data}


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """One line per leaf that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(
                before.get(key), now.get(key), f"{place}.{key}" if place else str(key)
            )
    elif before != now:
        yield f"  {place}: was {before!r}, is now {now!r}"
