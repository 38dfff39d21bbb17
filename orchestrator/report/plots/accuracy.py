"""Accuracy of a sweep's networks and ensembles against what they cost and against their level, as
values of a figure, with what the papers print beside it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.states import TrialState
from orchestrator.report.figures import LevelLine
from orchestrator.report.level_lines import BACKBONE, LEVEL, level_panels
from orchestrator.report.papers.matching import data_of
from orchestrator.report.papers.published import Data, Entry, load_published
from orchestrator.report.plots.charts import Chart, Look, Mark, Panel, Series
from orchestrator.report.sections.fronts import UNITS
from orchestrator.sweep.leaves import label
from trainables.contract.errors import UserError

TOP1 = "top-1 on the test split, %"
BATCH_64 = "latency of 64 clips, ms"
ONE_CLIP = "latency of one clip, ms"
SHIPPED = "non-zero parameters shipped"
REMOVED = "level: share of the maskable weights removed"
MARKERS = "osD^vP<>X"
SIZES = Data("NTU RGB+D 120", "X-sub")
LEVELS_OF = Data("NTU RGB+D 60", "X-sub")
"""What the papers' points are of where they have none of the sweep's data set."""


def accuracy_latency(evaluation: FinalEvaluation, *, papers: bool) -> Chart:
    """Test accuracy against latency, as Figure 1 of the HPI-GCN paper: of 64 clips where all rows
    were timed so, else of one.
    """
    rows = [row for row in evaluation.rows if row.size.latency_ms is not None]
    if not rows:
        raise UserError(
            "accuracy-latency: needs measured latencies, but no network of this sweep was timed"
        )
    batch = all(row.size.batch64_latency_ms is not None for row in rows)
    costs = {
        row.name: (row.size.batch64_latency_ms if batch else row.size.latency_ms) or 0.0
        for row in rows
    }
    own = Panel("", BATCH_64 if batch else ONE_CLIP, TOP1, _by_cost(rows, costs), "log")
    published = _published_latencies(evaluation) if papers else None
    return Chart(
        [own, published[0]] if published else [own],
        (_bars(rows), _timing(rows)),
        same_y=published is not None and published[1],
    )


def accuracy_size(evaluation: FinalEvaluation) -> Chart:
    """Test accuracy against the non-zero parameters of the deploy form."""
    costs = {row.name: float(row.size.deploy_nonzero_params) for row in evaluation.rows}
    panel = Panel("", SHIPPED, TOP1, _by_cost(evaluation.rows, costs), "log")
    return Chart([panel], (_bars(evaluation.rows),))


def accuracy_sparsity(
    evaluation: FinalEvaluation, trials: Sequence[TrialState], *, papers: bool
) -> Chart:
    """Test accuracy against the level, as Figures 4 and 5 of the sparse ST-GCN paper."""
    panels, over_seeds = level_panels(evaluation.rows, trials)
    if not panels:
        found = sorted({label(row.axes[LEVEL]) for row in evaluation.rows if LEVEL in row.axes})
        raise UserError(
            "accuracy-sparsity: needs networks that differ in their level alone, at two levels or"
            f" more; this sweep has {'level ' + ', '.join(found) if found else 'none'}"
        )
    groups = dict.fromkeys(line.group for lines in panels.values() for line in lines)
    colours = {_sparse_name(group): 0 for group in groups}
    colours = {name: number for number, name in enumerate(colours)}
    seeds = min((row.seeds.seeds for row in evaluation.rows if row.seeds), default=1)
    shrink = 1 / math.sqrt(seeds) if over_seeds else 1.0
    drawn = [
        Panel(title, REMOVED, TOP1, _level_series(lines, colours, shrink), "kept")
        for title, lines in panels.items()
    ]
    published = _published_levels(evaluation) if papers else None
    return Chart(
        [*drawn, published[0]] if published else drawn,
        (_bars(evaluation.rows) if over_seeds else CLIPS,),
        same_y=published is not None and published[1],
    )


def levels_latency(evaluation: FinalEvaluation) -> Chart:
    """Test accuracy of the levels against the measured latency of one clip, executed densely and on
    the kept weights alone.
    """
    rows = [row for row in evaluation.rows if row.kind == "member" and LEVEL in row.axes]
    timed = [row for row in rows if row.size.latency_ms is not None]
    if not any(row.size.sparse_latency_ms is not None for row in timed):
        raise UserError(
            "levels-latency: needs networks at levels that were timed densely and on their kept"
            f" weights alone; of {len(rows)} networks with a level {len(timed)} were timed densely"
            " and none on its kept weights"
        )
    groups: dict[str, list[Row]] = {}
    for row in sorted(timed, key=lambda row: float(row.axes[LEVEL])):
        others = [label(value) for axis, value in row.axes.items() if axis != LEVEL]
        groups.setdefault(", ".join(others), []).append(row)
    series = []
    for number, (name, own) in enumerate(groups.items()):
        for sparse in (False, True):
            marks = [
                Mark(cost, *_top1(row), name=label(row.axes[LEVEL]))
                for row in own
                if (cost := row.size.sparse_latency_ms if sparse else row.size.latency_ms)
            ]
            words = f"{name}, executed {'sparsely' if sparse else 'densely'}".removeprefix(", ")
            series.append(Series(words, marks, "line", number, MARKERS[number % 9], sparse))
    return Chart([Panel("", ONE_CLIP, TOP1, series, "log")], (_bars(timed), _timing(timed)))


def front(evaluation: FinalEvaluation) -> Chart:
    """Top-1 of greedy ensembles against each measure of cost: what no cheaper one is as good as."""
    panels = []
    for measure in dict.fromkeys(point.measure for point in evaluation.fronts):
        own = [point for point in evaluation.fronts if point.measure == measure]
        series = [
            Series(
                f"{split} split",
                [
                    Mark(
                        point.cost,
                        100 * found.top1,
                        100 * found.top1_error,
                        f"{len(point.weights)}" if split == "test" else "",
                    )
                    for point in own
                    if (found := point.selection if split == "selection" else point.test)
                ],
                "stairs",
                colour,
                marker,
                dashed=split == "selection",
            )
            for split, colour, marker in (("selection", GREY, "s"), ("test", 1, "o"))
        ]
        panels.append(Panel("", UNITS[measure], "top-1, %", [s for s in series if s.marks], "log"))
    if not panels:
        raise UserError(
            "front: needs ensembles chosen within budgets, which a sweep has whose clips of"
            " selection are held out (data.selection) and that has several networks"
        )
    return Chart(panels, (f"{CLIPS}; numbers: networks of the ensemble",), same_y=True)


CLIPS = "bars: one standard error, of the clips"
GREY = 6


def _bars(rows: Sequence[Row]) -> str:
    counts = sorted({row.seeds.seeds if row.seeds else 0 for row in rows})
    if counts == [0] or not counts:
        return CLIPS
    seeds = "-".join(str(count) for count in {counts[0]: 0, counts[-1]: 0} if count)
    more = " (of the clips where there is one seed)" if 0 in counts else ""
    return f"bars: one standard error over {seeds} seeds{more}"


def _timing(rows: Sequence[Row]) -> str:
    """Where latencies were measured."""
    return next((f"latency: {row.size.timing}" for row in rows if row.size.timing), "")


def _top1(row: Row) -> tuple[float, float]:
    """Top-1 and its standard error in per cent: over seeds where there are several."""
    if row.seeds is not None:
        return 100 * row.seeds.test_mean, 100 * row.seeds.test_std / math.sqrt(row.seeds.seeds)
    return 100 * row.test.top1, 100 * row.test.top1_error


def _by_cost(rows: Sequence[Row], costs: dict[str, float]) -> list[Series]:
    """Single networks by backbone, dense ones and ensembles with marks of their own."""
    backbones = [label(row.axes[BACKBONE]) for row in rows if BACKBONE in row.axes]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(backbones))}
    several = len(numbers) > 1
    found: dict[tuple[str, int, str], list[Mark]] = {}  # name, colour, marker
    for row in rows:
        if row.kind == "ensemble":
            key = ("ensemble", 1, "*")
        else:
            backbone = label(row.axes[BACKBONE]) if several and BACKBONE in row.axes else ""
            number = numbers.get(backbone, 0)
            number += number >= 1  # the second colour is that of ensembles
            kind = "dense network" if row.dense else "sparse network"
            name = f"{backbone}, {kind}" if backbone else kind
            colour = number if backbone or not row.dense else GREY
            key = (name, colour, "s" if row.dense else "oD^vP<>X"[number % 8])
        found.setdefault(key, []).append(
            Mark(costs[row.name], *_top1(row), name=_name(row, numbers))
        )
    return [
        Series(name, marks, "points", colour, marker)
        for (name, colour, marker), marks in found.items()
    ]


def _name(row: Row, backbones: Collection[str]) -> str:
    """What the legend does not say of a single network; an ensemble's own name."""
    if row.kind == "ensemble" or not row.axes:
        return row.name
    told = {BACKBONE} if len(backbones) > 1 else set()
    return " ".join(label(value) for axis, value in row.axes.items() if axis not in told)


def _sparse_name(group: str) -> str:
    """The group of the sparse networks that a dense one stands beside."""
    return group.removeprefix("dense, ") if group != "dense" else ""


def _level_series(
    lines: Sequence[LevelLine], colours: dict[str, int], shrink: float
) -> list[Series]:
    """Curves that begin at their dense network; what has no curve is a horizontal line.

    shrink: of errors.
    """
    dense = {_sparse_name(line.group): line for line in lines if line.kind == "flat"}
    curves = {line.group for line in lines if line.kind == "levels"}
    found = []
    for line in lines:
        colour = colours[_sparse_name(line.group)]
        if line.kind == "flat" and _sparse_name(line.group) in curves:
            continue
        before = dense.get(line.group) if line.kind == "levels" else None
        points = [*(before.points if before else ()), *line.points]
        marks = [
            Mark(point.level, 100 * point.top1, 100 * point.error * shrink) for point in points
        ]
        look: Look = "line" if line.kind == "levels" else "flat"
        name, dashed = line.name or "sparse", line.kind == "ensemble"
        found.append(Series(name, marks, look, colour, MARKERS[colour % 9], dashed))
    return found


def _published_latencies(evaluation: FinalEvaluation) -> tuple[Panel, bool] | None:
    """The joint stream in Table 1 of the HPI-GCN paper, and whether it is of the sweep's data."""
    entries, data, same = _of_data("HPI-GCN", "1", evaluation, SIZES)
    points = [
        entry
        for entry in entries
        if entry.streams == "joint" and {"top1", "latency_ms"} <= entry.figures.keys()
    ]
    series = [
        Series(
            f"{entry.method}, published",
            [Mark(entry.figures["latency_ms"].value, entry.figures["top1"].value)],
            "points",
            number,
            MARKERS[number % 9],
            dashed=True,
        )
        for number, entry in enumerate(points)
    ]
    title = f"as published, on a GPU (HPI-GCN, Table 1): {data}"
    return (Panel(title, BATCH_64, "top-1, %", series, "log"), same) if series else None


def _published_levels(evaluation: FinalEvaluation) -> tuple[Panel, bool] | None:
    """Table 1 of the sparse ST-GCN paper, and whether it is of the sweep's data."""
    entries, data, same = _of_data("Sparse ST-GCN", "1", evaluation, LEVELS_OF)
    curves: dict[str, list[Mark]] = {}
    for entry in entries:
        if "top1" in entry.figures:
            level = 0.0 if entry.level == "dense" else float(entry.level)
            curves.setdefault(entry.method, []).append(Mark(level, entry.figures["top1"].value))
    series = [
        Series(
            f"{method}, published",
            sorted(marks, key=lambda mark: mark.x),
            "line",
            number,
            MARKERS[number % 9],
            dashed=True,
        )
        for number, (method, marks) in enumerate(curves.items())
    ]
    title = f"as published (sparse ST-GCN, Table 1): {data}"
    return (Panel(title, REMOVED, "top-1, %", series, "kept"), same) if series else None


def _of_data(
    paper: str, table: str, evaluation: FinalEvaluation, else_of: Data
) -> tuple[list[Entry], Data, bool]:
    """The entries of a table for the data set of a sweep, and whether it has any; else those of
    another.
    """
    entries = load_published()[paper, table]
    own = [data_of(split) for split in evaluation.splits]
    data = next((each for each in own if any(entry.data == each for entry in entries)), else_of)
    return [entry for entry in entries if entry.data == data], data, data in own


def evaluation_of(run: Path, kind: str) -> FinalEvaluation:
    """The sweep's final evaluation; UserError where it has none."""
    found = FinalEvaluation.load(run)
    if found is None or not found.rows:
        raise UserError(
            f"{kind}: needs the final evaluation of {run.name}, which is made when its trials have"
            f" ended; `orchestrate ensemble {run.name} --partial` makes one of those that have"
        )
    return found
