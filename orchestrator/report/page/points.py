"""What the page's figures of accuracy show, as values that JSON can hold: networks and ensembles
with their costs, fronts, lines of levels, and the papers' curves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.ensembling.evaluate import Accuracy
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.states import TrialState
from orchestrator.report.findings import bytes_by_trial
from orchestrator.report.level_lines import level_panels
from orchestrator.report.papers.matching import DENSE, LEVELS, METHODS, data_of
from orchestrator.report.papers.published import Entry, load_published
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import TrialResult

Json = dict[str, Any]

COSTS: dict[str, str] = {
    "nonzero": "non-zero parameters shipped",
    "gmacs": "GMACs per clip",
    "latency": "latency of one clip, ms",
    "sparse": "latency of one clip on kept weights, ms",
    "batch64": "latency of 64 clips, ms",
    "bytes": "bytes shipped",
    "peak": "peak memory of activations, MB",
    "trained": "non-zero parameters of the training form",
}
"""Axes of cost, by the name of the value in the page's data."""

ROW_WORDS = {"member": "network", "ensemble": "ensemble"}
SPARSE_PAPER = "Sparse ST-GCN"


def finite(value: float | None, digits: int = 6) -> float | None:
    """A number with so many significant digits; None for one that is none."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def columns_and_rows(rows: Sequence[Json]) -> Json:
    """Rows of equal keys with the keys once, as thousands of them would repeat them; columns in
    which nothing is known are left out.
    """
    every = rows[0] if rows else {}
    names = [name for name in every if any(row[name] is not None for row in rows)]
    return {"columns": names, "rows": [[row[name] for name in names] for row in rows]}


def rows_as_points(evaluation: FinalEvaluation, trials: Sequence[TrialState]) -> Json:
    """Every network and ensemble of the final evaluation; accuracies as fractions."""
    sizes = bytes_by_trial(trials)
    return columns_and_rows([point_of(row, evaluation, sizes) for row in evaluation.rows])


def point_of(row: Row, evaluation: FinalEvaluation, sizes: Mapping[str, int]) -> Json:
    """One of them; sizes: bytes of deploy forms by trial."""
    size, clean = row.size, evaluation.without_copies(row)
    shipped = sum(sizes[trial] for trial in row.trials) if sizes.keys() >= {*row.trials} else None
    return {
        "name": row.name,
        "kind": "dense network" if row.dense else ROW_WORDS[row.kind],
        "group": _group(row),
        "networks": len(row.trials),
        **_accuracy("selection", row.selection),
        **_accuracy("test", row.test),
        **_accuracy("clean", clean if clean is not row.test else None),
        "nonzero": size.deploy_nonzero_params,
        "gmacs": finite(size.deploy_gmacs),
        "latency": finite(size.latency_ms, 4),
        "sparse": finite(size.sparse_latency_ms, 4),
        "batch64": finite(size.batch64_latency_ms, 4),
        "bytes": shipped,
        "peak": finite(size.peak_mb, 4),
        "trained": size.nonzero_params,
    }


def _group(row: Row) -> str:
    """What tells colours apart: the backbone, where it is an axis of the sweep; of an ensemble that
    spans several the word.
    """
    backbone = row.axes.get("model.backbone")
    return label(backbone) if backbone is not None else row.kind


def _accuracy(split: str, found: Accuracy | None) -> Json:
    return {
        split: None if found is None else finite(found.top1),
        f"{split}_error": None if found is None else finite(found.top1_error, 3),
    }


def trials_as_points(trials: Sequence[TrialState]) -> Json:
    """Every finished trial with its accuracy on the selection clips, which is all that is known of
    it: one of many that the best were chosen from.
    """
    return columns_and_rows(
        [trial_point(state, state.result) for state in trials if state.result is not None]
    )


def trial_point(state: TrialState, result: TrialResult) -> Json:
    """One of them."""
    cost, top1, clips = result.cost, result.selection_top1, result.selection_clips
    error = None if top1 is None or not clips else math.sqrt(top1 * (1 - top1) / clips)
    return {
        "name": state.proposal.trial,
        "kind": "trial",
        "group": label(state.proposal.axes.get("model.backbone", "trial")),
        "selection": finite(top1),
        "selection_error": finite(error, 3),
        "nonzero": cost.deploy_nonzero_params,
        "gmacs": finite(cost.deploy_gmacs),
        "latency": finite(cost.deploy_latency_ms, 4),
        "sparse": finite(cost.sparse_latency_ms, 4),
        "batch64": finite(cost.deploy_batch64_latency_ms, 4),
        "bytes": cost.deploy_bytes,
        "peak": finite(cost.deploy_peak_mb, 4),
        "trained": cost.nonzero_params,
    }


def fronts_as_points(evaluation: FinalEvaluation) -> list[Json]:
    """Greedy ensembles within budgets, by measure of cost."""
    names = {"nonzero_params": "nonzero", "latency_ms": "latency", "sparse_latency_ms": "sparse"}
    return [
        {
            "cost": names.get(point.measure, point.measure),
            "x": finite(point.cost),
            "name": " + ".join(point.weights),
            **_accuracy("selection", point.selection),
            **_accuracy("test", point.test),
        }
        for point in evaluation.fronts
    ]


def lines_of_levels(evaluation: FinalEvaluation, trials: Sequence[TrialState]) -> Json | None:
    """Accuracy by level, ours and the papers'; None where nothing has two levels."""
    panels, over_seeds = level_panels(evaluation.rows, trials)
    if not panels:
        return None
    lines = [
        {
            "name": f"{title}: {line.name}" if title else line.name,
            "group": f"{title}: {line.group}" if title else line.group,
            "kind": line.kind,
            "points": [
                {name: finite(value) for name, value in asdict(point).items()}
                for point in line.points
            ],
        }
        for title, own in panels.items()
        for line in own
    ]
    ours = {str(data_of(split)) for split in evaluation.splits}
    return {
        "lines": lines,
        "bars": "standard deviation over seeds" if over_seeds else "one standard error",
        "published": published_curves(),
        "same_data": sorted(ours),
        "methods": _methods_of(evaluation, trials),
    }


def published_curves() -> list[Json]:
    """Top-1 by level of every network, data set and streams of the sparse study."""
    entries = [
        entry
        for (paper, _), found in load_published().items()
        if paper == SPARSE_PAPER
        for entry in found
        if "top1" in entry.figures and entry.level in (DENSE, *LEVELS)
    ]
    curves: dict[tuple[str, str, str], dict[str, float]] = {}
    for entry in entries:
        curves.setdefault(_curve_of(entry), {})[entry.level] = entry.figures["top1"].value / 100
    return [
        {
            "method": method,
            "data": data,
            "streams": streams,
            "dense": points.get(DENSE),
            "points": [
                {"level": float(level), "top1": finite(points[level])}
                for level in LEVELS
                if level in points
            ],
        }
        for (method, data, streams), points in curves.items()
        if len(points) > 2
    ]


def _curve_of(entry: Entry) -> tuple[str, str, str]:
    return entry.method, str(entry.data), entry.streams


def _methods_of(evaluation: FinalEvaluation, trials: Sequence[TrialState]) -> list[str]:
    """Networks of the sparse study whose backbone the sweep has."""
    used = {str(row.axes.get("model.backbone", "")) for row in evaluation.rows}
    used |= {state.proposal.cell.split("-")[0] for state in trials}
    return [name for name, method in METHODS[SPARSE_PAPER].items() if method.backbone in used]
