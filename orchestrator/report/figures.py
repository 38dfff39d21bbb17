"""Figures of a sweep, drawn from numbers and files into PNG; one at a time, from any thread.

Knows nothing of reports or MLflow.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from trainables.contract.artifacts import load_curve
from trainables.contract.disk import read_json
from trainables.figures import DPI, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWING = threading.Lock()  # matplotlib's font and text caches are not made for several threads
NAME_SIZE = 7  # points
MOST_NAMES = 16  # with more points than this only ensembles and dense members are named
LEAST_SHARE = 0.1  # %: where the axis of kept weights begins
NAMED_CURVES = 12  # more than this many trials get no legend: it would hide the curves


@dataclass(frozen=True, slots=True)
class Point:
    """One network or ensemble in the plane of size and accuracy."""

    name: str
    kind: str  # "member" (sparse), "dense" (single, without a mask) or "ensemble"
    params: int
    top1: float
    error: float  # standard error of top1


@dataclass(frozen=True, slots=True)
class LevelPoint:
    """The accuracy of a network without a share of its maskable weights."""

    level: float  # the share
    top1: float
    error: float


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
                    [point.params for point in own],
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
        axes.set_xlabel("non-zero parameters, training form")
        axes.set_ylabel(f"top-1 on {split}, % (bars: one standard error)")
        axes.margins(x=0.25, y=0.12)
        axes.grid(alpha=0.3, which="both")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8)
        crowded = len(points) > MOST_NAMES
        _name_points(
            figure, axes, [point for point in points if not crowded or point.kind != "member"]
        )
        return save_figure(figure, path)


def draw_front(
    costs: Sequence[float],
    accuracies: Mapping[str, Sequence[tuple[float, float]]],
    unit: str,
    path: Path,
) -> Path:
    """Top-1 of ensembles against what they cost (logarithmic), a line for each split with one
    standard error; accuracies: split -> (top-1, its standard error) for each cost.
    """
    with DRAWING:
        figure, axes = _canvas(7.0, 4.5)
        for split, values in accuracies.items():
            axes.errorbar(
                costs,
                [100 * top1 for top1, _ in values],
                yerr=[100 * error for _, error in values],
                fmt="o--" if split == "selection" else "o-",
                color="tab:grey" if split == "selection" else "tab:red",
                label=f"{split} split",
                markersize=5,
                capsize=2,
                elinewidth=0.8,
            )
        axes.set_xscale("log")
        axes.set_xlabel(unit)
        axes.set_ylabel("top-1, % (bars: one standard error)")
        axes.margins(x=0.1, y=0.12)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
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


def draw_curves(tables: Mapping[str, Path], path: Path) -> Path:
    """Loss and selection accuracy by epoch, one line per trial; `tables` holds metrics.parquet
    files by trial.
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
        if not top1.lines:
            top1.text(
                0.5, 0.5, "nothing held out", ha="center", va="center", transform=top1.transAxes
            )
        if loss.lines and len(curves) <= NAMED_CURVES:
            figure.legend(handles=loss.lines, loc="outside lower center", ncols=2, fontsize=7)
        return save_figure(figure, path)


def draw_confusion(counts: npt.NDArray[np.int64], split: str, path: Path) -> Path:
    """How often each true class (row) was taken for each class (column), as a share of the true
    class; counts: (K, K) clips.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with DRAWING:
        figure, axes = _canvas(6.0, 5.2)
        image = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
        figure.colorbar(image, ax=axes, label="share of the true class")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(f"{split}, {counts.sum()} clips", fontsize=9)
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


def _name_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Names to the right of the points, pushed upwards where they would cover one another."""
    figure.draw_without_rendering()  # from here on the place of the axes is known
    # of a line and of a character, pixels
    height, width = 1.3 * NAME_SIZE * DPI / 72, 0.62 * NAME_SIZE * DPI / 72
    taken: list[tuple[float, float, float]] = []  # left, right, bottom
    for point in sorted(points, key=lambda each: each.top1):
        x, y = axes.transData.transform((point.params, 100 * point.top1))
        left, right, bottom = x + 7, x + 7 + width * len(point.name), y
        while any(
            left < end and right > start and abs(bottom - other) < height
            for start, end, other in taken
        ):
            bottom += 0.25 * height
        taken.append((left, right, bottom))
        offset = (7 * 72 / DPI, (bottom - y) * 72 / DPI)
        axes.annotate(
            point.name,
            (point.params, 100 * point.top1),
            xytext=offset,
            textcoords="offset points",
            fontsize=NAME_SIZE,
        )


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


def save_figure(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
