"""Modules that train as several pieces and ship as fewer.

Knows torch and the kernel algebra, no network.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.contract.frozen import Frozen
from trainables.reparam.counts import BatchNorm2d
from trainables.reparam.kernels import BatchNormState, fuse_conv_bn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Folding(Frozen):
    """How far a deploy form goes beyond what each piece fuses on its own."""

    # also what spans pieces: BatchNorm after a sum of branches or behind a kept convolution, input
    # normalisation
    across: bool = True
    # also convolutions around an adjacency into one; fewer products, but a product of sparse
    # kernels is less sparse
    merge: bool = True

    def __str__(self) -> str:
        if not self.across:
            return "folded as released"
        return (
            "everything folded"
            if self.merge
            else "folded, convolutions around adjacencies kept apart"
        )


RELEASED = Folding(across=False, merge=False)
"""What HPI-GCN's released code folds: convolution-BatchNorm
pairs, Rep-TCN, parallel adjacencies.
"""

FULL = Folding()
"""Everything that is exactly linear at inference."""


class Deployable(nn.Module, ABC):
    """A training-form module whose deploy form is another module."""

    @abstractmethod
    def deployed(self, folding: Folding) -> nn.Module:
        """The module that takes this one's place: same result in evaluation mode, no shared memory.

        Only tensor algebra, so that it works on the meta device too. Weights are read as
        attributes, which applies attached masks.
        """


class FusibleConv(Deployable):
    """A training-form module that equals one biased convolution over time."""

    stride: int
    groups: int
    dilation: int

    @abstractmethod
    def fuse(self) -> tuple[Tensor, Tensor]:
        """(kernel (C_out, C_in / groups, K, 1), bias (C_out,)) of the equal convolution; exact in
        evaluation mode.
        """

    def deployed(self, folding: Folding) -> nn.Module:
        return frozen_conv(
            *self.fuse(), stride=self.stride, groups=self.groups, dilation=self.dilation
        )


def batch_norm_state(bn: nn.BatchNorm1d | nn.BatchNorm2d) -> BatchNormState:
    """What `bn` does in evaluation mode."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return BatchNormState(bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps)


class ConvBN(FusibleConv):
    """A (kernel_size, 1) convolution, then BatchNorm; zeros beyond the ends of time."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.groups, self.dilation = stride, groups, dilation
        self.conv = temporal_conv(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            groups=groups,
            dilation=dilation,
            bias=bias,
        )
        self.bn = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out

    def fuse(self) -> tuple[Tensor, Tensor]:
        return fuse_conv_bn(self.conv.weight, batch_norm_state(self.bn), self.conv.bias)


class Normalised(FusibleConv):
    """A convolution, or what fuses to one, then a BatchNorm that only a folding across pieces
    removes.
    """

    def __init__(self, body: FusibleConv | nn.Conv2d, channels: int) -> None:
        super().__init__()
        first = (
            (body.stride, body.groups, body.dilation)
            if isinstance(body, FusibleConv)
            else (body.stride[0], body.groups, body.dilation[0])
        )
        self.stride, self.groups, self.dilation = first
        self.body = body
        self.bn = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.body(x))
        return out

    def fuse(self) -> tuple[Tensor, Tensor]:
        kernel, bias = kernel_and_bias(self.body)
        return fuse_conv_bn(kernel, batch_norm_state(self.bn), bias)

    def deployed(self, folding: Folding) -> nn.Module:
        if folding.across:
            return super().deployed(folding)
        return nn.Sequential(deployed(self.body, folding), deployed(self.bn, folding))


def kernel_and_bias(module: FusibleConv | nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Of a convolution, or of what fuses to one."""
    return module.fuse() if isinstance(module, FusibleConv) else (module.weight, module.bias)


def deployed(module: nn.Module, folding: Folding) -> nn.Module:
    """The deploy form of any module: of a `Deployable` its own, of others a copy whose children are
    deployed.
    """
    if isinstance(module, Deployable):
        return module.deployed(folding)
    if isinstance(module, nn.Conv2d):
        return frozen_conv(
            module.weight,
            module.bias,
            stride=module.stride[0],
            groups=module.groups,
            dilation=module.dilation[0],
            padding=module.padding,
        )
    if isinstance(module, nn.BatchNorm2d) and parametrize.is_parametrized(module):
        return plain_copy(_as_masked(module))
    return plain_copy(module, folding)


def _as_masked(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The BatchNorm with its masked scale as its scale; torch's own way to do so would change the
    class of the trained one.
    """
    kind = parametrize.type_before_parametrizations(norm)
    twin: nn.BatchNorm2d = object.__new__(kind)
    twin.__dict__.update(norm.__dict__)
    twin._modules = OrderedDict()
    twin._parameters = OrderedDict(weight=frozen(norm.weight), bias=norm.bias)
    return twin


def plain_copy(module: ModuleT, folding: Folding = RELEASED) -> ModuleT:
    """A module of the same class with frozen copies of its own
    tensors and its children deployed.
    """
    twin = copy.copy(module)
    twin.__dict__.update(
        {
            name: OrderedDict()
            for name, value in vars(module).items()
            if "_hooks" in name and isinstance(value, dict)
        }
    )
    twin._parameters = {
        name: None if p is None else frozen(p) for name, p in module._parameters.items()
    }
    twin._buffers = {
        name: None if b is None else b.detach().clone() for name, b in module._buffers.items()
    }
    twin._modules = {
        name: None if child is None else deployed(child, folding)
        for name, child in module._modules.items()
    }
    return twin.eval()


def frozen(tensor: Tensor) -> nn.Parameter:
    """A copy that is counted and moved as a parameter but never trained."""
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)


def frozen_conv(
    kernel: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    padding: str | tuple[int, ...] | None = None,
) -> nn.Conv2d:
    """A convolution over time with these very weights; `padding` keeps the length (at stride 1)
    unless it is given. Draws no random number.
    """
    outside, inside, size, _ = kernel.shape
    with torch.device("meta"):
        conv = temporal_conv(
            inside * groups,
            outside,
            kernel_size=size,
            stride=stride,
            groups=groups,
            dilation=dilation,
            bias=bias is not None,
        )
    conv.padding = conv.padding if padding is None else padding
    conv.weight = frozen(kernel)
    if bias is not None:
        conv.bias = frozen(bias)
    return conv


def temporal_conv(
    in_channels: int,
    out_channels: int,
    *,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """A convolution over time only: (N, C_in, T, V) -> (N, C_out,
    floor((T - 1) / stride) + 1, V).
    """
    return nn.Conv2d(
        in_channels,
        out_channels,
        (kernel_size, 1),
        stride=(stride, 1),
        padding=(dilation * (kernel_size // 2), 0),
        dilation=(dilation, 1),
        groups=groups,
        bias=bias,
    )
