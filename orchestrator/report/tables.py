"""The numbers of a sweep as rows of CSV files, and how numbers are written.

Computes nothing that the evaluation did not find.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from orchestrator.ensembling.evaluate import Accuracy, Paired
from orchestrator.ensembling.results import FinalEvaluation, LevelRow, Row, SeedGain, SeedSpread
from orchestrator.ensembling.statistics.calibration import Calibration
from orchestrator.ensembling.statistics.diversity import Diversity
from orchestrator.ensembling.statistics.intervals import Bootstrap, Interval
from orchestrator.ensembling.statistics.luck import Luck
from orchestrator.record.states import TrialState
from trainables.contract.config import Frozen
from trainables.contract.disk import write_atomic

Cells = dict[str, Any]  # column -> value


def result_cells(row: Row) -> Cells:
    """One evaluated member or ensemble."""
    return {
        "name": row.name,
        "kind": row.kind,
        "dense": row.dense,
        "protocol": row.division.protocol,
        "held_out": row.division.held_out,
        **{f"axis.{axis}": value for axis, value in row.axes.items()},
        **_prefixed("selection", row.selection, Accuracy),
        **_prefixed("test", row.test, Accuracy),
        **_prefixed("clean", row.clean, Accuracy),
        **row.size.model_dump(),
        "share_of_dense": row.share_of_dense,
        **_over_seeds(row.seeds),
        **_prefixed("bootstrap", row.bootstrap, Bootstrap),
        **_prefixed("calibration", row.calibration, Calibration, {"clips", "bins"}),
        **_prefixed("diversity", row.diversity, Diversity, {"members"}),
        **_prefixed("luck", row.luck, Luck),
        **_prefixed("cross_fitted", row.cross_fitted, Accuracy),
        "method": row.method,
        "combine": row.combine,
        "weights": " ".join(f"{name}={weight:g}" for name, weight in row.weights.items()),
        "trials": " ".join(row.trials),
        "missing": " ".join(row.missing),
    }


def level_cells(row: Row, level: LevelRow) -> Cells:
    """One level of an evaluated network of several levels."""
    return {
        "name": row.name,
        "level": level.level,
        **_prefixed("selection", level.selection, Accuracy),
        **_prefixed("test", level.test, Accuracy),
        **_prefixed("clean", level.clean, Accuracy),
        **_over_seeds(level.seeds),
    }


def trial_cells(state: TrialState) -> Cells:
    """One trial, finished or not."""
    return {
        "trial": state.proposal.trial,
        "cell": state.proposal.cell,
        "seed": state.proposal.seed,
        "status": state.status,
        "reason": state.reason or "",
        **{f"axis.{axis}": value for axis, value in state.proposal.axes.items()},
        **{f"parameter.{name}": value for name, value in state.proposal.assignment.items()},
        **(state.result.metrics() if state.result else {}),
    }


def comparison_cells(evaluation: FinalEvaluation) -> list[Cells]:
    """Every ensemble against its best member and the dense network, on all test clips and
    (`clean.`) without the copies.
    """
    return [
        {
            **each.model_dump(exclude={"tied", "test", "clean", "over_seeds", "bootstrap"}),
            "tied": " ".join(each.tied),
            **each.test.model_dump(),
            **_prefixed("over_seeds", each.over_seeds, SeedGain),
            **_prefixed("bootstrap", each.bootstrap, Bootstrap),
            **_prefixed("clean", each.clean, Paired),
        }
        for each in evaluation.comparisons
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows under the union of their columns, in order of first appearance; atomically."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
    return path


def percent(fraction: float) -> str:
    """In per cent with two digits, without the sign."""
    return f"{100 * fraction:.2f}"


def milliseconds(time: float) -> str:
    """Two significant digits, all that a latency bears; whole milliseconds from 10 on."""
    return f"{time:.{max(0, 1 - math.floor(math.log10(time))) if time > 0 else 0}f}"


def span(found: tuple[float, float]) -> str:
    """An interval of fractions in per cent, without the sign."""
    return f"{percent(found[0])} to {percent(found[1])}"


def _over_seeds(found: SeedSpread | None) -> Cells:
    return {f"seeds.{name}": value for name, value in (found.model_dump() if found else {}).items()}


def _prefixed(
    split: str, found: Frozen | None, kind: type[Frozen], without: Collection[str] = ()
) -> Cells:
    """The fields of `kind` as columns, empty where nothing was found; an interval has two."""
    cells: Cells = {}
    for name, field in kind.model_fields.items():
        if name in without:
            continue
        value = getattr(found, name) if found else None
        if Interval in (field.annotation, *get_args(field.annotation)):
            low, high = value or (None, None)
            cells |= {f"{split}.{name}.low": low, f"{split}.{name}.high": high}
        else:
            cells[f"{split}.{name}"] = value
    return cells
