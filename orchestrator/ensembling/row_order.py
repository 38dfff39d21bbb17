"""Whether rows that nothing but their position matches with labels are in the order of the labels.

A wrong order cannot be seen in a row, but in all of them together: it looks like guessing, and a
shift by one row is undone by shifting back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.ensembling.evaluate import (
    Accuracy,
    BoolArray,
    FloatArray,
    IntArray,
    above_chance,
    sign_test,
)
from trainables.contract.errors import UserError

SURE = 1e-6
"""Of the probability that chance alone looks so wrong, below which it is an error."""


def check_order(
    rows: Mapping[str, FloatArray], members: Mapping[str, Accuracy], truth: IntArray
) -> tuple[str, ...]:
    """What the reader should know of the order of files' rows; UserError where it is wrong beyond
    doubt.

    rows: (N, K) of each file. members: their accuracies.
    """
    firsts = {name: each.argmax(axis=1) for name, each in rows.items()}
    shifted = {
        name: step for name, each in firsts.items() if (step := _shift(each, truth)) is not None
    }
    if shifted:
        raise UserError(_shifted_message(firsts, shifted, truth))
    classes = next(iter(rows.values())).shape[1]
    if not any(above_chance(found, classes, SURE) for found in members.values()):
        _check_agreement(firsts, classes)
    return tuple(
        f"{name} is far worse than guessing: are its classes in another order than the labels'?"
        if _below_chance(found, classes)
        else f"{name} is not clearly better than guessing: are its rows in the order of the labels?"
        for name, found in members.items()
        if not above_chance(found, classes)
    )


def _below_chance(found: Accuracy, classes: int) -> bool:
    from scipy.stats import binomtest

    return bool(binomtest(found.right, found.clips, 1 / classes, "less").pvalue < SURE)


def _shift(firsts: IntArray, truth: IntArray) -> int | None:
    """1 or -1 where the rows fit the labels far better when row i + 1 (or i - 1) is taken for clip
    i, and better than guesses of the same classes would; None where they do not.

    Where clips of a class follow one another, only the first and last of such a run tell.
    """
    changes = np.concatenate([[True], truth[1:] != truth[:-1], [True]])
    tells = changes[1:] | changes[:-1]  # unlike the clip before or after it
    for step in (1, -1):
        part = tells[:-1] if step > 0 else tells[1:]
        moved, own = (each[part] for each in _right(firsts, truth, step))
        wins, losses = int((moved & ~own).sum()), int((own & ~moved).sum())
        if wins > losses and sign_test(wins, losses) < SURE and _is_no_guess(moved, firsts, truth):
            return step
    return None


def _is_no_guess(right: BoolArray, firsts: IntArray, truth: IntArray) -> bool:
    """Whether so many are right that guesses, each class as often as `firsts` has it, cannot be."""
    from scipy.stats import binomtest

    classes = int(max(firsts.max(), truth.max())) + 1
    shares = [np.bincount(each, minlength=classes) / len(each) for each in (firsts, truth)]
    expected = min(float(shares[0] @ shares[1]), 1.0)
    return bool(binomtest(int(right.sum()), len(right), expected, "greater").pvalue < SURE)


def _right(firsts: IntArray, truth: IntArray, step: int) -> tuple[BoolArray, BoolArray]:
    """Which clips are right with the row `step` further on, and with their own; (N - 1,) each."""
    own = firsts == truth
    if step > 0:
        return firsts[1:] == truth[:-1], own[:-1]
    return firsts[:-1] == truth[1:], own[1:]


def _shifted_message(
    firsts: Mapping[str, IntArray], shifted: Mapping[str, int], truth: IntArray
) -> str:
    name, step = next(iter(shifted.items()))
    moved, own = (100 * each.mean() for each in _right(firsts[name], truth, step))
    whose = "the labels" if len(shifted) == len(firsts) > 1 else name
    return (
        f"{whose}: rows look shifted by one: of {', '.join(shifted)} {moved:.1f} % are right when"
        f" each row is taken for the clip {'before' if step > 0 else 'after'} it, {own:.1f} % as"
        " they stand; write the file again in the order of the others, or with names of the clips"
    )


def _check_agreement(firsts: Mapping[str, IntArray], classes: int) -> None:
    """UserError where files that are no better than guessing say much the same: then it is the
    labels that are of other clips.
    """
    from scipy.stats import binomtest

    names = list(firsts)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            same = firsts[name] == firsts[other]
            shares = [
                np.bincount(firsts[each], minlength=classes) / len(same) for each in (name, other)
            ]
            expected = min(float(shares[0] @ shares[1]), 1.0)
            test = binomtest(int(same.sum()), len(same), expected, alternative="greater")
            if not same.all() and test.pvalue < SURE:
                raise UserError(
                    f"the labels: must be of the scored clips, in their order, got others: {name}"
                    f" and {other} agree on {100 * same.mean():.1f} % of the clips, and neither is"
                    " better than guessing; is it the label file of another split?"
                )
