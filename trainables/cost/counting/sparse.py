"""Zeros of masked networks by arithmetic: exact where a level fixes them, expected where random
masks meet. Knows no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from math import prod

from trainables.contract.model import Branch, branch_taps
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.tally import Fused, Kernel, Piece, Pieces, kernels_of
from trainables.sparsity.amounts import (
    group_sizes,
    mask_units,
    removed_count,
    removed_params,
    structure_of,
    structured_count,
    unit_counts,
)


def side(width: int, level: float) -> int:
    """Channels that sharing `channels` keeps of `width`: round(width sqrt(1 - level)), at least
    one, so that a kernel keeps about 1 - level.
    """
    return max(1, round(width * math.sqrt(1.0 - level)))


def trained_zeros(pieces: Pieces, sparsity: SparsityConfig) -> int:
    """Weights of the training form that masks remove; expected
    where a mask is on a fused kernel.
    """
    if sparsity.sharing == "none" or sparsity.expected_level == 0.0:
        return removed_params(
            [[kernel for piece in block for kernel in kernels_of(piece)] for block in pieces],
            sparsity,
        )
    zeros = 0.0
    for piece, shares in _kept_shares(pieces, sparsity):
        if not _one_mask(piece, sparsity):
            zeros += sum(
                prod(kernel) * (1.0 - share)
                for kernel, share in zip(kernels_of(piece), shares, strict=True)
            )
        elif isinstance(piece, Fused) and sparsity.sharing == "branches":
            zeros += sum(map(prod, piece.parts)) - _kept_in_branches(piece, shares[0])
    return round(zeros)


def deployed_zeros(pieces: Pieces, sparsity: SparsityConfig, *, merged: bool) -> tuple[int, bool]:
    """(weights of the deploy form that are zero, whether that is exact or an expected value),
    weights that no branch reaches included.

    merged: the convolutions around an adjacency are one.
    """
    level, structure = sparsity.expected_level, structure_of(sparsity)
    zeros, exact = 0.0, level == 0.0 or "x" not in structure  # short blocks at the edges
    for piece, shares in _kept_shares(pieces, sparsity):
        if not isinstance(piece, Fused):
            zeros += prod(piece) * (1.0 - shares[0])
        elif _one_mask(piece, sparsity):
            zeros += prod(piece.kernel) * (1.0 - shares[0]) + piece.unreached
        elif piece.how == "product" and not merged:
            zeros += sum(
                prod(kernel) * (1.0 - share)
                for kernel, share in zip(piece.parts, shares, strict=True)
            )
        elif sparsity.sharing == "channels":
            zeros += prod(piece.kernel) - _rectangle(piece, piece.kernel, level) + piece.unreached
            # of W1 b0
            zeros += piece.kernel[0] - side(piece.kernel[0], level) if piece.how == "product" else 0
        else:
            zeros += prod(piece.kernel) - _expected(piece, shares, structure) + piece.unreached
            exact = exact and level == 0.0
    return round(zeros), exact


def _one_mask(piece: Piece, sparsity: SparsityConfig) -> bool:
    """Whether the level counts the weights of the fused kernel instead of those of its parts."""
    return isinstance(piece, Fused) and (
        sparsity.sharing == "fused" or (sparsity.sharing == "branches" and piece.how == "branches")
    )


def _kept_shares(pieces: Pieces, sparsity: SparsityConfig) -> Iterator[tuple[Piece, list[float]]]:
    """Every piece with the share that each of its masks keeps: expected, where a unit's weights are
    drawn from several tensors.
    """
    if sparsity.sharing == "channels":
        for piece in (piece for block in pieces for piece in block):
            yield (
                piece,
                [
                    _rectangle(piece, kernel, sparsity.expected_level) / prod(kernel)
                    for kernel in kernels_of(piece)
                ],
            )
        return
    masks = [
        [
            (piece.kernel,)
            if isinstance(piece, Fused) and _one_mask(piece, sparsity)
            else kernels_of(piece)
            for piece in b
        ]
        for b in pieces
    ]
    shares = iter(
        _drawn_shares(
            [[kernel for kernels in block for kernel in kernels] for block in masks], sparsity
        )
    )
    for block, kept in zip(pieces, masks, strict=True):
        for piece, kernels in zip(block, kept, strict=True):
            yield piece, [next(shares) for _ in kernels]


def _drawn_shares(kernels: Sequence[Sequence[Kernel]], sparsity: SparsityConfig) -> list[float]:
    level, structure, flat = (
        sparsity.expected_level,
        structure_of(sparsity),
        [kernel for block in kernels for kernel in block],
    )
    if structure != "weight" and level > 0:
        return [1.0 - structured_count(kernel, level, structure) / prod(kernel) for kernel in flat]
    if sparsity.distribution == "erk":
        counts = unit_counts(kernels, level, sparsity.scope, "erk")
        return [1.0 - count / prod(kernel) for (_, count), kernel in zip(counts, flat, strict=True)]
    units = mask_units([[prod(kernel) for kernel in block] for block in kernels], sparsity.scope)
    return [1.0 - removed_count(sum(unit), level) / sum(unit) for unit in units for _ in unit]


def _rectangle(piece: Piece, kernel: Kernel, level: float) -> int:
    """Weights of `kernel` that sharing `channels` keeps; the two halves of [W1 W2] keep the same
    inputs.
    """
    if isinstance(piece, Fused) and piece.how == "difference":
        return 2 * side(piece.parts[0][0], level) * side(piece.kernel[1], level)
    return side(kernel[0], level) * side(kernel[1], level) * kernel[2]


def _expected(piece: Fused, shares: Sequence[float], structure: str) -> float:
    """Expected number of non-zero weights of a fused kernel whose parts have independent random
    masks.
    """
    outside, inside, taps, _ = piece.kernel
    if piece.how == "product":
        return prod(piece.kernel) * _product(shares[0], shares[1], piece.parts[0][0], structure)
    # W1 as it is, W2 - W1 non-zero where either is; with whole rows both are in the same ones
    if piece.how == "difference":
        either = shares[0] if structure == "channel" else _sum([shares[0], shares[0]])
        return prod(piece.kernel) * (shares[0] + either) / 2
    left, branches = list(shares), []
    for branch in piece.branches:
        first = left.pop(0)
        density = (
            _product(first, left.pop(0), outside, structure) if isinstance(branch, int) else first
        )
        branches.append((branch_taps(branch, taps) // 2, density))
    return (
        outside
        * inside
        * sum(
            _sum([density for reach, density in branches if abs(tap - taps // 2) <= reach])
            for tap in range(taps)
        )
    )


def _kept_in_branches(piece: Fused, share: float) -> float:
    """Expected number of weights of the branches whose sum stays within a random mask that keeps
    `share` (see `RepTCN.masks_within`).
    """
    outside, inside, taps, _ = piece.kernel

    def kept(branch: Branch) -> float:
        if branch == "average":
            return outside * inside * share**3
        scales = outside if isinstance(branch, int) else 0
        return scales + outside * inside * branch_taps(branch, taps) * share

    return sum(map(kept, piece.branches))


def _product(first: float, second: float, between: int, structure: str) -> float:
    """Expected density of W2 W1 with random supports of these densities and `between` channels in
    between.

    Of whole rows an output sees all inputs as soon as W1 keeps a row; HxW blocks are drawn
    together, so that there are fewer ways.
    """
    if structure == "channel":
        return second
    ways = -(-between // max(group_sizes(structure))) if "x" in structure else between
    return 1.0 - (1.0 - first * second) ** ways


def _sum(densities: Sequence[float]) -> float:
    """Expected density of a sum with independent random supports."""
    return 1.0 - prod(1.0 - density for density in densities)
