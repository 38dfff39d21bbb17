"""What every reader of scores and labels ends in: a checked table with names, or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reading
from trainables.contract.names import shown

Ids = tuple[str, ...]
FloatTable = npt.NDArray[np.floating[Any]]

SUM_TOLERANCE = 2e-3
"""How far from 1 the sum of probabilities may be that were rounded to 16 bits."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoreTable:
    """Scores (N, K) in the order of their file, with the names of the samples where it has them."""

    path: Path
    values: FloatTable  # logits, or probabilities
    ids: Ids | None
    probabilities: bool  # whether every row is >= 0 and sums to 1
    truth: LabelTable | None = None  # the labels that the file holds itself, in the same order

    def __len__(self) -> int:
        return len(self.values)

    @property
    def logits(self) -> FloatTable:
        """Numbers whose softmax are the probabilities: of probabilities their logarithm, and of 0
        that of the smallest float32.
        """
        if not self.probabilities:
            return self.values
        return np.log(np.maximum(self.values.astype(np.float64), np.finfo(np.float32).tiny))


@dataclass(frozen=True, eq=False, slots=True)
class LabelTable:
    """Class numbers (N,) as the file has them, with the names of the samples where it has them."""

    path: Path
    labels: npt.NDArray[np.int64]
    ids: Ids | None
    one_hot: bool = False  # then the first class is 0, without a doubt
    parts: Mapping[str, int] = field(default_factory=dict)  # part of the file -> its samples

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class Content:
    """What a format's reader found: rows of scores, or labels, and names where there are some."""

    values: Any
    ids: Sequence[Any] | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    labels: Any = None  # of a file of scores that has them, too


def score_table(path: Path, content: Content) -> ScoreTable:
    """The scores as numbers, (N, K); UserError where they are none."""
    with reading(path, "score vectors of the same number of classes"):
        values = _numbers(path, "scores", content.values)
    if values.ndim == 3 and values.shape[1] == 1:  # (N, 1, K): one view of each clip
        values = values[:, 0]
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise UserError(
            f"{path}: scores must be a table (samples, two or more classes), got shape"
            f" {shown(values.shape)}"
            f"{': average the views of a sample first' if values.ndim == 3 else ''}"
        )
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise UserError(
            f"{path}: scores must be finite numbers, got NaN or infinity in row {row}: that network"
            " diverged, or the file is damaged; leave it out, or write it again"
        )
    ids = _names(path, content, len(values))
    truth = None if content.labels is None else label_table(path, Content(content.labels))
    if truth is not None and len(truth) != len(values):
        raise UserError(
            f"{path}: its labels must be one per row of its scores, got {len(truth)} for"
            f" {len(values)}"
        )
    return ScoreTable(path, values, ids, _probabilities(path, values), truth)


def label_table(path: Path, content: Content) -> LabelTable:
    """The labels as class numbers, (N,): from whole numbers, (N,) or (N, 1), or from one-hot rows
    (N, K); UserError for anything else.
    """
    with reading(path, "labels that are whole numbers"):
        values = (
            _numbers(path, "labels", content.values)
            if isinstance(content.values, np.ndarray) or _has_rows(content.values)
            else np.array([_whole(value) for value in content.values])
        )
    one_hot = values.ndim == 2 and values.shape[1] > 1
    if one_hot:
        ones = (values == 1).sum(axis=1)
        wrong = np.flatnonzero((ones != 1) | ((values != 0) & (values != 1)).any(axis=1))
        if len(wrong):
            raise UserError(
                f"{path}: labels of shape {values.shape} must be one-hot, a single 1 in each row,"
                f" got another row at {wrong[0]}"
            )
        labels = values.argmax(axis=1)
    else:
        labels = values.reshape(len(values)) if values.ndim == 2 else values
    if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iuf":
        raise UserError(
            f"{path}: labels must be a list of whole numbers, got shape {shown(values.shape)}, type"
            f" {values.dtype}"
        )
    wrong = np.flatnonzero((np.abs(labels) > 2**31) | (labels != np.floor(labels)))
    if len(wrong) or not np.isfinite(labels).all():
        at = wrong[0] if len(wrong) else np.flatnonzero(~np.isfinite(labels))[0]
        raise UserError(
            f"{path}: labels must be whole numbers, got {shown(labels[at].item())} in row {at}"
        )
    whole = labels.astype(np.int64)
    return LabelTable(path, whole, _names(path, content, len(whole)), one_hot, content.parts)


def _numbers(path: Path, what: str, content: Any) -> npt.NDArray[Any]:
    """An array, or a list of rows, as an array of numbers; UserError where it holds others,
    ValueError where there is none.

    The type of a list is never left to NumPy: of text it would make an array as wide as the longest
    entry.
    """
    if not isinstance(content, np.ndarray):
        content = np.stack(
            [
                row if isinstance(row, np.ndarray) else np.asarray(row, dtype=np.float64)
                for row in content
            ]
        )
    numbers: npt.NDArray[Any] = content
    if numbers.dtype.kind not in "iuf":
        raise UserError(f"{path}: {what} must be numbers, got {numbers.dtype}")
    return numbers


def _has_rows(content: Any) -> bool:
    """Whether a list holds rows of several numbers, as one-hot labels do."""
    first = content[0] if isinstance(content, list | tuple) and content else None
    return isinstance(first, list | tuple | np.ndarray) and np.size(first) > 1


def _whole(value: Any) -> float:
    """A label as a number: also text of a whole one, and a list or array of one entry."""
    if isinstance(value, np.ndarray) and value.size == 1:
        return _whole(value.item())
    if isinstance(value, list | tuple) and len(value) == 1:
        return _whole(value[0])
    if isinstance(value, str) and not value.strip().lstrip("+-").isdecimal():
        raise ValueError(f"a label is {shown(value)}")
    return float(value)


def _names(path: Path, content: Content, count: int) -> Ids | None:
    if content.ids is None:
        return None
    ids = tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in content.ids
    )
    if len(ids) != count:
        raise UserError(f"{path}: every row must have a name, got {len(ids)} names, {count} rows")
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UserError(
            f"{path}: every sample must occur once, got {len(ids) - len(set(ids))} repeated ids,"
            f" such as {shown(twice)}"
        )
    return ids


def _probabilities(path: Path, values: FloatTable) -> bool:
    """Whether the rows are probabilities; UserError where most are and some are not."""
    are = (values.min(axis=1) >= 0) & (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)
    if 0.5 < are.mean() < 1:
        row = int(np.flatnonzero(~are)[0])
        raise UserError(
            f"{path}: rows must all be probabilities or all be logits, got {int(are.sum())} of"
            f" {len(are)} that sum to 1, and row {row} that does not"
        )
    percent = np.abs(values.sum(axis=1) - 100) <= 100 * SUM_TOLERANCE
    if values.min() >= 0 and percent.all():
        raise UserError(
            f"{path}: rows must be logits, or probabilities that sum to 1, got rows that sum to 100"
            " as per cent do: divide them by 100"
        )
    return bool(are.all())
