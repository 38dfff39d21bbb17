"""Slow, obvious twins of the masks' arithmetic."""

import math
from collections.abc import Sequence


def kth_smallest_mask(scores: Sequence[float], level: float) -> list[int]:
    """Keep scores >= the k-th smallest, k = 1 + round(level (n - 1)), as the released sparse ST-GCN
    code does.
    """
    k = 1 + round(level * (len(scores) - 1))
    threshold = sorted(scores)[k - 1]
    return [1 if score >= threshold else 0 for score in scores]


def group_lasso(weights: list[list[float]], masks: list[list[float]]) -> float:
    """Sum over blocks of the Euclidean length of the masked-out weights."""
    total = 0.0
    for block, kept in zip(weights, masks, strict=True):
        total += math.sqrt(sum(w * w for w, keep in zip(block, kept, strict=True) if not keep))
    return total


def global_norm(weights: list[list[float]], masks: list[list[float]]) -> float:
    """Euclidean length of all masked-out weights together."""
    return math.sqrt(
        sum(
            w * w
            for block, kept in zip(weights, masks, strict=True)
            for w, keep in zip(block, kept, strict=True)
            if not keep
        )
    )


def exchanged(
    weights: Sequence[float], mask: Sequence[int], promise: Sequence[float], count: int
) -> list[int]:
    """Drop the `count` kept weights with the smallest |w|, grow the `count` others, dropped ones
    among them, with the largest promise.
    """
    kept = sorted((i for i, keep in enumerate(mask) if keep), key=lambda i: abs(weights[i]))[count:]
    others = sorted((i for i in range(len(mask)) if i not in kept), key=lambda i: promise[i])
    stays = set(kept) | set(others[len(others) - count :])
    return [int(i in stays) for i in range(len(mask))]


def pruned(weights: Sequence[float], mask: Sequence[int], left: int) -> list[int]:
    """Keep the `left` largest |w| of those that are still there."""
    there = sorted((i for i, keep in enumerate(mask) if keep), key=lambda i: -abs(weights[i]))
    return [int(i in there[:left]) for i in range(len(mask))]


def block_mask(
    taps: list[list[list[float]]], height: int, width: int, removed: int
) -> list[list[list[int]]]:
    """Of matrices cut into blocks of height x width, shorter ones at the edges: zero in those with
    the `removed` smallest means of all.
    """
    rows, columns = len(taps[0]), len(taps[0][0])
    blocks = [
        [
            (tap, i, j)
            for i in range(top, min(top + height, rows))
            for j in range(left, min(left + width, columns))
        ]
        for tap in range(len(taps))
        for top in range(0, rows, height)
        for left in range(0, columns, width)
    ]
    blocks.sort(key=lambda places: sum(taps[tap][i][j] for tap, i, j in places) / len(places))
    gone = {place for places in blocks[:removed] for place in places}
    return [
        [[int((tap, i, j) not in gone) for j in range(columns)] for i in range(rows)]
        for tap in range(len(taps))
    ]


def n_of_m_mask(row: Sequence[float], n: int, m: int) -> list[int]:
    """In every m consecutive numbers of a row the n largest stay; a last group of fewer than m
    stays whole.
    """
    mask = [1] * len(row)
    for start in range(0, len(row) - m + 1, m):
        for i in sorted(range(start, start + m), key=lambda i: row[i])[: m - n]:
            mask[i] = 0
    return mask


def soft_threshold(weight: float, threshold: float) -> float:
    """Towards zero by the threshold, zero within it."""
    return math.copysign(max(abs(weight) - threshold, 0.0), weight)


def hard_concrete(gate: float, u: float | None = None) -> float:
    """Louizos et al. 2018, equations 10 and 13 with beta 2/3 and a stretch to (-0.1, 1.1); without
    u as their networks are evaluated.
    """
    s = sigmoid(gate) if u is None else sigmoid((math.log(u) - math.log(1 - u) + gate) / (2 / 3))
    return min(1.0, max(0.0, s * 1.2 - 0.1))


def threshold_kept(weights: list[list[float]], gates: list[float]) -> float:
    """Soft count of the weights above one threshold per tensor, thresholds and band (0.2) in root
    mean squares of the tensor.
    """
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
    gone = {
        (i, j)
        for _, i, j in [entry for entry in ranked if (entry[1], entry[2]) not in best][:removed]
    }
    return [[int((i, j) not in gone) for j in range(len(row))] for i, row in enumerate(scores)]


def branch_supports(
    branches, masks: list[list[list[list[float]]]], reach: int, groups: int
) -> list[list[list[list[float]]]]:
    """Where each branch of Rep-TCN, its parts masked, can put a weight of a kernel (C, C / groups,
    reach): every path is followed.

    masks[part][o][i][k]; a path goes from input i of a group over every channel between that both
    kernels keep.
    """
    left, supports = list(masks), []
    for branch in branches:
        first = left.pop(0)
        width = len(first[0])
        second = None
        if branch == "average":
            second = [
                [[1.0] * 3 if i == o % width else [0.0] * 3 for i in range(width)]
                for o in range(len(first))
            ]
        elif isinstance(branch, int):
            second = left.pop(0)
        taps = len((second or first)[0][0])
        support = [[[0.0] * reach for _ in range(width)] for _ in range(len(first))]
        for o in range(len(first)):
            for i in range(width):
                for k in range(taps):
                    if second is None:
                        kept = first[o][i][k]
                    else:
                        start = o // (len(first) // groups) * width
                        kept = max(
                            second[o][between][k] * first[start + between][i][0]
                            for between in range(width)
                        )
                    support[o][i][(reach - taps) // 2 + k] = kept
        supports.append(support)
    return supports


def unpacked(packed: dict, size: int) -> list[float]:
    """The numbers of a packed tensor, one after the other."""
    numbers, values, position = [0.0] * size, list(packed["values"]), 0
    if packed["kind"] == "all":
        return values
    if packed["kind"] == "bits":
        for position in range(size):
            if packed["where"][position // 8] >> (7 - position % 8) & 1:
                numbers[position] = values.pop(0)
        return numbers
    for gap, value in zip(packed["where"], values, strict=True):
        position += gap
        numbers[position] = value
        position += 1
    return numbers
