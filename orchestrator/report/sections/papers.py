"""The papers' tables in the report: published figures, ours beside them, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.evaluate import paired
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.report.content import Block, Bullets, Heading, Table
from orchestrator.report.papers.matching import ASSEMBLED, entries_of
from orchestrator.report.papers.published import SOURCES, TEST_CLIPS, Figure, load_published
from orchestrator.report.papers.tables import Gain, Line, PaperTable, paper_tables
from orchestrator.report.tables import Cells
from trainables.contract.artifacts import TrialResult
from trainables.contract.config import TrialConfig

WORDS = {
    ASSEMBLED: "four levels together",
    "latency_ms": "ms",
    "gmacs": "GMACs",
    "params_m": "parameters, M",
    "kept": "maskable weights kept",
}


def tables_of_papers(
    evaluation: FinalEvaluation | None,
    configs: Mapping[str, TrialConfig],
    results: Mapping[str, TrialResult],
    predictions: Mapping[Division, Predictions],
) -> list[PaperTable]:
    """The tables of which the sweep trained something.

    configs, results: of finished trials. predictions: of each test clip, for the errors of
    differences between our rows.
    """
    if evaluation is None or not evaluation.rows:
        return []
    ours = {paper: entries_of(paper, evaluation, configs, results) for paper in SOURCES}
    return paper_tables(load_published(), ours, _gain(evaluation, predictions))


def _gain(evaluation: FinalEvaluation, predictions: Mapping[Division, Predictions]) -> Gain:
    divisions = {row.name: row.division for row in evaluation.rows}

    def gain(first: str, second: str) -> tuple[float, float] | None:
        found = predictions.get(divisions[first])
        if found is None or not {first, second} <= set(found.firsts):
            return None
        hits = [np.asarray(found.firsts[name] == found.labels) for name in (first, second)]
        difference = paired(*hits)
        return 100 * difference.difference, 100 * difference.error

    return gain


def paper_cells(tables: Sequence[PaperTable]) -> list[Cells]:
    """Every figure of every line, published ones that have none of ours beside them included."""
    return [
        {
            "paper": table.spec.paper,
            "table": table.spec.number,
            "line": line.label,
            "whose": line.whose,
            "data": line.data or (name if name in line.rows else ""),
            "column": name,
            "figure": "top1" if name in line.rows else name,
            "value": figure.value,
            "error": figure.error,
            "gain": figure.gain,
            "gain_error": figure.gain_error,
            "row": line.rows.get(name, ""),
            "differs": line.differs,
            "note": figure.note,
        }
        for table in tables
        for line in table.lines
        for name, figure in line.cells.items()
    ]


def papers(tables: Sequence[PaperTable]) -> list[Block]:
    """The section; nothing where nothing of a table was trained."""
    if not tables:
        return []
    parts: list[Block] = [Heading("The papers' tables"), _legend(tables)]
    for paper in dict.fromkeys(table.spec.paper for table in tables):
        parts.append(f"{paper}: {SOURCES[paper]}.")
        for table in tables:
            if table.spec.paper == paper:
                number = table.spec.number
                place = f"Table {number}" if number.isdecimal() else number
                parts.append(Heading(f"{paper}, {place}: {table.spec.title}", 3))
                parts.append(Table(_markdown_lines(table)))
    return parts


def _markdown_lines(table: PaperTable) -> list[dict[str, str]]:
    lines = table.foremost()
    columns = [
        name
        for name in (*table.columns, *table.spec.extra)
        if any(name in line.cells for line in lines)
    ]
    differ = any(line.differs for line in lines)
    return [
        {
            "network": line.label,
            **({"test clips of": _place(line.data)} if table.spec.by != "data" else {}),
            "whose": _whose(line, lines),
            **{_title(table, name): _text(line, name, table.columns) for name in columns},
            **({"differs from the published one in": line.differs} if differ else {}),
        }
        for line in lines
    ]


def _place(data: str) -> str:
    return data if data in _KNOWN else f"{data} (another data set)"


_KNOWN = {str(data) for data in TEST_CLIPS}


def _title(table: PaperTable, name: str) -> str:
    if table.spec.by == "data" and name in table.columns and name not in table.spec.columns:
        return f"{name} (another data set)"
    return WORDS.get(name, name)


def _whose(line: Line, lines: Sequence[Line]) -> str:
    """With the names of its rows where another line of ours says the same of itself."""

    def said(other: Line) -> tuple[str, ...]:
        return (other.label, other.data, other.whose, other.differs)

    if line.whose == "published" or sum(said(other) == said(line) for other in lines) == 1:
        return line.whose
    return f"{line.whose} ({', '.join(f'`{name}`' for name in dict.fromkeys(line.rows.values()))})"


def _text(line: Line, name: str, columns: Sequence[str]) -> str:
    found = line.cells.get(name)
    if found is None:
        return ""
    if name not in columns:
        return f"{found.value:.4g}"
    if line.whose == "ours - published":
        return f"{found.value:+.2f}{_error(found.error)}"
    digits = 1 if line.whose == "published" else 2
    mark = "*" if found.note else ""
    text = f"{found.value:.{digits}f}{mark}{_error(found.error)}"
    return text if found.gain is None else f"{text} ({_gained(found, digits)})"


def _gained(found: Figure, digits: int) -> str:
    return f"{found.gain:+.{digits}f}{_error(found.gain_error)}"


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.2f}"


def _legend(tables: Sequence[PaperTable]) -> Bullets:
    notes = {
        figure.note
        for table in tables
        for line in table.foremost()
        for figure in line.cells.values()
        if figure.note
    }
    lines = [
        "Top-1 in %. ± is one standard error of the test clips, in parentheses the difference to"
        " the dense network of the line, recomputed for the published figures, too. The papers"
        " give no errors, so that of `ours - published` is ours alone.",
        "The papers train on all training clips and choose the epoch and weights on the test clips."
        " Ours are trained without the selection clips and chosen on them, unless the results above"
        " say `protocol: paper`.",
        "What `differs` does not name is as published, as far as the papers say: settings of the"
        " network, masks, frames and epochs. Nothing is compared across data sets: published lines"
        " above one of another data set are there for their shape.",
        "All figures, those of networks that this sweep did not train included, are in"
        " `tables/papers.csv`.",
    ]
    if any("latency_ms" in table.spec.extra for table in tables):
        lines.append(
            "`ms`: 64 clips, float32; published on an RTX 3090 GPU, ours on the device named under"
            " the results. `GMACs` and `parameters` as the HPI-GCN paper counts them: of the"
            " inference form, without adjacency matrices."
        )
    lines += [f"\\* {note}." for note in sorted(notes)]
    return Bullets(lines)
