"""Accuracy of a sweep's networks and ensembles against what they cost and against their level, as
values of a figure, with what the papers print beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.states import TrialState
from orchestrator.report.figures import LevelLine
from orchestrator.report.level_lines import BACKBONE, LEVEL, level_panels
from orchestrator.report.papers.matching import data_of
from orchestrator.report.papers.published import Data, Entry, load_published
from orchestrator.report.plots.charts import (
    DENSE,
    ENSEMBLES,
    GREY,
    NETWORKS,
    Chart,
    Look,
    Mark,
    Panel,
    Series,
    marker_of,
)
from orchestrator.report.sections.fronts import UNITS
from orchestrator.sweep.leaves import label
from trainables.contract.errors import UserError

TOP1 = "top-1 on the test split, %"
BATCH_64 = "latency of 64 clips, ms"
ONE_CLIP = "latency of one clip, ms"
SHIPPED = "non-zero parameters shipped"
REMOVED = "level: share of the maskable weights removed"
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
    axis = BATCH_64 if batch else ONE_CLIP
    drawn = [
        Panel(title, axis, TOP1, _by_cost(own, costs), "log")
        for title, own in _by_division(evaluation, rows)
    ]
    published = _published_latencies(evaluation) if papers else None
    return Chart(
        [*drawn, published[0]] if published else drawn,
        (_bars(rows), _timing(rows)),
        same_y=published is not None and published[1],
    )


def accuracy_size(evaluation: FinalEvaluation) -> Chart:
    """Test accuracy against the non-zero parameters of the deploy form."""
    costs = {row.name: float(row.size.deploy_nonzero_params) for row in evaluation.rows}
    panels = [
        Panel(title, SHIPPED, TOP1, _by_cost(own, costs), "log")
        for title, own in _by_division(evaluation, evaluation.rows)
    ]
    return Chart(panels, (_bars(evaluation.rows),))


def accuracy_sparsity(
    evaluation: FinalEvaluation, trials: Sequence[TrialState], *, papers: bool
) -> Chart:
    """Test accuracy against the level, as Figures 4 and 5 of the sparse ST-GCN paper."""
    panels: dict[str, list[LevelLine]] = {}
    notes: list[str] = []
    for title, rows in _by_division(evaluation, evaluation.rows):
        found, over_seeds = level_panels(rows, trials)
        panels |= {", ".join(filter(None, [title, more])): found[more] for more in found}
        notes += [_bars(rows) if over_seeds else CLIPS] if found else []
    if not panels:
        levels = sorted({label(row.axes[LEVEL]) for row in evaluation.rows if LEVEL in row.axes})
        raise UserError(
            "accuracy-sparsity: needs networks that differ in their level alone, at two levels or"
            f" more; this sweep has {'level ' + ', '.join(levels) if levels else 'none'}"
        )
    groups = dict.fromkeys(line.group for lines in panels.values() for line in lines)
    names = dict.fromkeys(_sparse_name(group) for group in groups)
    colours = {name: number for number, name in enumerate(names)}
    drawn = [
        Panel(title, REMOVED, TOP1, _level_series(lines, colours), "kept")
        for title, lines in panels.items()
    ]
    published = _published_levels(evaluation) if papers else None
    return Chart(
        [*drawn, published[0]] if published else drawn,
        tuple(dict.fromkeys(notes)),
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
    panels = [
        Panel(title, ONE_CLIP, TOP1, _densely_and_sparsely(own), "log")
        for title, own in _by_division(evaluation, timed)
    ]
    return Chart(panels, (_bars(timed), _timing(timed)))


def _densely_and_sparsely(rows: Sequence[Row]) -> list[Series]:
    """Two series for networks that differ in their level alone."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: float(row.axes[LEVEL])):
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
            series.append(Series(words, marks, "line", number, marker_of(number), sparse))
    return series


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
            for split, colour, marker in (("selection", GREY, "s"), ("test", ENSEMBLES, "o"))
        ]
        panels.append(Panel("", UNITS[measure], "top-1, %", [s for s in series if s.marks], "log"))
    if not panels:
        raise UserError(
            "front: needs ensembles chosen within budgets, which a sweep has whose clips of"
            " selection are held out (data.selection) and that has several networks"
        )
    return Chart(panels, (f"{CLIPS}; numbers: networks of the ensemble",), same_y=True)


CLIPS = "bars: one standard error, of the clips"


def _bars(rows: Sequence[Row]) -> str:
    counts = sorted({row.seeds.seeds if row.seeds else 0 for row in rows})
    if counts == [0] or not counts:
        return CLIPS
    seeds = "-".join(str(count) for count in {counts[0]: 0, counts[-1]: 0} if count)
    more = " (of the clips where there is one seed)" if 0 in counts else ""
    return f"bars: one standard error over {seeds} seeds{more}"


def _timing(rows: Sequence[Row]) -> str:
    """Where latencies were measured, all the ways."""
    ways = list(dict.fromkeys(row.size.timing for row in rows if row.size.timing))
    if len(ways) > 1:
        return f"latencies that were measured in {len(ways)} ways: {'; '.join(ways)}"
    return f"latency: {ways[0]}" if ways else ""


def _by_division(
    evaluation: FinalEvaluation, rows: Sequence[Row]
) -> list[tuple[str, Sequence[Row]]]:
    """What can be held against each other, which is what was tested on the same clips, with its
    title; none where that is all.
    """
    names = division_names(evaluation)
    own = [(name, [row for row in rows if row.division == of]) for of, name in names.items()]
    return [("", rows)] if len(names) == 1 else [(name, found) for name, found in own if found]


def _store(division: Division) -> str:
    return division.store


def _selection(division: Division) -> str:
    return division.selection.kind


def division_names(evaluation: FinalEvaluation) -> dict[Division, str]:
    """The data set and protocol of each division, and what else tells them apart."""
    names = {split.division: str(data_of(split)) for split in evaluation.splits}
    for tell in (_store, _selection):
        several = {name for name, count in Counter(names.values()).items() if count > 1}
        names = {
            division: f"{name} ({tell(division)})" if name in several else name
            for division, name in names.items()
        }
    return names


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
            key = ("ensemble", ENSEMBLES, "*")
        else:
            backbone = label(row.axes[BACKBONE]) if several and BACKBONE in row.axes else ""
            number = numbers.get(backbone, 0)
            kind = "dense network" if row.dense else "sparse network"
            name = f"{backbone}, {kind}" if backbone else kind
            own = NETWORKS[number % len(NETWORKS)]
            colour = own if backbone or not row.dense else GREY
            key = (name, colour, DENSE if row.dense else marker_of(number))
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


def _level_series(lines: Sequence[LevelLine], colours: dict[str, int]) -> list[Series]:
    """Curves that begin at their dense network; what has no curve is a horizontal line."""
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
            Mark(point.level, 100 * point.top1, 100 * point.error / math.sqrt(point.seeds))
            for point in points
        ]
        look: Look = "line" if line.kind == "levels" else "flat"
        name, dashed = line.name or "sparse", line.kind == "ensemble"
        found.append(Series(name, marks, look, colour, marker_of(colour), dashed))
    return found


def _published_latencies(evaluation: FinalEvaluation) -> tuple[Panel, bool] | None:
    """The joint stream in Table 1 of the HPI-GCN paper, and whether all of the sweep is of its data
    set.
    """
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
            marker_of(number),
            dashed=True,
        )
        for number, entry in enumerate(points)
    ]
    title = f"as published, on a GPU (HPI-GCN, Table 1): {data}"
    return (Panel(title, BATCH_64, "top-1, %", series, "log"), same) if series else None


def _published_levels(evaluation: FinalEvaluation) -> tuple[Panel, bool] | None:
    """Table 1 of the sparse ST-GCN paper, and whether all of the sweep is of its data."""
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
            marker_of(number),
            dashed=True,
        )
        for number, (method, marks) in enumerate(curves.items())
    ]
    title = f"as published (sparse ST-GCN, Table 1): {data}"
    return (Panel(title, REMOVED, "top-1, %", series, "kept"), same) if series else None


def _of_data(
    paper: str, table: str, evaluation: FinalEvaluation, else_of: Data
) -> tuple[list[Entry], Data, bool]:
    """The entries of a table for the data set of a sweep, else for another, and whether all of the
    sweep is of it.
    """
    entries = load_published()[paper, table]
    own = [data_of(split) for split in evaluation.splits]
    data = next((each for each in own if any(entry.data == each for entry in entries)), else_of)
    return [entry for entry in entries if entry.data == data], data, set(own) == {data}


def evaluation_of(run: Path, kind: str) -> FinalEvaluation:
    """The sweep's final evaluation; UserError where it has none."""
    found = FinalEvaluation.load(run)
    if found is None or not found.rows:
        raise UserError(
            f"{kind}: needs the final evaluation of {run.name}, which is made when its trials have"
            f" ended; `orchestrate ensemble {run.name} --partial` makes one of those that have"
        )
    return found
