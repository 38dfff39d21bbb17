"""How good scores are against labels, and how sure that is.

Pure functions on arrays; knows no files.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.statistics.intervals import Interval, interval
from trainables.contract.config import Frozen
from trainables.contract.errors import UserError

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHUNK = 1024  # clips at a time: the temporary arrays stay in the cache


class Accuracy(Frozen):
    """Scores of `clips` clips against their labels; fractions, not percent."""

    clips: int
    right: int  # clips whose label has the highest score
    top1: float
    top1_error: float  # standard error of top1, sqrt(p (1 - p) / n)
    # Wilson's, of top1, at 95 %; None where it would cover less: on clips that something was chosen
    # on, cross-fitted or not; and in evaluations of version 5 and earlier
    interval: Interval | None = None
    top5: float
    mean_class: float  # top-1 of each class that occurs, averaged over these classes
    cross_entropy: float | None  # nats; None where the scores are no logits of probabilities


class Paired(Frozen):
    """Two classifiers on the same clips; `difference` is the accuracy of the first minus that of
    the second.
    """

    clips: int
    first_only: int  # clips the first gets right and the second wrong
    second_only: int
    difference: float
    error: float  # standard error of the difference, from the clips they disagree on
    p_value: float  # exact sign test (McNemar) of "neither is better", two-sided

    @property
    def distinguishable(self) -> bool:
        """Whether chance alone would rarely (p < 0.05) give such a difference."""
        return self.p_value < 0.05


def ranks(scores: FloatArray, labels: IntArray) -> IntArray:
    """How many classes stand before the label: 0 where it wins, (N,).

    scores: (N, K). Of equal scores the lower class number stands first, as np.argmax has it, which
    the papers' scripts take; counted instead of sorted, and only where the label does not win: the
    scores above the label's, and the equal ones of lower class number.
    """
    _check(scores, labels)
    found = np.zeros(len(labels), dtype=np.int64)
    classes = np.arange(scores.shape[1])
    for start in range(0, len(labels), CHUNK):
        rows, label = scores[start : start + CHUNK], labels[start : start + CHUNK, None]
        own = np.take_along_axis(rows, label, axis=1)
        beaten = np.flatnonzero(_count(rows >= own) > 1)  # or it shares the highest score
        rows, label, own = rows[beaten], label[beaten], own[beaten]
        found[start + beaten] = _count((rows > own) | ((rows == own) & (classes < label)))
    return found


def _count(flags: BoolArray) -> IntArray:
    """How many of each row (N, K) are set, (N,)."""
    few = flags.shape[1] <= np.iinfo(np.uint8).max  # then the faster way
    counts: IntArray = (
        np.einsum("nk->n", flags.view(np.uint8)) if few else np.count_nonzero(flags, axis=1)
    )
    return counts


def log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """log(exp(x_k) / sum_j exp(x_j)) along the classes, (N, K)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalised: npt.NDArray[np.float64] = shifted - np.log(
        np.exp(shifted).sum(axis=1, keepdims=True)
    )
    return normalised


def accuracy(scores: FloatArray, labels: IntArray, *, logits: bool) -> Accuracy:
    """Evaluate scores (N, K) against labels (N,); `logits`: their softmax means probabilities, so
    that the cross entropy is told too.
    """
    if not len(labels):
        raise UserError("scores must hold at least one clip, got none")
    rank = ranks(scores, labels)
    entropy = (
        -float(np.take_along_axis(log_softmax(scores), labels[:, None], axis=1).mean())
        if logits
        else None
    )
    return accuracy_of_ranks(rank, labels, entropy)


def accuracy_of_ranks(
    rank: IntArray, labels: IntArray, cross_entropy: float | None = None
) -> Accuracy:
    """The same where it is known how many classes stand before each label, (N,)."""
    hits = rank == 0
    top1 = float(hits.mean())
    per_class = np.bincount(labels)
    present = per_class > 0
    recall = np.bincount(labels, weights=hits)[present] / per_class[present]
    return Accuracy(
        clips=len(labels),
        right=int(hits.sum()),
        top1=top1,
        top1_error=math.sqrt(top1 * (1 - top1) / len(labels)),
        interval=interval(int(hits.sum()), len(labels)),
        top5=float((rank < 5).mean()),
        mean_class=float(recall.mean()),
        cross_entropy=cross_entropy,
    )


def accuracy_on_selection(scores: FloatArray, labels: IntArray, *, logits: bool) -> Accuracy:
    """The same on clips that something was chosen on: without an interval, which would be one for
    independent clips and cover too little.
    """
    return accuracy(scores, labels, logits=logits).model_copy(update={"interval": None})


def paired(first: BoolArray, second: BoolArray) -> Paired:
    """Compare what two classifiers got right, (N,) each, clip by clip.

    With b clips only the first and c clips only the second gets right, of n: difference (b - c) /
    n, standard error sqrt(b + c - (b - c)^2 / n) / n (McNemar 1947).
    """
    n, b, c = len(first), int((first & ~second).sum()), int((~first & second).sum())
    return Paired(
        clips=n,
        first_only=b,
        second_only=c,
        difference=(b - c) / n,
        error=math.sqrt(b + c - (b - c) ** 2 / n) / n,
        p_value=sign_test(b, c),
    )


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least this uneven when wins and losses are equally
    likely; 1 without any.
    """
    few, both = min(wins, losses), wins + losses
    ways = total = 1  # to lose none of them, and to lose at most as many
    for lost in range(few):  # whole numbers: exact, and without the second that scipy.stats loads
        ways = ways * (both - lost) // (lost + 1)
        total += ways
    return min(2 * total / (1 << both), 1.0)


def above_chance(found: Accuracy, classes: int, p_value: float = 0.05) -> bool:
    """Whether guessing among the classes would rarely (p < 0.05) get so many clips right."""
    from scipy.stats import binomtest

    test = binomtest(found.right, found.clips, 1 / classes, alternative="greater")
    return bool(test.pvalue < p_value)


def _check(scores: FloatArray, labels: IntArray) -> None:
    """UserError for scores and labels that do not belong together, or are no numbers."""
    if scores.ndim != 2 or labels.shape != (scores.shape[0],):
        raise UserError(
            f"labels must be one per row of the scores, got {labels.shape} for {scores.shape}"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise UserError(
            f"labels must be class numbers below {scores.shape[1]}, got {labels.min()} to"
            f" {labels.max()}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.einsum("nk->", scores)
    if not np.isfinite(total) and not np.isfinite(scores).all():
        raise UserError("scores must be finite numbers, got NaN or infinity")
