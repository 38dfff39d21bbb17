"""Collecting what is wrong with a source, so that one message names it all. Knows no format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_text
from trainables.contract.names import shown
from trainables.data.store.description import MOST_CLASSES, Joints

_SHOWN = 20


class Problems:
    """Problems of one source in the order they were found, each once."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def add(self, problem: str) -> None:
        self._found[problem] = None

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return bool(self._found)

    def raise_any(self) -> None:
        """UserError with the first twenty problems and the number of the others; nothing when there
        are none.
        """
        hidden = len(self._found) - _SHOWN
        if self._found:
            raise UserError.of(
                list(self._found)[:_SHOWN]
                + ([f"... and {hidden} more problems of this kind"] if hidden > 0 else [])
            )


def checked_classes(place: str, largest: int) -> int:
    """The number of classes where `largest` is the largest 0-based label; UserError where that
    cannot be the number of a class.
    """
    if largest >= MOST_CLASSES:
        raise UserError(
            f"{place}: labels must be class numbers below {MOST_CLASSES}, got {shown(largest)}"
        )
    return largest + 1


def from_zero(place: Path, labels: Sequence[int], first: int | None) -> list[int]:
    """The labels counted from 0. first: what the first class is called, 0 or 1; None: UserError
    where no label is 0, as is usual where they count from 1.
    """
    least, most = min(labels), max(labels)
    if first is None and least > 0:
        raise UserError(
            f"{place}: labels run from {least} to {shown(most)}, so it is not known whether they"
            " count from 0 or from 1: say --labels-from 0 or --labels-from 1"
        )
    if least < (first or 0):
        raise UserError(f"{place}: labels must be {first} or more (--labels-from), got {least}")
    return [label - (first or 0) for label in labels]


def class_names(file: Path, count: int) -> tuple[str, ...]:
    """One name per line of a text file, for at least `count` classes."""
    text = read_text(file, "a list of class names")
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if len(names) < count or "" in names or len(set(names)) < len(names):
        raise UserError(
            f"{file}: must hold a name of its own on each line, for at least {count} classes, got"
            f" {len(set(names) - {''})} in {len(names)}"
        )
    return names


def checked_joints(place: str, values: Any, joints: int) -> Joints:
    """(T, V, 3) or (M, T, V, 3) numbers as float32 (M, T, V, 3); UserError when shape or values are
    not those of a recording.
    """
    try:
        # too large for float32 becomes infinite, which is refused below
        with np.errstate(over="ignore"):
            array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{place}: joints must be numbers, frames x {joints} x 3: {error}"
        ) from error
    if (
        array.ndim not in (3, 4)
        or array.shape[-2:] != (joints, 3)
        or (array.ndim == 4 and not array.shape[0])
    ):
        raise UserError(f"{place}: joints must be frames x {joints} x 3, got {array.shape}")
    if array.ndim == 3:
        array = array[None]
    if not array.shape[1]:
        raise UserError(f"{place}: a clip must have at least one frame, got none")
    if not np.isfinite(array).all():
        bad = array.size - int(np.isfinite(array).sum())
        raise UserError(
            f"{place}: every coordinate must be finite, got {bad} that are NaN, infinite or too"
            " large"
        )
    return array
