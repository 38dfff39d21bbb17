"""Tables on standard output, one look for every command. Knows no command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

WIDTH = 200  # of a file or a pipe, which has no margin to fold at, without COLUMNS
LEAST_NAME = 16  # characters of a line of a name


def console(*, least: int = 0) -> Console:
    """Standard output, printed as it is: no markup, no highlighting.

    Where that is narrower than `least` lines run on: no column is lost. A file or a pipe is as wide
    as COLUMNS says.
    """
    out = Console(markup=False, highlight=False)
    told = out.is_terminal or os.environ.get("COLUMNS", "").isdigit()  # as Rich reads it
    out.width = max(out.width, least) if told else WIDTH
    return out


def table(first: str, *numbers: str, text: str | None = None, title: str | None = None) -> Table:
    """A column of names, columns of numbers that are never folded, and a last column of text where
    one is named.
    """
    made = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    made.add_column(first, overflow="fold", min_width=LEAST_NAME)
    for column in numbers:
        made.add_column(column, justify="right", no_wrap=True)
    if text is not None:
        made.add_column(text, overflow="fold")
    return made


def name_width(out: Console, names: Sequence[str]) -> int:
    """Characters that a table keeps for its column of names; longer ones take several lines."""
    return max(min(max(map(len, names)), out.width // 3), LEAST_NAME)


@dataclass(frozen=True, slots=True)
class Column:
    """Numbers of a table as text, one for each of its rows."""

    name: str
    cells: Sequence[str]
    rank: int  # the higher, the earlier it is left out of a narrow table


def print_fitted(
    out: Console,
    named: tuple[str, Sequence[str]],
    columns: Sequence[Column],
    title: str,
    elsewhere: str,
) -> None:
    """Print a table as wide as the console has room for: the column of names stays, figures stay
    whole, and columns are left out by their rank, which a line says.

    named: the name of the first column, and the names in it. elsewhere: what has every figure.
    """
    first, names = named
    reserved = name_width(out, (first, *names))
    widths = {each.name: max(map(cell_len, (each.name, *each.cells))) for each in columns}
    kept = list(columns)
    while len(kept) > 1 and reserved + sum(widths[each.name] + 2 for each in kept) + 2 > out.width:
        kept.remove(max(kept, key=lambda column: column.rank))
    made = table(first, *(column.name for column in kept), title=title)
    for row, name in enumerate(names):
        made.add_row(name, *(column.cells[row] for column in kept))
    out.print(made)
    left_out = [column.name for column in columns if column not in kept]
    if left_out:
        text = f"left out at {out.width} columns: {', '.join(left_out)}; {elsewhere}"
        out.print(text, soft_wrap=True)


def plain(value: Any) -> str:
    """A setting as a table shows it: lists as `3/3/3`."""
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
