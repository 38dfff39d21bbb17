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


def out_of_bag_accuracies(hits, bags):
    """For each bag (a list of clips, with repeats): the accuracy of the contender that is best in
    it, of equal ones the first, on the clips that are not in it.
    """
    found = []
    for bag in bags:
        totals = [sum(int(row[clip]) for clip in bag) for row in hits]
        best = totals.index(max(totals))
        outside = [clip for clip in range(len(hits[0])) if clip not in bag]
        found.append(sum(int(hits[best][clip]) for clip in outside) / len(outside))
    return found


def calibration_error(rows, labels, bin_of):
    """Expected calibration error: mean gap between confidence and accuracy, weighted by clips;
    `bin_of` gives the bin of each clip.
    """
    confidence = [max(row) for row in rows]
    hits = [row.index(max(row)) == label for row, label in zip(rows, labels, strict=True)]
    bins = bin_of(confidence)
    error = 0.0
    for number in set(bins):
        own = [i for i, each in enumerate(bins) if each == number]
        sure = sum(confidence[i] for i in own) / len(own)
        right = sum(hits[i] for i in own) / len(own)
        error += len(own) / len(rows) * abs(right - sure)
    return error


def bins_of_equal_width(confidence, count=15):
    return [next(b for b in range(count) if p <= (b + 1) / count) for p in confidence]


def bins_of_equal_mass(confidence, count=15):
    order = sorted(range(len(confidence)), key=lambda i: confidence[i])
    return [order.index(i) * count // len(confidence) for i in range(len(confidence))]


def brier(rows, labels):
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        total += sum((p - (k == label)) ** 2 for k, p in enumerate(row))
    return total / len(rows)


def pair_counts(first, second, labels):
    """(both right, only the first, only the second, both wrong)"""
    kinds = [(a == y, b == y) for a, b, y in zip(first, second, labels, strict=True)]
    return tuple(
        kinds.count(kind) for kind in [(True, True), (True, False), (False, True), (False, False)]
    )
