"""Rep-TCN, the re-parameterised temporal convolution of HPI-GCN: up to five branches while
training, one kernel at inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.model import Branch, reached_taps
from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.fusible import ConvBN, FusibleConv, batch_norm_state
from trainables.reparam.fusion import Fusion
from trainables.reparam.kept import ConvOptions, conv_over_time
from trainables.reparam.kernels import (
    add_branches,
    average_kernel,
    fuse_conv_bn,
    merge_pointwise,
    widen_kernel,
)


class PaddedBatchNorm(BatchNorm2d):
    """BatchNorm, then `rows` rows on both ends of time that hold the image of zero: beta - s mean
    with the running statistics.

    Fusing is then exact in evaluation mode: it equals padding the input with zeros. In training the
    statistics are those after this step's update, and no gradient flows through the rows. (N, C, T,
    V) -> (N, C, T + 2 rows, V).
    """

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__(channels)
        self.rows = rows

    def forward(self, input: Tensor) -> Tensor:
        inside = super().forward(input)
        value = batch_norm_state(self).image_of_zero.detach().to(inside.dtype)
        ends = value[:, None, None].expand(inside.shape[0], -1, self.rows, inside.shape[3])
        return torch.cat([ends, inside, ends], dim=2)


class PaddedBranch(FusibleConv):
    """1x1 convolution -> padded BatchNorm -> (size, 1) convolution without padding -> BatchNorm."""

    def __init__(self, channels: int, size: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.stride, self.groups, self.dilation = stride, groups, 1
        self.pointwise = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.pad_bn = PaddedBatchNorm(channels, size // 2)
        self.conv = nn.Conv2d(
            channels, channels, (size, 1), stride=(stride, 1), groups=groups, bias=False
        )
        self.bn = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(self.pad_bn(self.pointwise(x))))
        return out

    def fuse(self) -> tuple[Tensor, Tensor]:
        first = fuse_conv_bn(self.pointwise.weight, batch_norm_state(self.pad_bn))
        second = fuse_conv_bn(self.conv.weight, batch_norm_state(self.bn))
        return merge_pointwise(*first, *second, groups=self.groups)


class AverageBranch(FusibleConv):
    """1x1 convolution -> padded BatchNorm -> average over 3 frames -> BatchNorm."""

    def __init__(self, channels: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.stride, self.groups, self.dilation = stride, groups, 1
        self.pointwise = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.pad_bn = PaddedBatchNorm(channels, 1)
        self.bn = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(average_of_three(self.pad_bn(self.pointwise(x)), self.stride))
        return out

    def fuse(self) -> tuple[Tensor, Tensor]:
        kernel, bias = fuse_conv_bn(self.pointwise.weight, batch_norm_state(self.pad_bn))
        # by `average_kernel`, which only scales channels: no product of matrices is needed
        averaged = (kernel / 3).expand(-1, -1, 3, -1)
        return fuse_conv_bn(averaged, batch_norm_state(self.bn), bias)


class RepTCN(FusibleConv, Fusion):
    """Sum of temporal branches, no activation: (N, C, T, V) -> (N, C, floor((T - 1) / stride) + 1,
    V).

    origin: Kx1 -> BN; pointwise: 1x1 -> BN; average: 1x1 -> padded BN -> 3-frame mean -> BN; a
    number k: 1x1 -> padded BN -> kx1 -> BN. All are centred alike, so one Kx1 convolution with zero
    padding equals them in evaluation mode (HPI-GCN, section 3.3: K = 5 with k = 5; the released K =
    9 has k = 5 and 7).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        branches: Sequence[Branch],
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.groups, self.dilation = stride, groups, 1
        self.kernel_size = kernel_size
        self.reach = reached_taps(tuple(branches), kernel_size)
        self.branches = nn.ModuleDict(
            {str(branch): self._branch(branch, channels) for branch in branches}
        )

    def _branch(self, branch: Branch, channels: int) -> FusibleConv:
        if branch == "origin":
            return ConvBN(
                channels,
                channels,
                kernel_size=self.kernel_size,
                stride=self.stride,
                groups=self.groups,
            )
        if branch == "pointwise":
            return ConvBN(channels, channels, stride=self.stride, groups=self.groups)
        if branch == "average":
            return AverageBranch(channels, stride=self.stride, groups=self.groups)
        return PaddedBranch(channels, branch, stride=self.stride, groups=self.groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            with torch.autocast(x.device.type, enabled=False):
                kernel, bias = self.fuse()
            options = ConvOptions(self.stride, padding=self.kernel_size // 2, groups=self.groups)
            return conv_over_time(x, kernel, bias, self.kernel_mask, options, self._widened)
        first, *others = self.branches.values()  # in the order given: it decides the last bits
        total: Tensor = first(x)
        for branch in others:
            # in place: a BatchNorm does not need its output for the backward pass
            total += branch(x)
        return total

    def fuse(self) -> tuple[Tensor, Tensor]:
        kernel, bias = self._sum()
        return self._widened(self.masked_kernel(kernel)), bias

    def _widened(self, kernel: Tensor) -> Tensor:
        return widen_kernel(kernel, self.kernel_size)

    def one_kernel(self) -> Tensor:
        return self._sum()[0]

    def _sum(self) -> tuple[Tensor, Tensor]:
        """All branches as one kernel over the frames that some branch sees."""
        fused = [
            branch.fuse() for branch in self.branches.values() if isinstance(branch, FusibleConv)
        ]
        return add_branches([(widen_kernel(kernel, self.reach), bias) for kernel, bias in fused])

    def parts(self) -> list[nn.Conv2d]:
        return [module for module in self.branches.modules() if isinstance(module, nn.Conv2d)]

    def masks_within(self, mask: Tensor) -> list[Tensor]:
        """origin and pointwise take the mask's taps; average, which spreads its 1x1 kernel over
        three taps, what all of them keep.

        A 1x1-then-kx1 branch is a product: whatever 1x1 kernel stands there, output o sees input j
        through every channel between them. With a diagonal one that only scales channels the
        product keeps the support of the kx1 kernel, which takes the mask's taps.
        """
        masks = []
        for branch in self.branches.values():
            if isinstance(branch, AverageBranch):
                masks.append(_middle(mask, 3).amin(dim=2, keepdim=True))
                continue
            if isinstance(branch, PaddedBranch):
                masks.append(average_kernel(mask.shape[0], 1, groups=self.groups, like=mask))
            assert isinstance(branch, ConvBN | PaddedBranch)
            masks.append(_middle(mask, branch.conv.kernel_size[0]))
        return masks


def _middle(kernel: Tensor, taps: int) -> Tensor:
    first = (kernel.shape[2] - taps) // 2
    return kernel[:, :, first : first + taps]


def average_of_three(x: Tensor, stride: int) -> Tensor:
    """Mean of 3 consecutive frames, every `stride` frames, no padding: (N, C, T, V) -> (N, C,
    floor((T - 3) / stride) + 1, V).

    On the CPU the pooling operator takes 4 to 5 times as long as adding shifted views, forward and
    backward.
    """
    if x.is_cuda or torch.compiler.is_compiling():
        return F.avg_pool2d(x, (3, 1), (stride, 1))
    pooled: Tensor = _ShiftedMean.apply(x, stride)  # type: ignore[no-untyped-call]
    return pooled


class _ShiftedMean(torch.autograd.Function):
    """(x[0::s] + x[1::s] + x[2::s]) / 3 over time; the backward pass adds g / 3 into the three
    shifted views.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        ctx.shape, ctx.stride = x.shape, stride
        first, second, third = _shifted(x, stride)
        return (first + second).add_(third).div_(3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        third_of_gradient = gradient / 3
        result = gradient.new_zeros(ctx.shape)
        for view in _shifted(result, ctx.stride):
            view += third_of_gradient
        return result, None


def _shifted(x: Tensor, stride: int) -> list[Tensor]:
    """Three views of x, starting at frames 0, 1 and 2, every `stride` frames, equally long."""
    last = (x.shape[2] - 3) // stride * stride
    return [x[:, :, shift : last + shift + 1 : stride] for shift in range(3)]
