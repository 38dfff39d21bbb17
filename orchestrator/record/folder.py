"""The folder a sweep leaves behind: made once, found again by name, refused when the file has
become another sweep. Knows no trial's insides.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.record.commands import command
from orchestrator.record.copies import (
    local_storage,
    names_at,
    place_of,
    refresh,
    refresh_once,
    remove,
    storage_of,
)
from orchestrator.record.journal import Event, Journal, read_journal
from orchestrator.record.keeping import kept, reached
from orchestrator.record.lease import Look, busy, is_renewed, lease_files, leased
from orchestrator.record.proposals import load_proposals
from orchestrator.record.resolved import FILE, load_resolved
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.sweep.growth import GROWING, Growth, grown_part, growth
from orchestrator.trials.proposed import Proposal
from trainables.contract import locks
from trainables.contract.addresses import is_address, local_path
from trainables.contract.disk import remove_leftovers, write_atomic, write_json
from trainables.contract.errors import UserError

log = logging.getLogger(__name__)

SCRATCH = ".tune"
"""Ray Tune's own folder in the sweep's: nothing in it is needed after a run."""

DEFINING = ("data", "parameters", "constraints", "sparsity", "model", "train", "method", "seed")
"""Parts of a sweep file that decide which trials there are; resources, budget, tracking and
ensembles may change between runs.
"""


def folder_of(sweep: Sweep) -> Path:
    """Where the sweep keeps everything; where that is an address, an up-to-date copy of it."""
    run = local_storage(sweep.storage) / sweep.name
    refresh_once(run)
    return run


def page_of(run: Path) -> Path:
    """The page of the sweep's report, which exists once a report has been written."""
    return run / "report" / "index.html"


def list_folders(storage: str = "runs") -> list[Path]:
    """The folders of all sweeps, by name; of copies as much is up to date as says how far a sweep
    is. UserError where the storage folder may not be read.
    """
    if is_address(storage):
        runs = [local_storage(storage) / name for name in names_at(storage)]
        for run in runs:
            refresh(run, at_a_glance=True)
        return [run for run in runs if (run / FILE).is_file()]
    try:
        folders = sorted(Path(storage).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"{storage}: must be a folder that can be read: {error.strerror}"
        ) from error
    return [folder for folder in folders if os.access(folder / FILE, os.F_OK)]


def check_place(storage: str) -> None:
    """UserError where a place of sweeps on this machine is none: it is not there, or is a file. An
    address of an object store holds what lies under it, and is there as soon as something does.
    """
    place = Path(local_path(storage) or storage)
    if (is_address(storage) and local_path(storage) is None) or place.is_dir():
        return
    wrong = "is a file" if place.exists() else "is not there"
    raise UserError(f"--storage: must be a folder of sweeps, but {storage} {wrong}")


def list_names(storage: str = "runs") -> list[str]:
    """The names of all sweeps; UserError as of `list_folders`."""
    if is_address(storage):
        return names_at(storage)
    return [path.name for path in list_folders(storage)]


def closed_folders(storage: str = "runs") -> list[Path]:
    """The folders in a storage folder that this user may not look into, by name: whether they are
    of sweeps is not known.
    """
    if is_address(storage) or not Path(storage).is_dir():
        return []
    return sorted(
        path for path in Path(storage).iterdir() if path.is_dir() and not os.access(path, os.X_OK)
    )


def find_folder(name: str, storage: str = "runs") -> Path:
    """The folder of an existing sweep, by its name, its path or its address; UserError lists the
    sweeps there are.
    """
    if is_address(name):
        storage, _, name = name.rstrip("/").rpartition("/")
    if is_address(storage):
        refresh(local_storage(storage) / name)
    for candidate in (local_storage(storage) / name, Path(name)):
        if (candidate / FILE).is_file():
            return candidate
    known = list_names(storage)
    raise UserError(
        f"{name}: must be a sweep in {storage}/ or a sweep's folder; there"
        f" {'are ' + ', '.join(known) if known else 'are none'}"
    )


def load_folder(run: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep as it was when it last ran, independent of the file and the environment it came
    from; it is stored where its folder lies now. overrides: `a.b=value`, as for a sweep file.
    """
    content = load_resolved(run)["sweep"]
    own = {"name": content.get("name"), "storage": storage_of(run)}
    sweep = parse_sweep(str(run / FILE), json.dumps(content | own), overrides)
    for key, value in own.items():
        if getattr(sweep, key) != value:
            raise UserError(
                f"--set {key}: must stay {value}, got {getattr(sweep, key)}: move the folder and"
                " name the new place with --storage"
            )
    return sweep


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sweep's folder, ready to be run in."""

    mark: str  # names this folder's life: a deleted and repeated sweep is another one in MLflow
    resumed: bool


@dataclass(slots=True)
class Opening:
    """A run of a sweep that holds its folder."""

    begun: bool = False  # whether a trial was given out

    def begin(self) -> None:
        """A trial is given out now: it leaves files, whether or not the journal can tell of it."""
        self.begun = True


@contextmanager
def opened(run: Path) -> Iterator[Opening]:
    """Hold a folder for a run of a sweep; UserError where it holds something that is no sweep.

    An exception before this run gives out a trial undoes what was written: of a new sweep all,
    as there is nothing to go on from; of one that is there already what the folder says of it, so
    that a refused change of a setting is not kept, and a refused extension's events and proposals.
    """
    opening = Opening()
    made = not run.exists()
    _check_free(run)
    with held(run):
        before = {
            path: path.read_bytes() for path in (run / FILE, run / "sweep.yaml") if path.is_file()
        }
        journal = run / "journal.jsonl"
        length = journal.stat().st_size if journal.is_file() else 0
        extended = _count(run, "sweep_extended")
        try:
            yield opening
        except BaseException:
            if not opening.begun:
                if run / FILE not in before:
                    _undo(run, made)
                elif _count(run, "sweep_extended") == extended or _shortened(journal, length):
                    _restore(before)
            raise


def prepare(sweep: Sweep, run: Path, *, extends: bool = False) -> Prepared:
    """Write what the folder says of the sweep: resolved.json, by which it is one, then sweep.yaml.

    extends: the sweep that is there already may get more trials. UserError names every difference
    to its trials.
    """
    known = load_resolved(run) if (run / FILE).is_file() else {}
    extensions = list(known.get("extensions", ()))
    if known and extends:
        extensions.append(_extension(sweep, run, known))
    elif known:
        _check_same(
            *(sweep, run, known),
            f"holds another sweep of the name '{sweep.name}'; take another name (--name) or undo"
            " these changes:",
        )
    mark = str(known.get("mark") or uuid.uuid4().hex[:12])
    # of version 0.2, whose list of trials is the only record of their names
    listed = {"trials": known["trials"]} if "trials" in known else {}
    content = {"sweep": sweep.resolved(), "digest": sweep.digest(), "mark": mark, **listed}
    content |= {"extensions": extensions} if extensions else {}
    store = store_digest(sweep.data.store) or known.get("store")
    write_json(run / FILE, content | ({"store": store} if store else {}))
    if not (known and sweep.is_of(run / FILE)):
        write_atomic(run / "sweep.yaml", sweep.text.encode())
    reached(run)  # before the sweep is known elsewhere by its mark
    return Prepared(mark, bool(known))


def _extension(sweep: Sweep, run: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """What grows, in words, and how that was before; UserError where the folder changed since the
    extension was checked.
    """
    found = grown(sweep, run, known)
    if found.refused or not found.grew:
        raise UserError(
            f"{place_of(run)}: was extended meanwhile; extend it again if that is meant"
        )
    return {"changes": list(found.grew), "before": grown_part(load_folder(run))}


def grown(sweep: Sweep, run: Path, known: Mapping[str, Any] | None = None) -> Growth:
    """How the sweep differs from the one that the folder is of, a line per setting: by what may
    grow, and by whatever else decides which trials there are, which is refused.
    """
    before = load_folder(run)
    found = growth(before, sweep)
    as_before = sweep.model_copy(update={name: getattr(before, name) for name in GROWING})
    others = _changes(as_before, run, load_resolved(run) if known is None else known)
    return Growth(found.grew, (*found.refused, *(text.strip() for text in others)))


def _check_free(run: Path) -> None:
    """UserError where there is a folder that no sweep made; an empty one may be used."""
    if (run / FILE).is_file() or not run.exists():
        return
    if not run.is_dir():
        raise UserError(f"{run}: must be a folder, but is a file")
    # a start that was killed leaves its lock, and a file half written
    others = [
        path.name
        for path in run.iterdir()
        if path.name != ".lock"
        and path not in lease_files(run)
        and not (path.name.startswith(f".{FILE}.") and path.is_file())
    ]
    if others:
        raise UserError(
            f"{place_of(run)}: must be a sweep's folder, an empty one or none, but holds"
            f" {min(others)} and no {FILE}; take another name (--name) or another storage"
        )


_WRITTEN_BEFORE_TRIALS = ("sweep.yaml", "journal.jsonl", "running.json", "drain", "cancel")
"""Beside resolved.json, which goes last: without it nobody knows the folder for a sweep's."""


def _undo(run: Path, made: bool) -> None:
    """Take back a start in a folder that was empty; what others put there meanwhile stays."""
    for name in ("sources", SCRATCH):
        shutil.rmtree(run / name, ignore_errors=True)
    remove_leftovers(run)
    for name in (*_WRITTEN_BEFORE_TRIALS, FILE):
        remove(run / name)
    for path in (*lease_files(run), run / ".lock"):
        path.unlink(missing_ok=True)
    if made:
        with suppress(OSError):  # it is not empty
            run.rmdir()


def _restore(before: Mapping[Path, bytes]) -> None:
    """Give files their former content; the error that is on its way matters more than one here."""
    for path, content in before.items():
        try:
            if path.read_bytes() != content:
                write_atomic(path, content)
        except OSError as error:
            log.warning("%s: what it was before cannot be written back: %s", path, error)


def _shortened(journal: Path, length: int) -> bool:
    """Take back what was written since. Where that cannot be, the sweep stays extended; a sweep
    that is so by its folder alone writes it down when it goes on.
    """
    try:
        os.truncate(journal, length)
    except OSError as error:
        log.warning("%s: what was written since cannot be taken back: %s", journal, error)
        return False
    return True


def _count(run: Path, event: Event) -> int:
    """How often it happened in all runs of the sweep."""
    return sum(each["event"] == event for each in read_journal(run / "journal.jsonl"))


def moved_store(store: str, run: Path) -> list[str]:
    """What to do where the store of the sweep in `run` is gone from this machine, a line; none
    where it is there, or at an address.
    """
    if is_address(store) or Path(store).exists():
        return []
    told = command("resume", run, "--set", "data.store=PLACE")
    return [f"  (where the store was moved, {told} says its place)"]


def check_goes_on(sweep: Sweep, run: Path) -> None:
    """UserError names every change of a setting with which the sweep in `run` cannot go on."""
    _check_same(
        *(sweep, run, load_resolved(run)),
        "cannot go on with other trials; undo these changes, or make a sweep of another name with"
        " them (orchestrate sweep FILE --name OTHER --set ...):",
    )


def _check_same(sweep: Sweep, run: Path, known: Mapping[str, Any], problem: str) -> None:
    """UserError names every difference to the trials that the folder is of."""
    changes = _changes(sweep, run, known)
    if not changes:
        return
    advice = []
    if not grown(sweep, run, known).refused:
        advice = [f"  ({command('extend', run)} adds trials and values to the sweep that is there)"]
    raise UserError(f"{place_of(run)}: {problem}", *changes, *advice)


def _changes(sweep: Sweep, run: Path, known: Mapping[str, Any]) -> list[str]:
    """Every difference to the trials that the folder is of, a line each.

    What was written before is read by today's schema first: a setting that came since has its
    default there, and is no difference.
    """
    before, now = load_folder(run).resolved(), sweep.resolved()
    old, new = before["data"]["store"], now["data"]["store"]
    digest = known.get("store") or (store_digest(old) if old != new else None)
    if old != new and digest is not None and digest == store_digest(new):
        before["data"] = {**before["data"], "store": new}  # the same store at another place
    changes = list(_differences(_defining(before), _defining(now)))
    if old != new and digest is None:
        changes.append(f"  ({old} is not there, so it cannot be told whether {new} is the same)")
    return changes


def known_proposals(sweep: Sweep, run: Path) -> tuple[Proposal, ...]:
    """The trials that earlier runs of the sweep in `run` proposed; none where there is no such
    folder, or it is of a sweep with trials that are not among this one's.
    """
    if not (run / FILE).is_file():
        return ()
    try:
        return () if grown(sweep, run).refused else load_proposals(run)
    except UserError:
        return ()


def store_digest(store: str) -> str | None:
    """Names a store's content: its clips, its classes and how it splits; None where it cannot be
    opened.
    """
    from trainables.data.store.cache import open_outline

    try:
        info = open_outline(store).info
    except UserError:
        return None
    content = info.model_dump(
        mode="json", include={"checksums", "classes", "protocols"}, exclude_defaults=True
    )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def journal_of(run: Path) -> Journal:
    """The sweep's record of events, for what is done outside its runs."""
    return Journal(run / "journal.jsonl")


def journal_of_run(run: Path) -> Journal:
    """The same for a run of the sweep that begins now."""
    return Journal(run / "journal.jsonl", time.monotonic())


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold the sweep's folder against a second driver, on this machine and on others."""
    # `status` holds the lock for a moment to see whether it is free, hence the patience.
    with (
        locks.held(run, patience=1.0, busy=lambda: busy(run)),
        leased(run) as lease,
        kept(run, lease),
    ):
        yield


def is_running(run: Path, first: Look | None = None) -> bool:
    """Whether a driver holds the sweep's folder; one of another machine shows it within seconds,
    counted from the `first` look.
    """
    return locks.is_held(run) or is_renewed(run, first)


def _defining(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What decides which trials there are: not where they keep the joints, which of two equal ways
    a step is computed, nor what is trained for several of them at once.
    """
    ignored = {
        "data": ("residence",),
        "train": ("fast", "sparse_kernels"),
        "sparsity": ("branch_at",),
    }
    kept = {
        section: {n: v for n, v in (resolved.get(section) or {}).items() if n not in names}
        for section, names in ignored.items()
    }
    return {key: resolved.get(key) for key in DEFINING} | kept


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """One line per leaf that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(
                before.get(key), now.get(key), f"{place}.{key}" if place else str(key)
            )
    elif before != now:
        yield f"  {place}: was {before!r}, is now {now!r}"
