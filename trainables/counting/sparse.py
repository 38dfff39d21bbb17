"""Zeros of masked networks by arithmetic: exact where a level fixes them, expected where random masks meet. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from trainables.contract.model import Branch, branch_taps
from trainables.contract.sparsity import Scope, SparsityConfig
from trainables.counting.tally import Fused, Kernel, Pieces


def removed_count(size: int, level: float) -> int:
    """How many of `size` weights a level removes: round(level * (size - 1)), halves to even.

    The sparse ST-GCN study keeps scores >= the k-th smallest with k = 1 + round(level * (size - 1)), so k - 1 are removed;
    at level 0 none, and never all.
    """
    return round(level * (size - 1)) if size else 0


def mask_units(sizes: Sequence[Sequence[int]], scope: Scope) -> list[list[int]]:
    """Sizes of the tensors of every unit within which a level holds exactly; `sizes` are those of the tensors of each block."""
    tensors = [size for block in sizes for size in block]
    units = {"tensor": [[size] for size in tensors], "block": [list(block) for block in sizes], "global": [tensors]}
    return units[scope]


def erk_counts(shapes: Sequence[tuple[int, ...]], level: float) -> list[int]:
    """How many weights each tensor loses under the Erdos-Renyi-kernel distribution (Evci et al. 2020, RigL).

    A tensor keeps a share of its weights proportional to sum(shape) / prod(shape), at most all of them; the factor is such that all tensors
    together lose removed_count(all weights, level). What is left by rounding goes to the largest remainders, then to the first tensors.
    """
    sizes = [math.prod(shape) for shape in shapes]
    kept = sum(sizes) - removed_count(sum(sizes), level)
    weight = [float(sum(shape)) for shape in shapes]  # share * size is proportional to this
    full: set[int] = set()
    while True:
        rest = [i for i in range(len(sizes)) if i not in full]
        factor = (kept - sum(sizes[i] for i in full)) / sum(weight[i] for i in rest) if rest else 0.0
        over = {i for i in rest if factor * weight[i] > sizes[i]}
        if not over:
            break
        full |= over
    quota = [float(sizes[i]) if i in full else factor * weight[i] for i in range(len(sizes))]
    whole = [min(int(q + 1e-9), size) for q, size in zip(quota, sizes, strict=True)]
    spare = sorted((i for i in range(len(sizes)) if whole[i] < sizes[i]), key=lambda i: (whole[i] - quota[i], i))
    for i in spare[: kept - sum(whole)]:
        whole[i] += 1
    return [size - number for size, number in zip(sizes, whole, strict=True)]


def side(width: int, level: float) -> int:
    """Channels that sharing `channels` keeps of `width`: round(width sqrt(1 - level)), at least one, so that a kernel keeps about 1 - level."""
    return max(1, round(width * math.sqrt(1.0 - level)))


def trained_zeros(pieces: Pieces, sparsity: SparsityConfig) -> int:
    """Weights of the training form that masks remove; expected where a mask is on a fused kernel."""
    zeros = 0.0
    for piece, shares in _kept_shares(pieces, sparsity):
        if isinstance(piece, Kernel) or not _one_mask(piece, sparsity):
            zeros += sum(kernel.size * (1.0 - share) for kernel, share in zip(piece.kernels, shares, strict=True))
        elif sparsity.sharing == "branches":
            zeros += sum(kernel.size for kernel in piece.parts) - _kept_in_branches(piece, shares[0])
    return round(zeros)


def deployed_zeros(pieces: Pieces, sparsity: SparsityConfig, *, merged: bool) -> tuple[int, bool]:
    """(weights of the deploy form that are zero, whether that is exact or an expected value), weights that no branch reaches included.

    merged: the convolutions around an adjacency are one.
    """
    zeros, exact = 0.0, True
    for piece, shares in _kept_shares(pieces, sparsity):
        if isinstance(piece, Kernel):
            zeros += piece.size * (1.0 - shares[0])
        elif _one_mask(piece, sparsity):
            zeros += piece.kernel.size * (1.0 - shares[0]) + piece.unreached
        elif piece.how == "product" and not merged:
            zeros += sum(kernel.size * (1.0 - share) for kernel, share in zip(piece.parts, shares, strict=True))
        elif sparsity.sharing == "channels":
            zeros += piece.kernel.size - _rectangle(piece, piece.kernel, sparsity.expected_level) + piece.unreached
            zeros += piece.kernel.outside - side(piece.kernel.outside, sparsity.expected_level) if piece.how == "product" else 0  # of W1 b0
        else:
            zeros += piece.kernel.size - _expected(piece, shares) + piece.unreached
            exact = exact and sparsity.expected_level == 0.0
    return round(zeros), exact


def _one_mask(piece: Fused, sparsity: SparsityConfig) -> bool:
    """Whether the level counts the weights of the fused kernel instead of those of its parts."""
    return sparsity.sharing == "fused" or (sparsity.sharing == "branches" and piece.how == "branches")


def _kept_shares(pieces: Pieces, sparsity: SparsityConfig) -> Iterator[tuple[Kernel | Fused, list[float]]]:
    """Every piece with the share that each of its masks keeps: expected, where a unit's weights are drawn from several tensors."""
    level = sparsity.expected_level
    if sparsity.sharing == "channels":
        for piece in (piece for block in pieces for piece in block):
            yield piece, [_rectangle(piece, kernel, level) / kernel.size for kernel in piece.kernels]
        return
    masks = [
        [(piece.kernel,) if isinstance(piece, Fused) and _one_mask(piece, sparsity) else piece.kernels for piece in block] for block in pieces
    ]
    shares = iter(_drawn_shares([[kernel for kernels in block for kernel in kernels] for block in masks], sparsity))
    for block, found in zip(pieces, masks, strict=True):
        for piece, kernels in zip(block, found, strict=True):
            yield piece, [next(shares) for _ in kernels]


def _drawn_shares(kernels: Sequence[Sequence[Kernel]], sparsity: SparsityConfig) -> list[float]:
    level, flat = sparsity.expected_level, [kernel for block in kernels for kernel in block]
    if sparsity.distribution == "erk":
        return [1.0 - count / kernel.size for count, kernel in zip(erk_counts([kernel.shape for kernel in flat], level), flat, strict=True)]
    units = mask_units([[kernel.size for kernel in block] for block in kernels], sparsity.scope)
    return [1.0 - removed_count(sum(unit), level) / sum(unit) for unit in units for _ in unit]


def _rectangle(piece: Kernel | Fused, kernel: Kernel, level: float) -> int:
    """Weights of `kernel` that sharing `channels` keeps; the two halves of [W1 W2] keep the same inputs."""
    if isinstance(piece, Fused) and piece.how == "difference":
        return 2 * side(piece.parts[0].outside, level) * side(piece.kernel.inside, level)
    return side(kernel.outside, level) * side(kernel.inside, level) * kernel.taps


def _expected(piece: Fused, shares: Sequence[float]) -> float:
    """Expected number of non-zero weights of a fused kernel whose parts have independent random masks."""
    if piece.how == "product":
        return piece.kernel.size * _product(shares[0], shares[1], piece.parts[0].outside)
    if piece.how == "difference":  # W1 as it is, W2 - W1 non-zero where either is
        return piece.kernel.size * (shares[0] + _sum([shares[0], shares[0]])) / 2
    left, branches = list(shares), []
    for branch in piece.branches:
        first = left.pop(0)
        density = _product(first, left.pop(0), piece.kernel.outside) if isinstance(branch, int) else first
        branches.append((branch_taps(branch, piece.kernel.taps) // 2, density))
    middle = piece.kernel.taps // 2
    taps = [_sum([density for reach, density in branches if abs(tap - middle) <= reach]) for tap in range(piece.kernel.taps)]
    return piece.kernel.outside * piece.kernel.inside * sum(taps)


def _kept_in_branches(piece: Fused, share: float) -> float:
    """Expected number of weights of the branches whose sum stays within a random mask that keeps `share` (see `RepTCN.masks_within`)."""
    per_tap = piece.kernel.outside * piece.kernel.inside

    def kept(branch: Branch) -> float:
        if branch == "average":
            return per_tap * share**3
        scales = piece.kernel.outside if isinstance(branch, int) else 0
        return scales + per_tap * branch_taps(branch, piece.kernel.taps) * share

    return sum(map(kept, piece.branches))


def _product(first: float, second: float, between: int) -> float:
    """Expected density of W2 W1 with random supports of these densities and `between` channels in between."""
    return 1.0 - (1.0 - first * second) ** between


def _sum(densities: Sequence[float]) -> float:
    """Expected density of a sum with independent random supports."""
    return 1.0 - math.prod(1.0 - density for density in densities)
