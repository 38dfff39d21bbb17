"""Content as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.content import Block, Bullets, Heading, Listing, Picture, Table


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """A document of that title."""
    return "\n\n".join([f"# {title}", *map(_written, blocks)]) + "\n"


def _written(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Listing(lines):
            return "\n".join(["```", *lines, "```"])
        case Table():
            return _table(block)
        case Picture(title, path, captioned):
            return f"![{title}]({path})" + (f"\\\n*{title}.*" if captioned else "")
        case _:
            return block


def _table(table: Table) -> str:
    """Numbers stand on the right, the best of a column is bold."""
    columns = table.columns
    best = {column: table.is_best(column) for column in columns}
    lines = [
        columns,
        ["---:" if table.numeric(column) else "---" for column in columns],
        *(
            [_cell(row[column], bold=best[column][number]) for column in columns]
            for number, row in enumerate(table.rows)
        ),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str, *, bold: bool) -> str:
    text = text.replace("|", "\\|").replace("\n", " ")
    return f"**{text}**" if bold else text
