"""The six temporal branches of ST-GCN++ and, with the mean over joints beside them, of DG-STGCN.

Knows no backbone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.ms_tcn import maximum_of_three
from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.fusible import (
    ConvBN,
    Deployable,
    Folding,
    batch_norm_state,
    frozen,
    frozen_conv,
    plain_copy,
    temporal_conv,
)

DILATIONS = (1, 2, 3, 4)


class SixBranchTCN(Deployable):
    """PYSKL's mstcn: six branches side by side, then BatchNorm -> ReLU -> 1x1 convolution ->
    BatchNorm.

    Four are 1x1 -> BN -> ReLU -> Kx1 with dilation 1, 2, 3, 4; one is 1x1 -> BN -> ReLU -> maximum
    of 3 frames; one is a 1x1 convolution. Each has floor(C / 6) channels, the first takes the
    remainder too. Convolutions have biases. The five 1x1 -> BN -> ReLU are computed as one. (N, C,
    T, V) -> (N, C, floor((T - 1) / stride) + 1, V) (Duan et al. 2022, ST-GCN++).
    """

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        sixth = channels // 6
        # of the branches behind `embed`
        self.widths = [channels - 5 * sixth, sixth, sixth, sixth, sixth]
        self.stride = stride
        self.embed = ConvBN(channels, channels - sixth, bias=True)
        self.dilated = nn.ModuleList(
            temporal_conv(width, width, kernel_size=kernel_size, stride=stride, dilation=dilation)
            for width, dilation in zip(self.widths[:-1], DILATIONS, strict=True)
        )
        self.pointwise = temporal_conv(channels, sixth, stride=stride)
        self.norm = BatchNorm2d(channels)
        self.project = ConvBN(channels, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(F.relu(self.norm(self.branches(x)), inplace=True))
        return out

    def branches(self, x: Tensor) -> Tensor:
        """The six of them before the common BatchNorm: (N, C, T', V)."""
        *parts, pooled = torch.split(F.relu(self.embed(x), inplace=True), self.widths, dim=1)
        dilated = [conv(part) for conv, part in zip(self.dilated, parts, strict=True)]
        return torch.cat(
            [*dilated, maximum_of_three(pooled, self.stride), self.pointwise(x)], dim=1
        )

    def deployed(self, folding: Folding) -> nn.Module:
        return FoldedSixBranchTCN(self, None) if folding.across else plain_copy(self, folding)


class GlobalSixBranchTCN(SixBranchTCN):
    """PYSKL's dgmstcn: the mean over joints passes through the branches as one joint more, and
    every joint takes some of its result.

    branches[v] + coefficients[v] branches[V], before the common BatchNorm; coefficients (V,) start
    at 0 (Duan et al. 2022, DG-STGCN).
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, *, joints: int) -> None:
        super().__init__(channels, kernel_size, stride)
        self.coefficients = nn.Parameter(torch.zeros(joints))

    def branches(self, x: Tensor) -> Tensor:
        out = super().branches(with_mean_joint(x))
        return torch.addcmul(out[..., :-1], out[..., -1:], self.coefficients)

    def deployed(self, folding: Folding) -> nn.Module:
        return (
            FoldedSixBranchTCN(self, self.coefficients)
            if folding.across
            else plain_copy(self, folding)
        )


class FoldedSixBranchTCN(nn.Module):
    """The deploy form of both: no BatchNorm but behind the maximum, where a negative scale cannot
    pass through.

    The common BatchNorm s y + b is in each branch. With the mean joint, s (y[v] + c[v] y[V]) + b =
    (s y[v] + b) + c[v] (s y[V] + b - b).
    """

    def __init__(self, trained: SixBranchTCN, coefficients: Tensor | None) -> None:
        """coefficients: (V,) of the mean joint; None: there is none."""
        super().__init__()
        self.widths, self.stride = trained.widths, trained.stride
        norm = batch_norm_state(trained.norm)
        widths = [*self.widths, self.widths[-1]]
        *scales, pool_scale, last_scale = torch.split(norm.scale, widths)
        *shifts, pool_shift, last_shift = torch.split(norm.image_of_zero, widths)
        self.embed = frozen_conv(*trained.embed.fuse())
        self.dilated = nn.ModuleList(
            _scaled(conv, scale, shift)
            for conv, scale, shift in zip(trained.dilated, scales, shifts, strict=True)
            if isinstance(conv, nn.Conv2d)
        )
        self.pool_scale = frozen(pool_scale[:, None, None])
        self.pool_shift = frozen(pool_shift[:, None, None])
        self.pointwise = _scaled(trained.pointwise, last_scale, last_shift)
        self.project = frozen_conv(*trained.project.fuse())
        self.coefficients = None if coefficients is None else frozen(coefficients)
        self.shift = None if coefficients is None else frozen(norm.image_of_zero[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        *parts, pooled = torch.split(
            F.relu(self._with_mean(self.embed(x)), inplace=True), self.widths, dim=1
        )
        dilated = [conv(part) for conv, part in zip(self.dilated, parts, strict=True)]
        pooled = torch.addcmul(
            self.pool_shift, maximum_of_three(pooled, self.stride), self.pool_scale
        )
        y = torch.cat([*dilated, pooled, self._with_mean(self.pointwise(x))], dim=1)
        if self.coefficients is not None:
            assert self.shift is not None
            y = torch.addcmul(y[..., :-1], y[..., -1:] - self.shift, self.coefficients)
        out: Tensor = self.project(F.relu(y, inplace=True))
        return out

    def _with_mean(self, x: Tensor) -> Tensor:
        """Behind a 1x1 convolution, which passes a mean through."""
        return x if self.coefficients is None else with_mean_joint(x)


def with_mean_joint(x: Tensor) -> Tensor:
    """The mean over joints as joint V: (N, C, T, V) -> (N, C, T, V + 1)."""
    return torch.cat([x, x.mean(dim=3, keepdim=True)], dim=3)


def _scaled(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """scale conv(x) + shift as one convolution; scale and shift: (C_out,)."""
    assert conv.bias is not None
    kernel, bias = conv.weight * scale[:, None, None, None], conv.bias * scale + shift
    return frozen_conv(kernel, bias, stride=conv.stride[0], dilation=conv.dilation[0])
