"""How many weights a level removes (its rounding), and how they are shared out among tensors.

Knows shapes of tensors, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainables.contract.sparsity import Distribution, Scope, SparsityConfig

WORTH_A_WORD = 0.05
"""From this probability on it is said that a tensor may keep no weight."""

Shape = tuple[int, ...]
"""(C_out, C_in of a group, taps, 1) of a convolution's weight."""


def removed_count(size: int, level: float) -> int:
    """How many of `size` weights a level removes: round(level * (size - 1)), halves to even.

    The sparse ST-GCN study keeps scores >= the k-th smallest with k = 1 + round(level * (size -
    1)), so k - 1 are removed; at level 0 none, and never all.
    """
    return round(level * (size - 1)) if size else 0


def mask_units(sizes: Sequence[Sequence[int]], scope: Scope) -> list[list[int]]:
    """Sizes of the tensors of every unit within which a level holds exactly; `sizes` are those of
    the tensors of each block.
    """
    tensors = [size for block in sizes for size in block]
    units = {
        "tensor": [[size] for size in tensors],
        "block": [list(block) for block in sizes],
        "global": [tensors],
    }
    return units[scope]


def unit_counts(
    shapes: Sequence[Sequence[Shape]],
    level: float,
    scope: Scope,
    distribution: Distribution = "uniform",
) -> list[tuple[int, int]]:
    """(how many tensors, how many of their weights go) of every unit, in layer order; `shapes` are
    those of the tensors of each block.
    """
    if distribution == "erk":
        return [
            (1, count)
            for count in erk_counts([shape for block in shapes for shape in block], level)
        ]
    sizes = [[math.prod(shape) for shape in block] for block in shapes]
    return [(len(unit), removed_count(sum(unit), level)) for unit in mask_units(sizes, scope)]


def erk_counts(shapes: Sequence[Shape], level: float) -> list[int]:
    """How many weights each tensor loses under the Erdos-Renyi-kernel distribution (Evci et al.
    2020, RigL).

    A tensor keeps a share of its weights proportional to sum(shape) / prod(shape), at most all of
    them; the factor is such that all tensors together lose removed_count(all weights, level). What
    is left by rounding goes to the largest remainders, then to the first tensors.
    """
    sizes = [math.prod(shape) for shape in shapes]
    kept = sum(sizes) - removed_count(sum(sizes), level)
    weight = [float(sum(shape)) for shape in shapes]  # share * size is proportional to this
    full: set[int] = set()
    factor = math.nan  # not asked for where all are full
    while rest := [i for i in range(len(sizes)) if i not in full]:
        factor = (kept - sum(sizes[i] for i in full)) / sum(weight[i] for i in rest)
        over = {i for i in rest if factor * weight[i] > sizes[i]}
        if not over:
            break
        full |= over
    quota = [float(sizes[i]) if i in full else factor * weight[i] for i in range(len(sizes))]
    whole = [min(int(q + 1e-9), size) for q, size in zip(quota, sizes, strict=True)]
    spare = sorted(
        (i for i in range(len(sizes)) if whole[i] < sizes[i]),
        key=lambda i: (whole[i] - quota[i], i),
    )
    for i in spare[: kept - sum(whole)]:
        whole[i] += 1
    return [size - number for size, number in zip(sizes, whole, strict=True)]


def group_sizes(structure: str) -> tuple[int, int]:
    """(n, m) of structure n:m, (H, W) of structure HxW."""
    first, second = structure.replace("x", ":").split(":")
    return int(first), int(second)


def group_count(shape: Shape, structure: str) -> int:
    """Groups of weights that go together: output channels, or HxW blocks of (C_out, C_in) at every
    tap, short ones at the edges included.
    """
    if structure == "channel":
        return shape[0]
    height, width = group_sizes(structure)
    return -(-shape[0] // height) * -(-shape[1] // width) * math.prod(shape[2:])


def structured_count(shape: Shape, level: float, structure: str) -> int:
    """How many weights a tensor loses where they go in groups; with HxW blocks and short ones among
    them, as many as on average.
    """
    if ":" in structure:
        n, m = group_sizes(structure)
        return shape[1] // m * (m - n) * shape[0] * math.prod(shape[2:])
    groups = group_count(shape, structure)
    return round(removed_count(groups, level) * math.prod(shape) / groups)


def structure_of(config: SparsityConfig) -> str:
    """The structure the masks of a configuration have: that of a generator that chooses by a score,
    weight for the others.
    """
    return config.structure if config.card.structured else "weight"


def removed_params(shapes: Sequence[Sequence[Shape]], config: SparsityConfig) -> int:
    """Weights that a configuration removes in all; `shapes` are those of the maskable tensors of
    each block.

    Where a file holds the masks this is what its level says, to the digits of the level.
    """
    level, structure = config.expected_level, structure_of(config)
    if structure != "weight" and level > 0:
        return sum(structured_count(shape, level, structure) for block in shapes for shape in block)
    return sum(count for _, count in unit_counts(shapes, level, config.scope, config.distribution))


def emptied(
    shapes: Sequence[Sequence[Shape]], config: SparsityConfig
) -> list[tuple[int, Shape, float]]:
    """(block, shape, probability) of the tensors that probably keep no weight, from WORTH_A_WORD
    on; none where scores decide.

    Under erk the probability is 1. Of the N weights of a unit of the scope random masks keep k, and
    none of the n of a tensor with probability C(N - n, k) / C(N, k), not counting that masks are
    drawn again where they disconnect the network.
    """
    known = config.distribution == "erk" or config.card.drawn
    if config.dense or config.level == "learned" or structure_of(config) != "weight" or not known:
        return []
    likely, places = (
        [],
        iter([(number, shape) for number, block in enumerate(shapes) for shape in block]),
    )
    for tensors, removed in unit_counts(
        shapes, config.expected_level, config.scope, config.distribution
    ):
        unit = [next(places) for _ in range(tensors)]
        total = sum(math.prod(shape) for _, shape in unit)
        chances = [
            (number, shape, _none_of(math.prod(shape), total, total - removed))
            for number, shape in unit
        ]
        likely += [each for each in chances if each[2] >= WORTH_A_WORD]
    return likely


def _none_of(size: int, total: int, kept: int) -> float:
    """Probability that none of `size` among `total` is drawn when `kept` are: C(total - size, kept)
    / C(total, kept).
    """
    if kept > total - size:
        return 0.0
    logs = [math.lgamma(n + 1) for n in (total - size, total - size - kept, total, total - kept)]
    return math.exp(logs[0] - logs[1] - logs[2] + logs[3]) if kept else 1.0
