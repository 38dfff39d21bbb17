"""Slow, obvious twins of what orchestrator/ensembling computes: one clip at a time."""

from __future__ import annotations

import math


def is_among_best(scores, label, k):
    """Whether `label` is among the k highest scores, of equal ones the lower class first."""
    order = sorted(range(len(scores)), key=lambda c: -scores[c])  # stable
    return label in order[:k]


def top_k(rows, labels, k):
    return sum(is_among_best(row, label, k) for row, label in zip(rows, labels, strict=True)) / len(
        labels
    )


def mean_class(rows, labels):
    per_class = []
    for c in sorted(set(labels)):
        own = [row for row, label in zip(rows, labels, strict=True) if label == c]
        per_class.append(top_k(own, [c] * len(own), 1))
    return sum(per_class) / len(per_class)


def softmax(row):
    powers = [math.exp(x - max(row)) for x in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(rows, labels):
    return -sum(
        math.log(softmax(row)[label]) for row, label in zip(rows, labels, strict=True)
    ) / len(labels)


def weighted_probabilities(tables, weights):
    """Row by row: sum_i w_i softmax(x_i) / sum_i w_i."""
    mixed = []
    for rows in zip(*tables, strict=True):
        probabilities = [softmax(row) for row in rows]
        mixed.append(
            [
                sum(w * p[c] for w, p in zip(weights, probabilities, strict=True)) / sum(weights)
                for c in range(len(rows[0]))
            ]
        )
    return mixed


def over_deviation(row):
    """A clip's scores over their standard deviation."""
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / len(row))
    return [x / deviation for x in row]


def difference_error(first, second):
    """Standard error of a mean of paired differences, over n: sqrt(mean(d^2) - mean(d)^2) /
    sqrt(n).
    """
    d = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    n = len(d)
    mean = sum(d) / n
    return math.sqrt(sum(x * x for x in d) / n - mean**2) / math.sqrt(n)
