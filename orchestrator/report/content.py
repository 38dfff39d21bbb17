"""What a report says, as values: headings, paragraphs, lists, tables and pictures, made once and
written in several forms. Knows neither Markdown nor HTML files.

Text is a line of words in which `code` and **bold** are marked as in Markdown, and nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part (level 2), or a part of a part (3)."""

    text: str
    level: Literal[2, 3] = 2


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """Lines as they would be typed, or stand in a file."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equal columns, one at least; cells are text."""

    rows: Sequence[Mapping[str, str]]
    # columns that are shown first where there is a choice; empty: all are
    few: Sequence[str] = ()
    # columns whose best figure is marked: the highest or the lowest one
    best: Mapping[str, Literal["highest", "lowest"]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0])

    def numeric(self, column: str) -> bool:
        """Whether its cells are figures, which stand on the right."""
        return all(is_figure(row[column]) for row in self.rows)

    def is_best(self, column: str) -> list[bool]:
        """Of each row, whether its figure is the best of the column; none is where there is one
        row, and several may be.
        """
        figures = [figure_of(row[column]) for row in self.rows]
        known = [each for each in figures if each is not None]
        if column not in self.best or len(self.rows) < 2 or not known:
            return [False] * len(self.rows)
        top = max(known) if self.best[column] == "highest" else min(known)
        return [each == top for each in figures]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that lies in a file."""

    title: str
    path: str  # relative to the report
    captioned: bool = True


FIGURE = r"\**[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?[x%]?\**|n/a|[+\-±x%]"
"""A word of a cell of figures."""

Block = str | Heading | Bullets | Listing | Table | Picture
"""A str is a paragraph."""


def is_figure(text: str) -> bool:
    """Numbers, with their errors and units, an interval, or nothing."""
    return all(re.fullmatch(FIGURE, word) for word in text.replace(" to ", " ").split())


def figure_of(text: str) -> float | None:
    """The number that a cell begins with, thousands separated or not; None where there is none."""
    found = re.match(r"\s*[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?", text)
    return float(found[0].replace(",", "")) if found else None
