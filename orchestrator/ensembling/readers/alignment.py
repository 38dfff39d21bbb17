"""Rows of several files in one order: by the names of the samples, or by position where no file
names them or the person asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.readers.copies import folded
from orchestrator.ensembling.readers.own_labels import check_own_labels
from orchestrator.ensembling.readers.tables import FloatTable, Ids, LabelTable, ScoreTable
from trainables.contract.errors import UserError
from trainables.contract.names import shown

IntArray = npt.NDArray[np.int64]
Table = ScoreTable | LabelTable


@dataclass(frozen=True, eq=False, slots=True)
class Aligned:
    """Scores and labels whose rows belong together."""

    values: list[FloatTable]  # (N, K) of each file, as it has them
    logits: list[FloatTable]  # the same as logits
    labels: IntArray  # (N,), as the file has them
    ids: Ids | None  # (N,); None where no file names its samples
    how: str  # "by id" or "by position"
    notes: tuple[str, ...]


def align(files: Sequence[ScoreTable], labels: LabelTable, *, by_position: bool) -> Aligned:
    """The rows of all files in one order; UserError where that order is not known.

    by_position: the person says that rows without names stand in the order of those with names.
    """
    _check_classes(files)
    tables: list[Table] = [*files, labels]
    named = [each for each in tables if each.ids is not None]
    if len(named) == len(tables):
        if by_position:
            raise UserError("--by-position: goes with files without names, but every file has them")
        return _by_id(files, labels)
    if not named:
        return _by_position(files, labels, None, ())
    if all(_are_row_numbers(each) for each in named):
        note = "names test_0, test_1, ... are taken for the numbers of the rows"
        ordered = [_in_row_order(each) for each in files]
        return _by_position(ordered, _labels_in_row_order(labels), None, (note,))
    if not by_position:
        nameless = ", ".join(each.path.name for each in tables if each.ids is None)
        raise UserError(
            f"either all files or none must name their samples, got none in {nameless};"
            " --by-position takes their rows in the order of the files that do"
        )
    other = next((each for each in named if each.ids != named[0].ids), None)
    if other is not None:
        raise UserError(
            f"--by-position: files that name their samples must have them in one order, got"
            f" {named[0].path.name} and {other.path.name}"
        )
    note = f"rows without names are taken in the order of {named[0].path.name}, as asked"
    return _by_position(files, labels, named[0].ids, (note,))


def _check_classes(files: Sequence[ScoreTable]) -> None:
    """UserError where score files are of different numbers of classes."""
    counts = {each.path.name: each.values.shape[1] for each in files}
    for each in files:
        if each.values.shape[1] != files[0].values.shape[1]:
            raise UserError(
                f"{each.path}: must have a score for each of the classes of {files[0].path.name},"
                f" got {counts}; give files of one data set"
            )


def _by_position(
    files: Sequence[ScoreTable], labels: LabelTable, ids: Ids | None, notes: tuple[str, ...]
) -> Aligned:
    files, labels, copies = folded(files, labels)
    counts = {each.path.name: len(each) for each in files} | {labels.path.name: len(labels)}
    if len(set(counts.values())) > 1:
        parts = ", ".join(f"{shown(name)} {count}" for name, count in labels.parts.items())
        raise UserError(
            f"files without ids must have the same number of rows, got {counts}; "
            + (
                f"{labels.path.name} has the parts {parts}: --split"
                if parts
                else "give files of one split, or files that name their clips"
            )
        )
    for each in files:
        check_own_labels(each, slice(None), labels, labels.labels)
    return Aligned(
        [each.values for each in files],
        [each.logits for each in files],
        labels.labels,
        ids,
        "by position",
        (*notes, *copies),
    )


def _are_row_numbers(table: Table) -> bool:
    """Whether the names are test_0 to test_N-1, as CTR-GCN numbers the rows of its test set."""
    return set(table.ids or ()) == {f"test_{row}" for row in range(len(table))}


def _in_row_order(table: ScoreTable) -> ScoreTable:
    if table.ids is None:
        return table
    order = _positions(table.ids, [f"test_{row}" for row in range(len(table))])
    truth = None if table.truth is None else _labels_at(table.truth, order)
    return replace(table, values=table.values[order], ids=None, truth=truth)


def _labels_in_row_order(table: LabelTable) -> LabelTable:
    if table.ids is None:
        return table
    return _labels_at(table, _positions(table.ids, [f"test_{row}" for row in range(len(table))]))


def _labels_at(table: LabelTable, order: IntArray) -> LabelTable:
    return replace(table, labels=table.labels[order], ids=None)


def _by_id(files: Sequence[ScoreTable], labels: LabelTable) -> Aligned:
    order = sorted(files[0].ids or ())
    for each in files[1:]:
        missing = sorted(set(order) - set(each.ids or ()))
        extra = sorted(set(each.ids or ()) - set(order))
        if missing or extra:
            raise UserError(
                f"{each.path}: must hold the samples of {files[0].path.name}, lacks {len(missing)}"
                f" {shown(missing[:3])}, adds {len(extra)} {shown(extra[:3])}; give files of one"
                " split"
            )
    # labels of further samples, such as a whole data set's, do no harm
    unlabelled = sorted(set(order) - set(labels.ids or ()))
    if unlabelled:
        raise UserError(
            f"{labels.path}: must hold a label of every scored sample, lacks {len(unlabelled)}"
            f" {shown(unlabelled[:3])}; is it of another split, or are clips named otherwise?"
        )
    rows = [_positions(each.ids, order) for each in files]
    expected = labels.labels[_positions(labels.ids, order)]
    for each, own in zip(files, rows, strict=True):
        check_own_labels(each, own, labels, expected, order)
    return Aligned(
        [each.values[own] for each, own in zip(files, rows, strict=True)],
        [each.logits[own] for each, own in zip(files, rows, strict=True)],
        expected,
        tuple(order),
        "by id",
        (),
    )


def _positions(ids: Ids | None, order: Sequence[str]) -> IntArray:
    where = {name: row for row, name in enumerate(ids or ())}
    return np.array([where[name] for name in order], dtype=np.int64)
