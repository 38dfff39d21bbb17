"""Tables on standard output, one look for every command. Knows no command."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 200  # of a file or a pipe, which has no margin to fold at


def console(*, least: int = 0) -> Console:
    """Standard output, printed as it is: no markup, no highlighting.

    On a terminal narrower than `least` lines run on: no column is lost.
    """
    out = Console(markup=False, highlight=False)
    out.width = max(out.width, least) if out.is_terminal else WIDTH
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
    made.add_column(first, overflow="fold", min_width=16)
    for column in numbers:
        made.add_column(column, justify="right", no_wrap=True)
    if text is not None:
        made.add_column(text, overflow="fold")
    return made


def plain(value: Any) -> str:
    """A setting as a table shows it: lists as `3/3/3`."""
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
