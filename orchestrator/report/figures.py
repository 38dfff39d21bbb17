"""Figures of a sweep, drawn from numbers and files into PNG; one at a time, from any thread.

Knows nothing of reports or MLflow.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from orchestrator.report.point_names import Point, name_points
from trainables.contract.artifacts import load_curve
from trainables.contract.disk import read_json, write_atomic
from trainables.figures import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWING = threading.Lock()  # matplotlib's font and text caches are not made for several threads
MOST_NAMES = 16  # with more points than this only ensembles and dense members are named
LEAST_SHARE = 0.1  # %: where the axis of kept weights begins
MOST_CLASSES = 64  # names of more would be too small to read
MOST_COUNTED = 20  # classes of a confusion matrix whose cells hold their clips
NAMED_CURVES = 12  # more than this many trials get no legend: it would hide the curves


@dataclass(frozen=True, slots=True)
class LevelPoint:
    """The accuracy of a network without a share of its maskable weights."""

    level: float  # the share
    top1: float
    error: float  # a deviation over seeds, or the standard error of the clips
    seeds: int = 1  # which the deviation is over


@dataclass(frozen=True, slots=True)
class LevelLine:
    """Networks that differ in nothing but their level, and what is to be held against them."""

    name: str
    group: str  # lines of one group have one colour
    # a curve; a network without a level; an ensemble over the levels
    kind: Literal["levels", "flat", "ensemble"]
    points: Sequence[LevelPoint]  # one where there is no level


def draw_size_accuracy(points: Sequence[Point], split: str, path: Path) -> Path:
    """Top-1 against non-zero parameters (logarithmic), with one standard error; `split` names the
    clips.
    """
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    with DRAWING:
        figure, axes = _canvas(8.0, 5.0)
        styles = {
            "member": ("o", "tab:blue"),
            "dense": ("s", "black"),
            "ensemble": ("*", "tab:red"),
        }
        for kind, (marker, colour) in styles.items():
            own = [point for point in points if point.kind == kind]
            if own:
                axes.errorbar(
                    [point.cost for point in own],
                    [100 * point.top1 for point in own],
                    yerr=[100 * point.error for point in own],
                    fmt=marker,
                    color=colour,
                    label="sparse member" if kind == "member" else kind,
                    markersize=12 if kind == "ensemble" else 6,
                    capsize=2,
                    elinewidth=0.8,
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.minorticks_off()
        axes.set_xlabel("non-zero parameters of the deploy form, which ships")
        axes.set_ylabel(f"top-1 on {split}, % (bars: one standard error)")
        axes.margins(x=0.25, y=0.12)
        axes.grid(alpha=0.3, which="both")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8)
        crowded = len(points) > MOST_NAMES
        named = [point for point in points if not crowded or point.kind != "member"]
        name_points(figure, axes, named, [point for point in points if point not in named])
        return save_figure(figure, path)


def draw_front(
    costs: Mapping[str, float],
    accuracies: Mapping[str, Sequence[tuple[float, float]]],
    unit: str,
    path: Path,
) -> Path:
    """Top-1 of ensembles against what they cost (logarithmic), a stair for each split with one
    standard error, the splits a little beside each other so that no bar hides another.

    costs: what an ensemble is made of -> its cost, the cheapest first; accuracies: split ->
    (top-1, its standard error) for each cost.
    """
    places = list(costs.values())
    nudge = (max(places) / min(places)) ** 0.006
    with DRAWING:
        figure, axes = _canvas(7.5, 4.8)
        for split, values in accuracies.items():
            factor = 1 / nudge if split == "selection" else nudge
            axes.errorbar(
                [factor * cost for cost in places],
                [100 * top1 for top1, _ in values],
                yerr=[100 * error for _, error in values],
                fmt="o--" if split == "selection" else "o-",
                drawstyle="steps-post",
                color="tab:grey" if split == "selection" else "tab:red",
                label=f"{split} split",
                markersize=5,
                capsize=2,
                elinewidth=0.8,
            )
        axes.set_xscale("log")
        axes.set_xlabel(unit)
        axes.set_ylabel("top-1, % (bars: one standard error)")
        axes.margins(x=0.15, y=0.15)
        ticks = _apart(places)
        axes.set_xticks(ticks, [f"{tick:.3g}" if tick < 1000 else f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8)
        last = list(accuracies.values())[-1]
        points = [
            Point(name, "ensemble", cost, *figures)
            for (name, cost), figures in zip(costs.items(), last, strict=True)
        ]
        others = [
            [Point("", "ensemble", cost, *each) for cost, each in zip(places, values, strict=True)]
            for values in accuracies.values()
        ]
        if len(points) <= MOST_NAMES:
            name_points(figure, axes, points, [each for own in others for each in own], others)
        return save_figure(figure, path)


def draw_levels(
    panels: Mapping[str, Sequence[LevelLine]], accuracy: str, bars: str, path: Path
) -> Path:
    """Top-1 against the share of the maskable weights that is removed, one panel per title;
    `accuracy` and `bars` say what values and bars are.

    The axis is the share that stays, logarithmic, so that 0.95 and 0.99 are as far apart as they
    are for a network. A dense network is a horizontal line, an ensemble over the levels a dotted
    one in the colour of its members.
    """
    with DRAWING:
        figure = blank_figure(max(7.0, 4.8 * len(panels)), 4.6)
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        colours = {
            name: f"C{number % 10}"
            for number, name in enumerate(
                dict.fromkeys(line.group for lines in panels.values() for line in lines)
            )
        }
        for axes, (title, lines) in zip(every, panels.items(), strict=True):
            for line in lines:
                _level_line(axes, line, colours[line.group])
            removed = sorted(
                {point.level for line in lines if line.kind == "levels" for point in line.points}
            )
            axes.set_xscale("log")
            axes.invert_xaxis()
            axes.set_xticks([1 - level for level in removed], [f"{level:.3g}" for level in removed])
            axes.minorticks_off()
            axes.set_xlabel("level: share of the maskable weights removed")
            axes.set_title(title, fontsize=9)
            axes.grid(alpha=0.3)
        every[0].set_ylabel(f"{accuracy}, % (bars: {bars})")
        known: dict[str, Any] = {}
        for axes in every:
            known |= {
                str(name): handle
                for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
                if name not in known
            }
        figure.legend(
            known.values(),
            known.keys(),
            loc="outside lower center",
            ncols=min(3, len(known)),
            fontsize=8,
        )
        return save_figure(figure, path)


def draw_curves(tables: Mapping[str, Path], path: Path, warmups: Collection[int] = ()) -> Path:
    """Loss and selection accuracy by epoch, one line per trial; `tables` holds metrics.parquet
    files by the name of the trial's line, `warmups` how many epochs the warm-ups last.
    """
    from matplotlib.ticker import MaxNLocator

    found = {name: load_curve(table) for name, table in tables.items()}
    curves = {name: columns for name, columns in found.items() if columns}
    with DRAWING:
        figure = blank_figure(11.0, 4.2)
        loss, top1 = figure.subplots(1, 2)
        for name, columns in curves.items():
            _line(loss, columns, "train_loss", name)
            _line(top1, columns, "selection_top1", name, scale=100.0)
        loss.set_ylabel("training loss, nats")
        top1.set_ylabel("top-1 on the selection split, %")
        for axes in (loss, top1):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(alpha=0.3)
        drawn = list(loss.lines)
        if not top1.lines:
            top1.text(
                0.5, 0.5, "nothing held out", ha="center", va="center", transform=top1.transAxes
            )
        marks = [
            axes.axvline(epochs + 0.5, color="black", linestyle=":", linewidth=0.9)
            for axes in (loss, top1)
            for epochs in warmups
        ]
        for mark in marks[:1]:
            mark.set_label("end of the warm-up")
        named = [*(drawn if len(curves) <= NAMED_CURVES else ()), *marks[:1]]
        if named:
            figure.legend(handles=named, loc="outside lower center", ncols=3, fontsize=7)
        return save_figure(figure, path)


def draw_confusion(
    counts: npt.NDArray[np.int64], title: str, path: Path, names: Sequence[str] = ()
) -> Path:
    """How often each true class (row) was taken for each class (column), as a share of the true
    class; counts: (K, K) clips. `names` of the K classes stand at the axes where there is room for
    them, the clips in the cells.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(max(5.2, 0.17 * len(counts)), 12.0)
    with DRAWING:
        figure, axes = _canvas(size + 1.8, size + 1.0)
        image = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
        figure.colorbar(image, ax=axes, label="share of the true class")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(f"{title}, {counts.sum()} clips", fontsize=9)
        if names and len(names) <= MOST_CLASSES:
            places, letters = range(len(names)), 7 if len(names) <= MOST_COUNTED else 5
            axes.set_xticks(places, names, rotation=60, ha="right", fontsize=letters)
            axes.get_xaxis().set_tick_params(rotation_mode="anchor")
            axes.set_yticks(places, names, fontsize=letters)
        if len(counts) <= MOST_COUNTED:
            for row, column in zip(*counts.nonzero(), strict=True):
                axes.text(
                    column,
                    row,
                    str(counts[row, column]),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if shares[row, column] > 0.5 else "black",
                )
        return save_figure(figure, path)


def draw_kept(sparsity: Path, path: Path) -> Path:
    """How much of every tensor stays (logarithmic), beside the overall share; `sparsity` is a
    trial's sparsity.json.
    """
    found = read_json(sparsity)
    shares = [100 * tensor["kept"] / math.prod(tensor["shape"]) for tensor in found["tensors"]]
    names = [
        f"{tensor['name']}  {'x'.join(map(str, tensor['shape']))}" for tensor in found["tensors"]
    ]
    blocks = [int(tensor["name"].split(".")[1]) for tensor in found["tensors"]]
    with DRAWING:
        figure, axes = _canvas(7.5, 1.0 + 0.14 * len(names))
        places = np.arange(len(names))
        axes.barh(
            places,
            np.maximum(shares, LEAST_SHARE),
            color=[("tab:blue", "tab:orange")[block % 2] for block in blocks],
        )
        axes.axvline(
            100 * (1 - found["level"]),
            color="black",
            linewidth=1.0,
            label=f"all together: {100 * (1 - found['level']):.3g} %",
        )
        axes.set_xscale("log")
        axes.set_xlim(left=LEAST_SHARE)
        axes.set_yticks(places, names, fontsize=6)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("weights kept, % of the tensor; neighbouring blocks in two colours")
        axes.grid(alpha=0.3, axis="x", which="both")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
        return save_figure(figure, path)


def _apart(costs: Sequence[float]) -> list[float]:
    """Those of the ascending costs that are far enough apart on a logarithmic axis to be named."""
    chosen: list[float] = []
    for cost in costs:
        if not chosen or math.log(cost / chosen[-1]) > 0.12 * math.log(costs[-1] / costs[0]):
            chosen.append(cost)
    return chosen


def _level_line(axes: Axes, line: LevelLine, colour: str) -> None:
    values, errors = (
        [100 * point.top1 for point in line.points],
        [100 * point.error for point in line.points],
    )
    if line.kind == "levels":
        kept = [1 - point.level for point in line.points]
        axes.errorbar(
            kept,
            values,
            yerr=errors,
            fmt="o-",
            color=colour,
            label=line.name,
            markersize=4,
            linewidth=1.4,
            capsize=3,
            elinewidth=0.8,
        )
        return
    style = "--" if line.kind == "flat" else ":"
    axes.axhline(values[0], color=colour, linestyle=style, linewidth=1.2, label=line.name)
    axes.axhspan(
        values[0] - errors[0], values[0] + errors[0], color=colour, alpha=0.08, linewidth=0
    )


def _line(
    axes: Axes, columns: Mapping[str, list[Any]], metric: str, name: str, scale: float = 1.0
) -> None:
    """One curve; epochs without a value leave a gap, and a metric nobody reported is not drawn."""
    values = columns.get(metric, [])
    if any(value is not None for value in values):
        # counted from 1, as in the report
        epochs = [1 + epoch for epoch in columns.get("epoch", range(len(values)))]
        marker = "o" if len(values) == 1 else None  # one point makes no line
        axes.plot(
            epochs,
            [np.nan if value is None else scale * value for value in values],
            label=name,
            linewidth=1.2,
            marker=marker,
        )


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = blank_figure(width, height)
    return figure, figure.subplots()


def save_figure(figure: Figure, path: Path, **options: Any) -> Path:
    """Write a figure in the form that the end of `path` says, whole or not at all: pages that show
    it read it at any time. options: matplotlib's own.
    """
    content = BytesIO()
    figure.savefig(content, format=path.suffix[1:].lower(), **options)
    write_atomic(path, content.getvalue())
    return path
