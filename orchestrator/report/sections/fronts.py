"""Accuracy of ensembles against what they cost: the front in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.ensembling.budgets import written
from orchestrator.ensembling.results import FinalEvaluation, FrontPoint
from orchestrator.report.content import Block, Heading, Picture, Table
from orchestrator.report.figures import draw_front
from orchestrator.report.sections.words import with_error

LONGEST = 32  # characters of a name in the figure
UNITS = {
    "nonzero_params": "non-zero parameters shipped",
    "latency_ms": "latency of one clip, ms",
    "sparse_latency_ms": "latency of one clip on kept weights, ms",
    "members": "networks",
    "bytes": "bytes shipped",
}


def draw_fronts(evaluation: FinalEvaluation | None, out: Path) -> dict[str, Path]:
    """A figure for each measure that has more than one point, by measure."""
    drawn: dict[str, Path] = {}
    points = evaluation.fronts if evaluation is not None else ()
    for measure in dict.fromkeys(point.measure for point in points):
        own = [point for point in points if point.measure == measure]
        tests = [point.test for point in own if point.test is not None]
        splits = {
            "selection": [(each.selection.top1, each.selection.top1_error) for each in own],
            "test": [(each.top1, each.top1_error) for each in tests],
        }
        if len(own) > 1 and len(tests) == len(own):
            costs = {_made_of(point): point.cost for point in own}
            path = out / f"front_{measure}.png"
            drawn[measure] = draw_front(costs, splits, UNITS[measure], path)
    return drawn


def _made_of(point: FrontPoint) -> str:
    """Its networks; how many they are where that makes a long name: the table names all."""
    names = " + ".join(point.weights)
    many = f"{len(point.weights)} networks, {written(point.cost)}"
    return names if len(names) <= LONGEST else many


def front_cells(point: FrontPoint) -> dict[str, Any]:
    """A point as a line of fronts.csv."""
    columns: dict[str, Any] = {
        "measure": point.measure,
        "budget": point.limit,
        "cost": point.cost,
        "networks": " ".join(point.weights),
    }
    for split in ("selection", "test", "clean"):
        found = getattr(point, split)
        columns[f"{split}_top1"] = None if found is None else found.top1
        columns[f"{split}_top1_error"] = None if found is None else found.top1_error
    return columns


def fronts(evaluation: FinalEvaluation | None, figures: Mapping[str, Path]) -> list[Block]:
    """A table for each measure of cost, and its figure; nothing where there is no front."""
    if evaluation is None or not evaluation.fronts:
        return []
    parts: list[Block] = [
        Heading("Accuracy against cost"),
        "For several budgets, the greedy ensemble of all cells that is best on the selection split;"
        " a row stands here if no cheaper one is as good there. That choice leans the selection"
        " figures upwards; the test figures stand beside it and decided nothing.",
    ]
    for measure in dict.fromkeys(point.measure for point in evaluation.fronts):
        own = [point for point in evaluation.fronts if point.measure == measure]
        clean = any(point.clean for point in own)
        parts.append(Table([_line(point, clean=clean) for point in own]))
        if measure in figures:
            path = f"figures/{figures[measure].name}"
            parts.append(Picture(UNITS[measure], path, captioned=False))
    return parts


def _line(point: FrontPoint, *, clean: bool) -> dict[str, str]:
    total = sum(point.weights.values())
    return {
        UNITS[point.measure]: written(point.cost),
        "selection %": with_error(point.selection),
        "test %": with_error(point.test),
        **({"test-clean %": with_error(point.clean)} if clean else {}),
        "made of": ", ".join(f"`{name}` {w / total:.2f}" for name, w in point.weights.items()),
    }
