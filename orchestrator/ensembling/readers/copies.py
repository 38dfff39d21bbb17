"""Test sets that a file holds several times, one after the other, as loaders that repeat their
data write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.readers.tables import LabelTable, ScoreTable

MOST_COPIES = 10  # of a test set in one file

Table = ScoreTable | LabelTable


def folded(
    files: Sequence[ScoreTable], labels: LabelTable
) -> tuple[list[ScoreTable], LabelTable, tuple[str, ...]]:
    """Tables without names, each cut to its first block where its blocks are equal, and a sentence
    about it.

    A file of more rows than the shortest is cut to as many if it repeats them; where all have the
    same number, they are cut if every one repeats as often.
    """
    tables: list[Table] = [*files, labels]
    shortest = min(len(each) for each in tables)
    if all(len(each) == shortest for each in tables):
        shortest = _common_block(tables, shortest)
    cut = [each for each in tables if len(each) != shortest and _repeats(each, shortest)]
    notes = tuple(
        f"{', '.join(each.path.name for each in same)}: rows repeat {copies} times: only the"
        f" first {shortest} are used, so that the standard error is of distinct clips"
        for copies, same in _by_copies(cut, shortest).items()
    )
    kept = [_first_rows(each, shortest) if each in cut else each for each in files]
    return kept, _labels(labels, shortest) if labels in cut else labels, notes


def _by_copies(tables: Sequence[Table], rows: int) -> dict[int, list[Table]]:
    found: dict[int, list[Table]] = {}
    for each in tables:
        found.setdefault(len(each) // rows, []).append(each)
    return found


def _common_block(tables: Sequence[Table], rows: int) -> int:
    """Rows of the block that all tables repeat, as often as they do; all rows where they do not."""
    for copies in range(MOST_COPIES, 1, -1):
        if rows % copies == 0 and all(_repeats(each, rows // copies) for each in tables):
            return rows // copies
    return rows


def _repeats(table: Table, rows: int) -> bool:
    """Whether a table is blocks of `rows` equal rows, more than one and not too many."""
    values: npt.NDArray[Any] = table.values if isinstance(table, ScoreTable) else table.labels
    copies, rest = divmod(len(values), rows)
    if rest or rows < 2 or not 1 < copies <= MOST_COPIES or table.ids is not None:
        return False
    blocks = values.reshape(copies, -1)
    return np.allclose(blocks[1:], blocks[:1], rtol=1e-4, atol=1e-4)


def _first_rows(table: ScoreTable, rows: int) -> ScoreTable:
    truth = None if table.truth is None else _labels(table.truth, rows)
    return replace(table, values=table.values[:rows], truth=truth)


def _labels(table: LabelTable, rows: int) -> LabelTable:
    return replace(table, labels=table.labels[:rows])
