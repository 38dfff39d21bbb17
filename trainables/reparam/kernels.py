"""How trained branches are fused into one temporal kernel: six exact steps.

Pure functions of tensors; knows no modules.

Kernels are (C_out, C_in / groups, K, 1): they run over time and never mix joints. Every function
keeps its operands' dtype and device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class BatchNormState:
    """BatchNorm in evaluation mode: y = gamma (x - mean) / sqrt(var + eps) + beta, all (C,)."""

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor
    eps: float

    @property
    def scale(self) -> Tensor:
        """s = gamma / sqrt(var + eps), (C,)."""
        return self.gamma / torch.sqrt(self.var + self.eps)

    @property
    def image_of_zero(self) -> Tensor:
        """beta - s mean, (C,): what a zero-padded row becomes."""
        return self.beta - self.scale * self.mean


def average_kernel(channels: int, size: int, *, groups: int = 1, like: Tensor) -> Tensor:
    """Average pooling over `size` frames as a convolution: W[o, o mod (C / groups), k] = 1 / size,
    zero elsewhere; (C, C / groups, size, 1).

    `like` gives dtype and device: 1 / size must be rounded in the working precision, not in
    float32.
    """
    width = channels // groups
    # (C, C / groups)
    diagonal = torch.eye(width, dtype=like.dtype, device=like.device).repeat(groups, 1)
    return (diagonal / size)[:, :, None, None].repeat(1, 1, size, 1)


def fuse_conv_bn(
    kernel: Tensor, bn: BatchNormState, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Convolution then BatchNorm as one convolution: W' = s W, b' = beta - s mean (+ s b), s per
    output channel.

    kernel: (C_out, C_in / groups, K, 1), bias: (C_out,). Returns (W', b') of the same shapes (Ding
    et al. 2021, RepVGG).
    """
    scale = bn.scale  # (C_out,)
    fused_bias = bn.image_of_zero if bias is None else bn.image_of_zero + scale * bias
    return kernel * scale[:, None, None, None], fused_bias


def merge_pointwise(
    pointwise: Tensor,
    pointwise_bias: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    *,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution then a Kx1 one as one Kx1: W'[o, j, k] = sum_i W2[o, i, k] W1[i, j], b'[o]
    = b2[o] + sum_ik W2[o, i, k] b1[i].

    pointwise W1: (C, C_in / groups, 1, 1), kernel W2: (C_out, C / groups, K, 1); with groups, group
    by group. Exact only where the frames beyond the ends carry b1, the image of zero, and not zero
    itself (Ding et al. 2021, DBB).
    """
    first = pointwise.reshape(groups, pointwise.shape[0] // groups, -1)  # (g, C / g, C_in / g)
    # (g, C_out / g, C / g, K)
    second = kernel.reshape(groups, kernel.shape[0] // groups, kernel.shape[1], kernel.shape[2])
    merged = contiguous(
        torch.einsum("goik,gij->gojk", second, first).reshape(
            kernel.shape[0], first.shape[2], kernel.shape[2], 1
        )
    )
    merged_bias = torch.einsum("goik,gi->go", second, pointwise_bias.reshape(groups, -1)).reshape(
        -1
    )
    return merged, merged_bias if bias is None else merged_bias + bias


def contiguous(kernel: Tensor) -> Tensor:
    """A copy (C_out, C_in, K, 1) in memory in this order.

    A 1x1 kernel that was made otherwise can be contiguous and have the strides of channels_last,
    too: a convolution by it gives feature maps of that order. A network trained with such maps
    among others corrupted the heap in its backward pass (torch 2.13 on a CPU).
    """
    return kernel.clone(memory_format=torch.contiguous_format)


def add_branches(branches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Parallel convolutions of one shape, stride, padding and grouping as one: W' = sum W, b' = sum
    b.
    """
    (kernel, bias), *others = branches
    for other, other_bias in others:  # stacking them first would copy them all
        kernel, bias = kernel + other, bias + other_bias
    return kernel, bias


def widen_kernel(kernel: Tensor, size: int) -> Tensor:
    """A K1x1 kernel as a centred size x 1 one (both odd): (size - K1) / 2 zeros at each end of
    time; the bias stays.
    """
    margin = (size - kernel.shape[2]) // 2
    return torch.nn.functional.pad(kernel, (0, 0, margin, margin))


def sum_adjacency(matrices: Tensor) -> Tensor:
    """Parallel joint mixings as one: sum_n (A_n x) = (sum_n A_n) x; (n, V, V) -> (V, V)."""
    return matrices.sum(dim=0)
