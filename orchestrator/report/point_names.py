"""Names of points in a figure, where they cover nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from trainables.figures import DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_SIZE = 7  # points

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


@dataclass(frozen=True, slots=True)
class Point:
    """One network or ensemble in the plane of size and accuracy."""

    name: str
    kind: str  # "member" (sparse), "dense" (single, without a mask) or "ensemble"
    cost: float  # where it stands on the axis of sizes: non-zero parameters or another cost
    top1: float
    error: float  # standard error of top1


def name_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[Point],
    unnamed: Sequence[Point] = (),
    stairs: Sequence[Sequence[Point]] = (),
) -> None:
    """Names beside the points, moved up or down to where they cover neither one another nor a mark
    nor its bar, nor the stairs that join points.
    """
    figure.draw_without_rendering()  # from here on the place of the axes is known
    # of a line and of a character, pixels
    height, width = 1.3 * NAME_SIZE * DPI / 72, 0.62 * NAME_SIZE * DPI / 72
    taken = [_mark(axes, point) for point in (*points, *unnamed)]
    taken += [
        box
        for stair in stairs
        for first, second in pairwise(stair)
        for box in _step(axes, first, second)
    ]
    frame = axes.get_window_extent()
    for point in sorted(points, key=lambda each: each.top1):
        x, y = axes.transData.transform((point.cost, 100 * point.top1))
        long = width * len(point.name)
        # above or below the mark where there is room on neither side
        centred = min(max(x - long / 2, frame.x0 + 2), frame.x1 - long - 2)
        shifts = sorted((0.25 * height * step for step in range(-60, 61)), key=abs)
        places = [
            (left, y + shift - height / 2, left + long, y + shift + height / 2)
            for shift in shifts
            for left in (x + 12, x - 12 - long, centred)
        ]
        inside = [
            each
            for each in places
            if frame.x0 < each[0]
            and each[2] < frame.x1
            and frame.y0 < each[1]
            and each[3] < frame.y1
        ]
        box = next(
            (each for each in inside if not any(_overlap(each, other) for other in taken)),
            places[0],
        )
        taken.append(box)
        axes.annotate(
            point.name,
            (point.cost, 100 * point.top1),
            xytext=((box[0] - x) * 72 / DPI, ((box[1] + box[3]) / 2 - y) * 72 / DPI),
            textcoords="offset points",
            fontsize=NAME_SIZE,
            va="center",
            arrowprops=(
                {"arrowstyle": "-", "color": "grey", "linewidth": 0.5}
                if abs((box[1] + box[3]) / 2 - y) > height
                else None
            ),
        )


def _mark(axes: Axes, point: Point) -> Box:
    """What the mark of a point and its bar cover."""
    x, low = axes.transData.transform((point.cost, 100 * (point.top1 - point.error)))
    high = axes.transData.transform((point.cost, 100 * (point.top1 + point.error)))[1]
    middle = (low + high) / 2
    return x - 10, min(low, middle - 9), x + 10, max(high, middle + 9)


def _step(axes: Axes, first: Point, second: Point) -> tuple[Box, Box]:
    """The tread and the riser that join two points of a stair."""
    (left, start), (right, end) = axes.transData.transform(
        [(each.cost, 100 * each.top1) for each in (first, second)]
    )
    low, high = min(start, end), max(start, end)
    return (left, start - 4, right, start + 4), (right - 8, low, right + 8, high)


def _overlap(first: Box, second: Box) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )
