"""Slow, obvious twins of the masks' arithmetic."""

import math
from collections.abc import Sequence


def kth_smallest_mask(scores: Sequence[float], level: float) -> list[int]:
    """Keep scores >= the k-th smallest, k = 1 + round(level (n - 1)), as the released sparse ST-GCN code does."""
    k = 1 + round(level * (len(scores) - 1))
    threshold = sorted(scores)[k - 1]
    return [1 if score >= threshold else 0 for score in scores]


def group_lasso(weights: list[list[float]], masks: list[list[float]]) -> float:
    """Sum over blocks of the Euclidean length of the masked-out weights."""
    total = 0.0
    for block, kept in zip(weights, masks, strict=True):
        total += math.sqrt(sum(w * w for w, keep in zip(block, kept, strict=True) if not keep))
    return total
