"""Slow, obvious twins of orchestrator/ensembling/statistics: one clip at a time."""

from __future__ import annotations

import math
import random


def acceptable_accuracies(right, n, z=1.959963984540054):
    """Wilson's interval by its definition: the accuracies p that a score test does not reject,
    |right / n - p| <= z sqrt(p (1 - p) / n), found on a fine grid.
    """
    grid = [i / 200_000 for i in range(200_001)]
    kept = [p for p in grid if abs(right / n - p) <= z * math.sqrt(p * (1 - p) / n) + 1e-12]
    return kept[0], kept[-1]


def resampled_means(values, draws, seed, clusters=None):
    """Means of samples drawn clip by clip, or group by group, with replacement."""
    rng = random.Random(seed)
    clusters = list(range(len(values))) if clusters is None else list(clusters)
    groups = sorted(set(clusters))
    means = []
    for _ in range(draws):
        sample = []
        for group in [rng.choice(groups) for _ in groups]:
            sample += [value for value, own in zip(values, clusters, strict=True) if own == group]
        means.append(sum(sample) / len(sample))
    return means
