"""A figure as values: panels of series of marks. Knows neither sweeps nor how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

COLOURS = 6
"""Numbers of colours, from 0; more series than these begin again."""
GREY = -1
ENSEMBLES = 1
NETWORKS = (0, 2, 3, 4, 5)
"""The colours that ensembles do not have."""
DENSE = "s"
"""Mark of dense networks."""


def marker_of(number: int) -> str:
    """Mark of the series of this number, none of dense networks."""
    return "oD^vP<>X"[number % 8]


Look = Literal["points", "line", "stairs", "flat", "band"]
"""flat: a horizontal line at the first mark; band: a line whose errors are a band around it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a figure."""

    x: float
    y: float
    error: float = 0.0  # of y, one standard error; 0: none is known
    name: str = ""  # stands beside it


@dataclass(frozen=True, slots=True)
class Series:
    """Marks that look alike."""

    name: str  # in the legend
    marks: Sequence[Mark]
    look: Look
    colour: int  # its number, or GREY
    marker: str = "o"  # matplotlib's letter
    dashed: bool = False  # the line between its marks is dashed, and the marks are open


@dataclass(frozen=True, slots=True)
class Panel:
    """Series on one pair of axes."""

    title: str
    x: str  # label of the axis
    y: str
    series: Sequence[Series]
    # kept: x is the share of weights that was removed, drawn by what stays, logarithmically
    axis: Literal["linear", "log", "kept"] = "linear"


@dataclass(frozen=True, slots=True)
class Chart:
    """A whole figure."""

    panels: Sequence[Panel]
    notes: Sequence[str] = ()  # what its axes do not say: what bars are, where it was timed
    same_y: bool = False  # panels of one data set have one axis of accuracies
