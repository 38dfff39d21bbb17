"""Which clips are for training, for selection and for the test: a rule over the clips table, turned
into positions.

Knows columns of values, nothing of files or joints. Everything here is deterministic in the rule
and the selection's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from trainables.contract.config import Frozen, SelectionConfig
from trainables.contract.errors import UserError

_SHOWN = 10  # values in a message

Positions = npt.NDArray[np.int64]
Column = npt.NDArray[Any]


class ProtocolRule(Frozen):
    """A split by the values of one column of the clips table; clips with any other value take no
    part.
    """

    column: str
    train: tuple[int | str, ...] = Field(min_length=1)
    test: tuple[int | str, ...] = Field(min_length=1)
    selection: tuple[int | str, ...] = ()  # the data set's own validation split, where it has one

    @model_validator(mode="after")
    def _parts_are_disjoint(self) -> Self:
        values = [*self.train, *self.test, *self.selection]
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(
                f"each value of column '{self.column}' must belong to one part of the split, got"
                f" {', '.join(twice)} more than once"
            )
        return self


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Positions of clips in the store, ascending; the three parts share none."""

    train: Positions
    selection: Positions
    test: Positions


def split_clips(
    protocol: str, rule: ProtocolRule, column: Callable[[str], Column], selection: SelectionConfig
) -> Split:
    """The parts of `protocol`, with the selection part held out of training as `selection` says.

    `column(name)` returns one value per clip. Clips the rule names as its own selection part are
    used only by `kind: protocol`.
    """
    values = column(rule.column).tolist()
    train, test = _among(values, rule.train), _among(values, rule.test)
    for part, positions, wanted in (("train", train, rule.train), ("test", test, rule.test)):
        if not len(positions):
            raise UserError(
                f"protocol '{protocol}': {part} must match at least one clip, but no {rule.column}"
                f" is one of {_listed(wanted)}"
            )
    held_out = _held_out(protocol, rule, train, column, selection)
    return Split(train=np.setdiff1d(train, held_out), selection=held_out, test=test)


def _held_out(
    protocol: str,
    rule: ProtocolRule,
    train: Positions,
    column: Callable[[str], Column],
    selection: SelectionConfig,
) -> Positions:
    """Ascending positions of the selection part."""
    if selection.kind == "none":
        return np.empty(0, np.int64)
    if selection.kind == "protocol":
        if not rule.selection:
            raise UserError(
                f"protocol '{protocol}': selection.kind 'protocol' needs a validation split, this"
                " one has none (use subject, clip or none)"
            )
        own = _among(column(rule.column).tolist(), rule.selection)
        if not len(own):
            raise UserError(
                f"protocol '{protocol}': selection must match at least one clip, but no"
                f" {rule.column} is one of {_listed(rule.selection)}"
            )
        return own
    rng = np.random.default_rng(selection.seed)
    if selection.kind == "subject":
        return _whole_subjects(protocol, train, column("subject")[train], selection.fraction, rng)
    return _stratified(protocol, train, column("label")[train], selection.fraction, rng)


def _whole_subjects(
    protocol: str, train: Positions, subjects: Column, fraction: float, rng: np.random.Generator
) -> Positions:
    """All training clips of round(fraction * S) of the S training subjects: at least one subject,
    never all.
    """
    if any(subject is None for subject in subjects.tolist()):
        raise UserError(
            f"protocol '{protocol}': selection.kind 'subject' needs a subject for every training"
            " clip (use clip, protocol or none)"
        )
    known = np.unique(subjects)
    if len(known) < 2:
        raise UserError(
            f"protocol '{protocol}': selection.kind 'subject' needs at least 2 training subjects,"
            f" got {len(known)} (use clip or none)"
        )
    count = min(max(round(fraction * len(known)), 1), len(known) - 1)
    chosen = rng.permutation(known)[:count]
    return train[np.isin(subjects, chosen)]


def _stratified(
    protocol: str, train: Positions, labels: Column, fraction: float, rng: np.random.Generator
) -> Positions:
    """round(fraction * N) training clips (at least one), shared among classes by largest remainder;
    every class keeps a clip for training.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quota = fraction * counts
    taken = np.minimum(np.floor(quota).astype(np.int64), counts - 1)
    wanted = max(round(fraction * len(train)), 1)
    # largest remainder first, then the smaller class number
    for c in np.lexsort((classes, taken - quota)):
        if taken.sum() < wanted and taken[c] < counts[c] - 1:
            taken[c] += 1
    if not taken.sum():
        raise UserError(
            f"protocol '{protocol}': selection.kind 'clip' needs a class with at least 2 training"
            f" clips, got {len(train)} clips"
        )
    parts = [
        rng.permutation(train[labels == label])[:number]
        for label, number in zip(classes, taken, strict=True)
    ]
    return np.sort(np.concatenate(parts))


def _among(values: Sequence[Any], wanted: Sequence[int | str]) -> Positions:
    """Ascending positions whose value is one of `wanted`; a number and its text are different
    values.
    """
    known = set(wanted)
    return np.array(
        [position for position, value in enumerate(values) if value in known], dtype=np.int64
    )


def _listed(values: Sequence[int | str]) -> str:
    more = ", ..." if len(values) > _SHOWN else ""
    return ", ".join(repr(value) for value in values[:_SHOWN]) + more
