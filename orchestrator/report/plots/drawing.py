"""A figure's values drawn for a paper: as wide as a column, in colours that colour-blind people
tell apart, with fonts inside the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from orchestrator.report.figures import DRAWING, save_figure
from orchestrator.report.plots.charts import COLOURS, ENSEMBLES, GREY, Chart, Mark, Panel, Series
from orchestrator.report.point_names import Point, name_points
from orchestrator.report.violins import KIND_COLOURS, Violin, ViolinKind, violin_panels
from trainables.contract.errors import UserError
from trainables.figures import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Width = Literal["single", "double"]
WIDTHS: dict[Width, float] = {"single": 3.5, "double": 7.16}
"""Of a column and of a page of two columns, inches (IEEE; others differ by millimetres)."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito, without yellow, which is hard to see on white; by number of the colour."""
FOR_GREY = "#555555"

STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "pdf.fonttype": 42,  # TrueType, whole: publishers refuse type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "orchestrate",  # the same figure is the same file
}
DOTS = 300  # per inch of a PNG
MOST_LETTERS: dict[Width, int] = {"single": 80, "double": 150}  # of the names in a panel
LONGEST_LEGEND = 18  # names; more would leave no room for the figure


def draw_chart(chart: Chart, path: Path, width: Width) -> Path:
    """Panels beside each other, in a single column below each other, one legend for all."""
    stacked = width == "single"
    count = len(chart.panels)
    with _figure(path, width, 2.5 * count if stacked else 2.7) as figure:
        grid = (count, 1) if stacked else (1, count)
        every: list[Axes] = list(figure.subplots(*grid, squeeze=False, sharey=chart.same_y).flat)
        letters = 52 if stacked else 112 // count
        for axes, panel in zip(every, chart.panels, strict=True):
            for series in panel.series:
                _draw_series(axes, series)
            _set_axes(axes, panel)
            axes.set_title(fill(panel.title, letters))
            if chart.same_y and not stacked and axes is not every[0]:
                axes.set_ylabel("")
        _legend(figure, every, chart.notes, columns=2 if stacked else 4)
        for axes, panel in zip(every, chart.panels, strict=True):
            _names(figure, axes, panel, MOST_LETTERS[width])
    return path


def draw_confusion_matrix(
    counts: npt.NDArray[np.int64], names: Sequence[str], title: str, path: Path, width: Width
) -> Path:
    """How often each true class (row) was taken for each class (column), as a share of the true
    class; counts: (K, K) clips.
    """
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    letters = float(np.clip(60 * WIDTHS[width] / 1.4 / len(counts), 2.0, 6.5))
    with _figure(path, width, 0.92 * WIDTHS[width]) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, vmin=0.0, vmax=100.0, cmap="Blues")
        figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.75)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(f"{title}, {counts.sum():,} clips")
        places = range(len(names))
        axes.set_xticks(places, names, rotation=60, ha="right", fontsize=letters)
        axes.get_xaxis().set_tick_params(rotation_mode="anchor")
        axes.set_yticks(places, names, fontsize=letters)
        if len(counts) <= 20:
            for row, column in zip(*counts.nonzero(), strict=True):
                axes.text(
                    column,
                    row,
                    f"{shares[row, column]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=letters,
                    color="white" if shares[row, column] > 50 else "black",
                )
    return path


def draw_violin_plot(found: Sequence[Violin], of: str, path: Path, width: Width) -> Path:
    """Of each test clip the highest probability of a class: all clips above, those below the
    threshold underneath. of: what the clips are of.
    """
    from matplotlib.patches import Patch

    with _figure(path, width, 3.6) as figure:
        upper, lower = figure.subplots(2, 1)
        counts = [f"{len(violin.below):,}" for violin in found]
        violin_panels(upper, lower, found, PALETTE_OF_KINDS, counts, letters=6)
        threshold = found[0].threshold
        upper.set_ylabel("highest probability")
        lower.set_ylabel(f"the same, below {threshold:g}")
        kinds = [kind for kind in KIND_COLOURS if any(violin.kind == kind for violin in found)]
        figure.legend(
            handles=[
                Patch(color=PALETTE_OF_KINDS[kind], alpha=0.45, label=WORDS_OF_KINDS[kind])
                for kind in kinds
            ],
            loc="outside upper center",
            ncols=len(kinds),
            frameon=False,
            title=f"numbers: clips below {threshold:g} of {len(found[0].highest):,} test clips{of}",
        )
    return path


PALETTE_OF_KINDS: dict[ViolinKind, str] = {
    "single": PALETTE[0],
    "dense": FOR_GREY,
    "ensemble": PALETTE[ENSEMBLES],
}
WORDS_OF_KINDS: dict[ViolinKind, str] = {
    "single": "single network",
    "dense": "dense network",
    "ensemble": "ensemble",
}


@contextmanager
def _figure(path: Path, width: Width, height: float) -> Iterator[Figure]:
    """An empty figure that is saved at the end, in the form that the name of the file asks for;
    UserError where it cannot be.
    """
    from matplotlib import rc_context

    date = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix.lower())
    without_date: dict[str, Any] = {"metadata": {date: None}} if date else {}
    with DRAWING, rc_context(STYLE):
        figure = blank_figure(WIDTHS[width], height)
        yield figure
        try:
            save_figure(figure, path, dpi=DOTS, **without_date)
        except OSError as error:
            raise UserError(f"{path}: the figure cannot be written: {error.strerror}") from error


def _draw_series(axes: Axes, series: Series) -> None:
    colour = FOR_GREY if series.colour == GREY else PALETTE[series.colour % COLOURS]
    xs, ys = [mark.x for mark in series.marks], [mark.y for mark in series.marks]
    errors = [mark.error for mark in series.marks]
    style = "--" if series.dashed else "-"
    if series.look == "flat":
        axes.axhline(ys[0], color=colour, linestyle=style, label=series.name)
        if errors[0]:
            axes.axhspan(
                ys[0] - errors[0], ys[0] + errors[0], color=colour, alpha=0.08, linewidth=0
            )
        return
    if series.look == "band":
        axes.plot(xs, ys, style, color=colour, label=series.name)
        low = [y - error for y, error in zip(ys, errors, strict=True)]
        high = [y + error for y, error in zip(ys, errors, strict=True)]
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
        return
    axes.errorbar(
        xs,
        ys,
        yerr=errors if any(errors) else None,
        fmt=series.marker,
        linestyle="none" if series.look == "points" else style,
        drawstyle="steps-post" if series.look == "stairs" else "default",
        color=colour,
        markerfacecolor="white" if series.dashed else colour,
        markersize=7 if series.marker == "*" else 4,
        capsize=1.8,
        elinewidth=0.7,
        label=series.name,
    )


def _set_axes(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(alpha=0.3, linewidth=0.4)
    axes.margins(x=0.12, y=0.12)
    if panel.axis == "log":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    elif panel.axis == "kept":
        levels = sorted(
            {mark.x for each in panel.series if each.look != "flat" for mark in each.marks}
        )
        # shares that stay, so that 0.95 and 0.99 are as far apart as they are for a network
        axes.set_xscale("function", functions=(_levels_to_places, _places_to_levels))
        axes.set_xticks(levels, [f"{level:.3g}" if level else "dense" for level in levels])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _levels_to_places(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return -np.log10(np.maximum(1 - np.asarray(levels), 1e-6))


def _places_to_levels(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 - 10.0 ** -np.asarray(places)


def _legend(figure: Figure, every: Sequence[Axes], notes: Sequence[str], columns: int) -> None:
    """One legend below all panels, each name once, under what the figure does not say itself."""
    known: dict[str, Any] = {}
    for axes in every:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(name, handle)
    if len(known) > LONGEST_LEGEND:
        known = {}
    if known or notes:
        figure.legend(
            known.values(),
            known.keys(),
            loc="outside lower center",
            ncols=max(1, min(columns, len(known))),
            frameon=False,
            title="\n".join(fill(note, 36 * columns) for note in notes) or None,
        )


def _names(figure: Figure, axes: Axes, panel: Panel, most: int) -> None:
    """Names beside the marks that have one, where there is room for all."""
    marks = [mark for series in panel.series for mark in series.marks]
    named = [mark for mark in marks if mark.name]
    if named and sum(len(mark.name) for mark in named) <= most:
        others = [mark for mark in marks if not mark.name]
        stairs = [_points(series.marks) for series in panel.series if series.look == "stairs"]
        name_points(figure, axes, _points(named), _points(others), stairs)


def _points(marks: Sequence[Mark]) -> list[Point]:
    return [Point(mark.name, "member", mark.x, mark.y / 100, mark.error / 100) for mark in marks]
