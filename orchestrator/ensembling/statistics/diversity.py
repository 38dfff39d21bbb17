"""How much the members of an ensemble differ in what they get right: an ensemble can only mend the
errors that its members do not share.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.contract.config import Frozen

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class Diversity(Frozen):
    """Means over the pairs of members, on the same clips (Kuncheva & Whitaker 2003).

    Of a pair, n11 clips both have right, n00 both wrong, n10 and n01 only one of them.
    q: Yule's statistic (n11 n00 - n01 n10) / (n11 n00 + n01 n10): 1 where they err on the same
    clips, 0 where independently; None where no pair has a denominator. disagreement: (n10 + n01) /
    N, the share of the clips that only one of them has right. double_fault: n00 / N.
    error_overlap: n00 / (n00 + n01 + n10), the share of the clips that one has wrong which both
    have wrong; None where no pair errs.

    Beside these: different_classes, the share of the clips to which a pair gives different classes,
    also where both are wrong; all_wrong, the share of the clips that every member has wrong.
    """

    members: int
    q: float | None
    disagreement: float
    double_fault: float
    error_overlap: float | None
    all_wrong: float
    # None in evaluations whose `disagreement` is what this is
    different_classes: float | None = None


def diversity(firsts: IntArray, labels: IntArray) -> Diversity | None:
    """Of the first choices (M, N) of M members; None with fewer than two."""
    if len(firsts) < 2:
        return None
    hits = firsts == labels
    right = hits.astype(np.float64)
    pairs = np.triu_indices(len(firsts), k=1)
    n11, n00 = (right @ right.T)[pairs], ((1 - right) @ (1 - right).T)[pairs]
    n10, n01 = (right @ (1 - right).T)[pairs], ((1 - right) @ right.T)[pairs]
    agreeing = [
        (firsts[first] == firsts[second]).mean() for first, second in zip(*pairs, strict=True)
    ]
    return Diversity(
        members=len(firsts),
        q=_mean_ratio(n11 * n00 - n01 * n10, n11 * n00 + n01 * n10),
        disagreement=float((n10 + n01).mean()) / len(labels),
        double_fault=float(n00.mean()) / len(labels),
        error_overlap=_mean_ratio(n00, n00 + n01 + n10),
        all_wrong=float((~hits.any(axis=0)).mean()),
        different_classes=1 - float(np.mean(agreeing)),
    )


def _mean_ratio(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64]) -> float | None:
    """The mean over the pairs for which it is defined."""
    known = under > 0
    return float((over[known] / under[known]).mean()) if known.any() else None
