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


def soft_threshold(weight: float, threshold: float) -> float:
    """Towards zero by the threshold, zero within it."""
    return math.copysign(max(abs(weight) - threshold, 0.0), weight)


def hard_concrete(gate: float, u: float | None = None) -> float:
    """Louizos et al. 2018, equations 10 and 13 with beta 2/3 and a stretch to (-0.1, 1.1); without u as their networks are evaluated."""
    s = sigmoid(gate) if u is None else sigmoid((math.log(u) - math.log(1 - u) + gate) / (2 / 3))
    return min(1.0, max(0.0, s * 1.2 - 0.1))


def threshold_kept(weights: list[list[float]], gates: list[float]) -> float:
    """Soft count of the weights above one threshold per tensor, thresholds and band (0.2) in root mean squares of the tensor."""
    total = 0.0
    for tensor, gate in zip(weights, gates, strict=True):
        size = math.sqrt(sum(w * w for w in tensor) / len(tensor))
        total += sum(sigmoid((abs(w) / size + gate) / 0.2) for w in tensor)
    return total


def hard_concrete_kept(gates: list[float]) -> float:
    """Expected number of gates that are not zero."""
    return sum(sigmoid(gate - 2 / 3 * math.log(0.1 / 1.1)) for gate in gates)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def most_kept(scores: list[list[float]], removed: int) -> list[list[int]]:
    """Remove the smallest scores of all lists together, but leave every list its largest."""
    ranked = sorted((score, i, j) for i, row in enumerate(scores) for j, score in enumerate(row))
    best = {(i, row.index(max(row))) for i, row in enumerate(scores)}
    gone = {(i, j) for _, i, j in [entry for entry in ranked if (entry[1], entry[2]) not in best][:removed]}
    return [[int((i, j) not in gone) for j in range(len(row))] for i, row in enumerate(scores)]
