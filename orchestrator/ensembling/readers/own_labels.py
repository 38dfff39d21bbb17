"""Labels that a score file holds itself, held against the label file: the surest check of order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.readers.tables import LabelTable, ScoreTable
from trainables.contract.errors import UserError
from trainables.contract.names import shown

IntArray = npt.NDArray[np.int64]


def check_own_labels(
    file: ScoreTable,
    rows: IntArray | slice,
    labels: LabelTable,
    expected: IntArray,
    ids: Sequence[str] | None = None,
) -> None:
    """UserError where the labels in a score file are not those of the label file.

    rows: of the file, in the order of `expected` (N,) and of `ids`, where there are some. Labels
    may count from 0 in one file and from 1 in the other.
    """
    if file.truth is None:
        return
    found = file.truth.labels[rows]
    steps = (0,) if file.truth.one_hot and labels.one_hot else (0, 1, -1)
    if any(np.array_equal(found - step, expected) for step in steps):
        return
    wrong = np.flatnonzero(found != expected)
    first = int(wrong[0])
    place = f"row {first}" if ids is None else shown(ids[first])
    raise UserError(
        f"{file.path}: the labels it holds must be those of {labels.path.name}, got others for"
        f" {len(wrong)} of {len(found)} clips, such as {place}: {found[first]} and not"
        f" {expected[first]}; {_advice(found, expected, by_name=ids is not None)}"
    )


def _advice(found: IntArray, expected: IntArray, *, by_name: bool) -> str:
    if by_name:
        return "one of the two files has wrong labels"
    if np.array_equal(found[1:], expected[:-1]) or np.array_equal(found[:-1], expected[1:]):
        return "they are the same when they are shifted by one row"
    if np.array_equal(np.sort(found), np.sort(expected)):
        return "they are the same labels in another order: give both files names of the clips"
    return "is it the label file of another split?"
