"""Learning curves of sweeps in one file: what each trial was, what it reported after every epoch,
how long that took and how it ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from orchestrator.record.copies import place_of
from orchestrator.record.states import TrialState, load_trials
from orchestrator.sweep.leaves import LEAVES, leaves_of
from trainables.contract.artifacts import EPOCH_METRICS, TrialResult, load_curve
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError

FORM = b"1"
"""Of the file: the metadata `orchestrate.curves` of its schema."""
KEY = b"orchestrate.curves"
_TEXTS = ("sweep", "trial", "cell", "axes", "assignment", "leaves")  # the last three are JSON


@dataclass(frozen=True, eq=False)
class Curve:
    """One trial, recorded."""

    sweep: str
    trial: str
    cell: str
    axes: Mapping[str, Any]
    assignment: Mapping[str, Any]
    leaves: Mapping[str, Any]  # its whole configuration, JSON values by dotted name
    seed: int
    epochs: int  # of the whole trial
    epoch_seconds: float
    metrics: Mapping[str, Sequence[float | None]]  # a value per epoch that it was trained
    result: TrialResult | None  # None: it ended early

    @cached_property
    def reports(self) -> list[dict[str, float]]:
        """What it reported, by epoch."""
        length = max((len(values) for values in self.metrics.values()), default=0)
        found: list[dict[str, float]] = [{} for _ in range(length)]
        for name, values in self.metrics.items():
            for report, value in zip(found, values, strict=False):
                if value is not None:
                    report[name] = value
        return found

    def report(self, epoch: int) -> dict[str, float]:
        """What it reported of this epoch (0-based); nothing where none of it is known."""
        return self.reports[epoch] if epoch < len(self.reports) else {}


def collect_curves(runs: Iterable[Path]) -> list[Curve]:
    """Of all trials of these sweeps that have finished or ended early; UserError where a sweep has
    no finished one.
    """
    return [curve for run in runs for curve in _of_sweep(run)]


def _of_sweep(run: Path) -> list[Curve]:
    states = load_trials(run)
    work = [  # clips of one epoch
        state.result.seconds / state.result.epochs * state.result.clips_per_s
        for state in states
        if state.result is not None
    ]
    if not work:
        raise UserError(
            f"{place_of(run)}: must have a finished trial, whose learning curve can be kept"
        )
    clips = median(work)
    found = [_of_trial(run, state, clips) for state in states if state.ending in ENDED]
    return [curve for curve in found if curve is not None]


ENDED = ("finished", "pruned")


def _of_trial(run: Path, state: TrialState, clips: float) -> Curve | None:
    """None where the file of its epochs is missing or damaged."""
    proposal, folder = state.proposal, state.proposal.folder(run)
    columns = load_curve(folder.metrics_file)
    if not columns or not folder.config_file.is_file():
        return None
    config, result = folder.load_config(), state.result
    rates = [rate for rate in columns.get("clips_per_s", ()) if rate]
    seconds = clips / median(rates) if rates else 0.0
    return Curve(
        sweep=run.name,
        trial=proposal.trial,
        cell=proposal.cell,
        axes=proposal.axes,
        assignment=proposal.assignment,
        leaves=leaves_of(config),
        seed=proposal.seed,
        epochs=config.total_epochs,
        epoch_seconds=seconds if result is None else result.seconds / result.epochs,
        metrics={name: columns[name] for name in EPOCH_METRICS if name in columns},
        result=result,
    )


def save_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write them to a Parquet file, one row per trial, atomically; UserError where the file is
    there already and holds something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if os.path.lexists(path) and not _holds_curves(path):
        raise UserError(f"--out: {path} is there already and holds no curves; name a new file")
    numbers = pa.list_(pa.float64())
    columns: dict[str, Any] = {
        name: [_text(getattr(curve, name)) for curve in curves] for name in _TEXTS
    }
    columns |= {
        "seed": pa.array([curve.seed for curve in curves], pa.int64()),
        "epochs": pa.array([curve.epochs for curve in curves], pa.int64()),
        "epoch_seconds": pa.array([curve.epoch_seconds for curve in curves], pa.float64()),
        "result": pa.array(
            [None if c.result is None else c.result.model_dump_json() for c in curves], pa.string()
        ),
    }
    columns |= {
        name: pa.array([curve.metrics.get(name) for curve in curves], numbers)
        for name in EPOCH_METRICS
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({KEY: FORM}), sink)
    write_atomic(path, sink.getvalue().to_pybytes())


def _holds_curves(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return KEY in (file.schema_arrow.metadata or {})
    except (pa.ArrowException, OSError):
        return False


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(dict(value))


def load_curves(path: Path) -> list[Curve]:
    """What `save_curves` wrote; UserError where it is something else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()  # read_table would load pandas
    except (FileNotFoundError, PermissionError) as error:
        why = os.strerror(error.errno or 0)  # Arrow's own text says it twice
        raise UserError(f"{path}: cannot be read: {why}") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _not_curves(path, reason) from error
    form = (table.schema.metadata or {}).get(KEY)
    if form is None:
        raise _not_curves(path, f"a table of {', '.join(table.column_names[:4])}, ...")
    if form != FORM:
        raise _not_curves(path, f"one of form {form.decode(errors='replace')}, of a later version")
    try:
        return [_curve(row) for row in table.to_pylist()]
    except (KeyError, ValueError, TypeError, ValidationError) as error:
        raise _not_curves(path, f"a damaged one: {str(error).splitlines()[0]}") from error


def _curve(row: dict[str, Any]) -> Curve:
    axes, assignment, leaves = (json.loads(row[name]) for name in _TEXTS[3:])
    return Curve(
        sweep=row["sweep"],
        trial=row["trial"],
        cell=row["cell"],
        axes=axes,
        assignment=assignment,
        leaves=_completed(leaves),
        seed=row["seed"],
        epochs=row["epochs"],
        epoch_seconds=row["epoch_seconds"],
        metrics={name: row[name] for name in EPOCH_METRICS if row.get(name) is not None},
        result=row["result"] and TrialResult.model_validate_json(row["result"]),
    )


def _completed(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """With the defaults of settings that came since it was recorded: they change nothing before."""
    added = {
        name: leaf.default_beside(leaves)
        for name, leaf in LEAVES.items()
        if name not in leaves and not leaf.required
    }
    return {**leaves, **added}


def _not_curves(path: Path, found: str) -> UserError:
    return UserError(f"{path}: must be a file that `orchestrate curves` wrote, got {found}")
