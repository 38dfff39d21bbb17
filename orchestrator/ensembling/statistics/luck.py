"""How much of a figure is the luck of choosing: what is chosen by its accuracy on some clips looks
better on them than it is.

The bootstrap bias corrected estimate (BBC-CV; Tsamardinos, Greasidou & Borboudakis 2018): every
bootstrap sample of the clips makes the whole choice again, and what it chooses is evaluated on the
clips that the sample lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.statistics.intervals import CONFIDENCE, Interval
from trainables.contract.config import Frozen

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Luck(Frozen):
    """The accuracy of what was chosen, on the clips it was chosen on and corrected; fractions.

    `interval` covers the true accuracy of what was chosen: the central 95 % of the accuracies out
    of the bag. A sample lacks about 37 % of the clips, on which accuracies scatter more than on
    all of them, so that it is too wide rather than too narrow: simulated with 1 to 100 contenders
    of equal and of unequal accuracy, right on the same clips or not, it covers 97 to 100 %. For
    greedy ensembles of 10 networks on 120 clips it covers 95 % (two of them know something, and the
    corrected figure is 2 points low, as a bag has fewer different clips) and 100 % (none does).
    """

    # trials of the cell, or of all cells that the ensemble could be made of
    contenders: int
    naive: float  # on all the clips it was chosen on
    corrected: float  # mean out of the bag
    interval: Interval
    clips: int
    draws: int
    seed: int

    @property
    def bias(self) -> float:
        """What choosing has added to the naive figure."""
        return self.naive - self.corrected


@dataclass(frozen=True, eq=False, slots=True)
class Bags:
    """Bootstrap samples (bags), B of them, of the same N clips."""

    counts: npt.NDArray[np.float32]  # (B, N) how often a clip is in the bag; whole numbers

    @classmethod
    def drawn(cls, clips: int, draws: int, rng: np.random.Generator) -> Bags:
        """N draws with replacement for each bag; one that holds every clip leaves nothing to
        evaluate on and is dropped.
        """
        picks = rng.integers(clips, size=(draws, clips)) + clips * np.arange(draws)[:, None]
        counts = np.bincount(picks.ravel(), minlength=draws * clips).reshape(draws, clips)
        return cls(counts[(counts == 0).any(axis=1)].astype(np.float32))

    def inside(self, bag: int) -> IntArray:
        """Its clips, (N,), those drawn several times repeated."""
        return np.repeat(np.arange(self.counts.shape[1]), self.counts[bag].astype(np.int64))

    def outside(self, bag: int) -> IntArray:
        """The clips it lacks."""
        return np.flatnonzero(self.counts[bag] == 0)

    def totals(self, gains: FloatArray | BoolArray) -> FloatArray:
        """Sums over the clips of every bag of what each contender gains there: (B, T) for gains
        (T, N); hits are summed without rounding.
        """
        totals: FloatArray = self.counts @ gains.T.astype(np.result_type(gains, np.float32))
        return totals


def first_best(keys: Sequence[FloatArray]) -> IntArray:
    """The contender that wins in each row, (B,): the highest first key, of equal ones the highest
    second and so on, of equal ones the first. keys: (B, T) each.
    """
    left = np.ones(keys[0].shape, dtype=bool)
    for key in keys:
        own = np.where(left, key, -np.inf)
        left &= own == own.max(axis=1, keepdims=True)
    best: IntArray = left.argmax(axis=1)
    return best


def out_of_bag(hits: BoolArray, chosen: IntArray, bags: Bags) -> FloatArray:
    """Accuracy of what each bag chose, (B,), on the clips that it lacks; hits: (T, N)."""
    outside = (bags.counts == 0).astype(np.float32)
    right = outside @ hits.T.astype(np.float32)  # (B, T)
    accuracies: FloatArray = right[np.arange(len(chosen)), chosen] / outside.sum(axis=1)
    return accuracies


def luck(contenders: int, naive: float, accuracies: FloatArray, clips: int, seed: int) -> Luck:
    """The corrected figure from the accuracies out of the bag, (B,)."""
    low, high = np.quantile(accuracies, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Luck(
        contenders=contenders,
        naive=naive,
        corrected=float(accuracies.mean()),
        interval=(float(low), float(high)),
        clips=clips,
        draws=len(accuracies),
        seed=seed,
    )
