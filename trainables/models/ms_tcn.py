"""MS-TCN: the four temporal branches of CTR-GCN, InfoGCN and HD-GCN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.fusible import (
    ConvBN,
    Deployable,
    Folding,
    batch_norm_state,
    frozen,
    plain_copy,
)

BRANCHES = 4
DILATIONS = (1, 2)


class MSTCN(Deployable):
    """Four branches of C/4 channels, concatenated: (N, C, T, V) -> (N, C, floor((T - 1) / stride) +
    1, V) (Chen et al. 2021, CTR-GCN).

    Two convolve over `kernel_size` frames, dilated 1 and 2, one takes the maximum of 3 frames, each
    behind a 1x1 convolution with BatchNorm and ReLU; the last is a strided 1x1 convolution.
    BatchNorm ends each branch; `relu`: a ReLU behind it, as in PYSKL's CTR-GCN and in InfoGCN. The
    three 1x1 convolutions are pointwise and read the same input: they are computed as one.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, *, relu: bool) -> None:
        super().__init__()
        width = channels // BRANCHES
        self.stride = stride
        self.relu = relu
        self.squeeze = ConvBN(channels, (len(DILATIONS) + 1) * width, bias=True)
        self.dilated = nn.ModuleList(
            ConvBN(
                width, width, kernel_size=kernel_size, stride=stride, dilation=dilation, bias=True
            )
            for dilation in DILATIONS
        )
        self.pool_bn: nn.Module = BatchNorm2d(width)
        self.pointwise = ConvBN(channels, width, stride=stride, bias=True)
        for module in self.modules():
            _initialise(module, width)

    def forward(self, x: Tensor) -> Tensor:
        *views, pooled = F.relu(self.squeeze(x), inplace=True).chunk(len(DILATIONS) + 1, dim=1)
        pooled = maximum_of_three(pooled, self.stride)
        branches = [conv(view) for conv, view in zip(self.dilated, views, strict=True)] + [
            self.pool_bn(pooled),
            self.pointwise(x),
        ]
        if self.relu:  # before the concatenation, whose result the block may then change in place
            branches = [F.relu(branch, inplace=True) for branch in branches]
        return torch.cat(branches, dim=1)

    def deployed(self, folding: Folding) -> nn.Module:
        twin = plain_copy(self, folding)
        if folding.across:
            assert isinstance(self.pool_bn, nn.BatchNorm2d)
            bn = batch_norm_state(self.pool_bn)
            twin.pool_bn = ChannelAffine(bn.scale, bn.image_of_zero)
        return twin


class ChannelAffine(nn.Module):
    """x * scale + shift per channel: what is left of a BatchNorm behind a maximum, into which it
    cannot be folded. (N, C, T, V) kept.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        """scale, shift: (C,)."""
        super().__init__()
        self.scale = frozen(scale[:, None, None])
        self.shift = frozen(shift[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


def _initialise(module: nn.Module, width: int) -> None:
    """Convolutions N(0, 2 / fan_out), fan_out = C/4 times the kernel size also where three are
    computed as one; BatchNorm gamma N(1, 0.02^2).
    """
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, (2.0 / (width * module.kernel_size[0])) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def maximum_of_three(x: Tensor, stride: int) -> Tensor:
    """Largest of each frame and its two neighbours, every `stride` frames; x >= 0: (N, C, T, V) ->
    (N, C, floor((T - 1) / stride) + 1, V).

    On the CPU the pooling operator takes 4 to 15 times as long as comparing shifted views, but its
    backward pass is the shorter one.
    """
    if x.is_cuda or x.requires_grad:
        return F.max_pool2d(x, (3, 1), (stride, 1), (1, 0))
    padded, end = F.pad(x, (0, 0, 1, 1)), (x.shape[2] - 1) // stride * stride + 1
    before, here, after = (padded[:, :, shift : end + shift : stride] for shift in range(3))
    return torch.maximum(before, here).maximum(after)
