"""Learning curves of a sweep's cells as values of a figure: means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.states import TrialState
from orchestrator.report.plots.charts import COLOURS, Chart, Mark, Panel, Series
from trainables.contract.artifacts import load_curve
from trainables.contract.errors import UserError

METRICS = {
    "train_loss": ("training loss, nats", 1.0),
    "selection_top1": ("top-1 on the selection split, %", 100.0),
}
"""Metric -> its axis, and what its values are multiplied by."""


def curves(run: Path, trials: Sequence[TrialState]) -> Chart:
    """Loss and selection accuracy by epoch, of each cell the network that was evaluated (of a sweep
    without an evaluation, of each cell the first assignment), as the mean over its seeds.
    """
    evaluation = FinalEvaluation.load(run)
    rows = evaluation.rows if evaluation is not None else ()
    wanted = {trial for row in rows if row.kind == "member" for trial in row.trials}
    groups: dict[str, list[dict[str, list[Any]]]] = {}
    for own in _alike(trials):
        tables = [table for state in own if (table := _table(run, state))]
        if tables and (not wanted or any(state.proposal.trial in wanted for state in own)):
            groups.setdefault(own[0].proposal.cell or "trial", tables)
    if not groups:
        raise UserError(f"curves: needs a trial of {run.name} that has finished an epoch")
    panels = []
    for metric, (axis, scale) in METRICS.items():
        series = [
            Series(name, marks, "band", number, "", dashed=number >= COLOURS)
            for number, (name, tables) in enumerate(groups.items())
            if (marks := _means(tables, metric, scale))
        ]
        if series:
            panels.append(Panel("", "epoch", axis, series))
    several = any(len(tables) > 1 for tables in groups.values())
    return Chart(panels, ("bands: one standard error over seeds",) if several else ())


def _alike(trials: Sequence[TrialState]) -> list[list[TrialState]]:
    """Trials that differ in nothing but their seed."""
    found: dict[tuple[str, str], list[TrialState]] = {}
    for state in trials:
        proposal = state.proposal
        key = (proposal.cell, repr(sorted(proposal.assignment.items())))
        found.setdefault(key, []).append(state)
    return list(found.values())


def _table(run: Path, state: TrialState) -> dict[str, list[Any]] | None:
    file = state.proposal.folder(run).metrics_file
    return (load_curve(file) or None) if file.is_file() else None


def _means(tables: Sequence[dict[str, list[Any]]], metric: str, scale: float) -> list[Mark]:
    """Mean of each epoch that every table has, counted from 1."""
    columns = [
        {
            epoch: scale * value
            for epoch, value in zip(table["epoch"], table.get(metric, []), strict=False)
            if value is not None
        }
        for table in tables
    ]
    shared = sorted(set.intersection(*(set(column) for column in columns)))
    return [
        Mark(
            1 + epoch,
            fmean(values := [column[epoch] for column in columns]),
            stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0,
        )
        for epoch in shared
    ]
