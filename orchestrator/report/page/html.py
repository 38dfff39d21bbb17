"""Content as HTML. Everything from outside is escaped here, once."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from orchestrator.report.content import Block, Bullets, Heading, Listing, Picture, Table

SHOWN_ROWS = 25
"""Of a long table at first; the rest come on demand."""
SHORT = 32
"""Characters of cells that stand on one line."""
WRITTEN_ROWS = 100
"""A longer table has its other rows as data, of which the page makes elements when asked."""


def escaped(text: str) -> str:
    return html.escape(text, quote=True)


def inline(text: str) -> str:
    """`code` and **bold** of a line; everything else is text."""

    def code(found: re.Match[str]) -> str:
        return f"<code>{found[1].replace('*', '&#42;')}</code>"

    marked = re.sub(r"`([^`]*)`", code, escaped(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", marked)


def data_element(name: str, value: Any) -> str:
    """A value for the page's script, which no text in it can end."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f'<script type="application/json" id="data-{escaped(name)}">{text}</script>'


def to_html(blocks: Sequence[Block]) -> str:
    """Elements one after the other; pictures in files are left out: a page draws its own."""
    return "\n".join(_written(block) for block in blocks if not isinstance(block, Picture))


def _written(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{inline(text)}</h{level}>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{inline(item)}</li>' for item in items)}</ul>"
        case Listing(lines):
            text = escaped("\n".join(lines))
            return f'<div class="listing"><pre>{text}</pre></div>'
        case Table():
            return table(block)
        case str():
            return f"<p>{inline(block)}</p>"
        case Picture():
            return ""


def table(found: Table) -> str:
    """A table that can be sorted; long ones can be filtered, wide ones widened."""
    columns = found.columns
    few = [column for column in columns if column in found.few] or columns
    best = {column: found.is_best(column) for column in columns}
    cells = [
        [_cell(row[column], best=best[column][number]) for column in columns]
        for number, row in enumerate(found.rows)
    ]
    classes = [_class(found, column, few) for column in columns]
    head = "".join(
        f'<th scope="col" class="{classes[i]}"><button type="button">{inline(column)}</button></th>'
        for i, column in enumerate(columns)
    )
    written = cells if len(cells) <= WRITTEN_ROWS else cells[:SHOWN_ROWS]
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{classes[i]}">{cell}</td>' for i, cell in enumerate(row))
        + "</tr>"
        for row in written
    )
    rest = "" if written is cells else _rows(cells)
    wide = ' data-wide="1"' if len(few) < len(columns) else ""
    return (
        f'<div class="table"{wide} data-shown="{SHOWN_ROWS}"><div class="scroll"><table><thead>'
        f"<tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{rest}</div>"
    )


def _class(found: Table, column: str, few: Sequence[str]) -> str:
    names = {
        "number": found.numeric(column),
        "short": all(len(row[column]) <= SHORT for row in found.rows),
        "more": column not in few,
    }
    return " ".join(name for name, holds in names.items() if holds)


def _rows(cells: Sequence[Sequence[str]]) -> str:
    text = json.dumps(cells, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" class="rows">{text}</script>'


def _cell(text: str, *, best: bool) -> str:
    found = inline(text)
    return f'<b class="best">{found}</b>' if best else found
