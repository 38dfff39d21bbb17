"""Confidence intervals of accuracies and of their differences, over the clips that were drawn."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.config import Frozen
from trainables.contract.errors import UserError

Interval = tuple[float, float]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]] | npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]

CONFIDENCE = 0.95
DRAWS = 4000  # bootstrap samples
NORMAL = NormalDist()
LEAST_SUBJECTS = 8
CELLS = 2_000_000  # entries of a table of counts that are held at once


def interval(right: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of an accuracy of which `right` of `n` clips are right.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z the normal quantile of
    (1 + confidence) / 2 (Wilson 1927). It takes clips for independent draws; the average coverage
    is the stated one also for few clips or an accuracy near 1 (Brown, Cai & DasGupta 2001). `right`
    may be a fraction where it comes from a mean of several counts.
    """
    if not 0 <= right <= n or n < 1:
        raise UserError(f"right must be between 0 and n of at least 1, got {right} of {n}")
    z, p = NORMAL.inv_cdf((1 + confidence) / 2), right / n
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    # rounding must not exclude an accuracy of 0 or 1
    low = 0.0 if right == 0 else (middle - spread) / scale
    high = 1.0 if right == n else (middle + spread) / scale
    return low, high


def resampled_means(
    values: Values, draws: int, rng: np.random.Generator, clusters: IntArray | None = None
) -> FloatArray:
    """Means of `values` (N,) in `draws` bootstrap samples, (draws,).

    Without `clusters` the clips are resampled: clips of equal value are alike, so that the counts
    of the distinct values are drawn from a multinomial distribution instead of N clips. With
    `clusters`, (N,) numbers of groups such as subjects, whole groups are resampled and a mean is
    over the clips of the groups drawn.
    """
    if clusters is None:
        distinct, counts = np.unique(values, return_counts=True)
        return _weighted(distinct.astype(np.float64), np.ones(len(distinct)), counts, draws, rng)
    _, groups = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=values).astype(np.float64)
    return _weighted(sums, sizes, np.ones(len(sizes), np.int64), draws, rng)


def _weighted(
    sums: FloatArray, sizes: FloatArray, counts: IntArray, draws: int, rng: np.random.Generator
) -> FloatArray:
    """Ratios sum(w sums) / sum(w sizes) where w counts how often each of the kinds is drawn."""
    total = int(counts.sum())
    means = np.empty(draws)
    step = max(1, CELLS // len(counts))
    for start in range(0, draws, step):
        drawn = rng.multinomial(total, counts / total, size=min(step, draws - start))
        means[start : start + step] = (drawn @ sums) / (drawn @ sizes)
    return means


def bootstrap_interval(
    values: Values,
    *,
    seed: int,
    clusters: IntArray | None = None,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
) -> Interval:
    """BCa bootstrap interval of the mean of `values` (N,): hits (0 or 1) for an accuracy, hits of
    one classifier minus those of another (-1, 0 or 1) for a difference of paired accuracies.

    The ends are the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resampled means: z0 the
    normal quantile of the share of them below the mean (half of the equal ones counted), a the
    acceleration sum(d^3) / (6 sum(d^2)^1.5) over the jackknife's deviations d (Efron 1987). What is
    resampled are clips, or whole `clusters`; with fewer than about 20 clusters the interval is too
    narrow (see `Bootstrap`). Values that are all equal have an interval of no width.
    """
    values = np.asarray(values, dtype=np.float64)
    means = np.sort(resampled_means(values, draws, np.random.default_rng(seed), clusters))
    mean = float(values.mean())
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * draws)
    if means[0] == means[-1] or not 0 < below < 1:
        return float(means[0]), float(means[-1])
    bias, acceleration = NORMAL.inv_cdf(below), _acceleration(values, clusters)
    ends: list[float] = []
    for share in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + NORMAL.inv_cdf(share)
        adjusted = NORMAL.cdf(bias + shifted / (1 - acceleration * shifted))
        ends.append(float(np.quantile(means, adjusted)))
    return ends[0], ends[1]


class Bootstrap(Frozen):
    """BCa intervals of one figure at 95 %: over the clips, and over the subjects who perform them.

    The first is for other clips of the same people, the second for other people. The second is None
    where subjects are not known or fewer than 8. Simulated with people who differ by 8 points, it
    covers 89 % (8 of them), 92 % (10), 94 % (20) and 93 % (40); over clips, 77 % of the time. Both
    are None where every sample has the same mean, as where all clips are right: resampling says
    nothing of what it never drew.
    """

    clips: Interval | None
    subjects: Interval | None
    subject_count: int
    seed: int


def bootstrap(values: Values, subjects: IntArray | None, seed: int) -> Bootstrap:
    """Of the mean of `values` (N,); subjects: a number for each clip, (N,)."""
    count = 0 if subjects is None else len(np.unique(subjects))
    return Bootstrap(
        clips=_of_some_width(bootstrap_interval(values, seed=seed)),
        subjects=(
            _of_some_width(bootstrap_interval(values, seed=seed, clusters=subjects))
            if count >= LEAST_SUBJECTS
            else None
        ),
        subject_count=count,
        seed=seed,
    )


def _of_some_width(found: Interval) -> Interval | None:
    return found if found[0] < found[1] else None


def _acceleration(values: FloatArray, clusters: IntArray | None) -> float:
    """The skewness of the jackknife over 6: of the mean without each clip, or each cluster, in
    turn. Their scale does not matter.
    """
    if clusters is None:
        deviations = values - values.mean()  # over N - 1 they are those of the jackknife
    else:
        _, groups = np.unique(clusters, return_inverse=True)
        sizes, sums = np.bincount(groups), np.bincount(groups, weights=values)
        left_out = (values.sum() - sums) / (len(values) - sizes)
        deviations = left_out.mean() - left_out
    squares = float((deviations**2).sum())
    return float((deviations**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
