"""Honest figures of a chosen ensemble from the clips it is chosen on: each part of the clips is
scored with what was chosen on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import combine_rows
from orchestrator.ensembling.spill import Rows, release
from orchestrator.ensembling.strategies.sources import Choice, Sources
from trainables.contract.errors import UserError

Integers = npt.NDArray[np.int64]
Choose = Callable[[Sources], Choice | Mapping[str, float]]

FOLDS = 5
"""Of the selection clips, in what a sweep says of itself."""

COPY = "\0"
"""Between the name of a clip that is repeated and the number of its copy."""


@dataclass(frozen=True, eq=False, slots=True)
class CrossFitted:
    """What was chosen without each fold, and what it says of the fold's clips."""

    rows: npt.NDArray[np.float32]  # (N, K) combined scores, in the order of the sources' clips
    fold: Integers  # (N,): the fold of each clip
    choices: tuple[Choice, ...]  # of each fold, made on all others

    def mean_weights(self, members: tuple[str, ...]) -> dict[str, float]:
        """Each source's share of the weight, the mean over the folds."""
        return {
            name: float(
                np.mean(
                    [
                        each.weights.get(name, 0.0) / sum(each.weights.values())
                        for each in self.choices
                    ]
                )
            )
            for name in members
        }


def cross_fitted(sources: Sources, choose: Choose, folds: int, seed: int) -> CrossFitted:
    """Choose on all folds but one and score that one, for each fold.

    UserError where a fold would be without clips. Every choice sees `sources` with fewer clips and
    otherwise the same.
    """
    fold = folds_by_clip(sources, folds, seed)
    rows = np.empty(sources.values.shape[1:], np.float32)
    choices = []
    for number in range(folds):
        choice = _choice(choose(part_of(sources, fold != number)))
        own = np.flatnonzero(fold == number)
        rows[own] = combined(sources, choice, own)
        choices.append(choice)
    return CrossFitted(rows, fold, tuple(choices))


def combined(
    sources: Sources, choice: Choice, clips: Integers | None = None
) -> npt.NDArray[np.float32]:
    """What a choice says of the sources' clips, or of some of them, (N, K)."""
    numbers = {name: number for number, name in enumerate(sources.members)}
    names = [name for name, weight in choice.weights.items() if weight]
    wanted = np.arange(len(sources.labels)) if clips is None else clips
    tables = [
        sources.values[numbers[name], wanted] / np.float32(choice.temperatures.get(name, 1.0))
        for name in names
    ]
    release(sources.values)
    return combine_rows(tables, [choice.weights[name] for name in names], sources.combine)


def _choice(answer: Choice | Mapping[str, float]) -> Choice:
    return answer if isinstance(answer, Choice) else Choice(answer)


def folds_of(labels: Integers, folds: int, seed: int) -> Integers:
    """The fold of each clip, (N,): drawn, as even as can be in size and within each class.

    UserError for fewer than 2 folds, or more folds than clips.
    """
    if not 2 <= folds <= len(labels):
        raise UserError(
            f"folds: must be at least 2 and at most the {len(labels)} clips, got {folds}"
        )
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold


def folds_by_clip(sources: Sources, folds: int, seed: int) -> Integers:
    """The fold of each row, (N,): as `folds_of`, all copies of a repeated clip in one of them."""
    numbers: dict[str, int] = {}
    clips = [numbers.setdefault(name.partition(COPY)[0], len(numbers)) for name in sources.ids]
    _, firsts, clip = np.unique(clips, return_index=True, return_inverse=True)
    return folds_of(sources.labels[firsts], folds, seed)[clip]


def part_of(sources: Sources, clips: npt.NDArray[np.bool_] | Integers) -> Sources:
    """The same sources on some of their clips; a table that is too large for it does not lie in
    memory.
    """
    chosen = np.flatnonzero(clips) if clips.dtype == np.bool_ else clips
    rows = Rows(sources.values.shape[2])
    for table in sources.values:
        rows.append(table[chosen])
        release(sources.values)
    values = rows.table().reshape(len(sources.values), len(chosen), -1)
    labels = sources.labels[chosen]
    values.setflags(write=False)
    labels.setflags(write=False)
    return replace(sources, values=values, labels=labels, ids=tuple(sources.ids[i] for i in chosen))
