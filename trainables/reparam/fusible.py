"""Modules that train as several pieces and ship as one. Knows torch and the kernel algebra, no network."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from trainables.reparam.kernels import BatchNormState, fuse_conv_bn


class Fusible(nn.Module, ABC):
    """A training-form module whose deploy form is another, smaller module."""

    @abstractmethod
    def fused_state(self) -> dict[str, Tensor]:
        """The tensors of the deploy form, under the names they have there."""


class FusibleConv(Fusible):
    """A training-form module whose deploy form is one biased convolution."""

    @abstractmethod
    def fuse(self) -> tuple[Tensor, Tensor]:
        """(kernel (C_out, C_in / groups, K, 1), bias (C_out,)) of the equal convolution; exact in evaluation mode."""

    def fused_state(self) -> dict[str, Tensor]:
        kernel, bias = self.fuse()
        return {"weight": kernel, "bias": bias}


def batch_norm_state(bn: nn.BatchNorm2d) -> BatchNormState:
    """What `bn` does in evaluation mode."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    return BatchNormState(bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps)


class ConvBN(FusibleConv):
    """A (kernel_size, 1) convolution without bias, then BatchNorm; zeros beyond the ends of time."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = temporal_conv(in_channels, out_channels, kernel_size=kernel_size, stride=stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out

    def fuse(self) -> tuple[Tensor, Tensor]:
        return fuse_conv_bn(self.conv.weight, batch_norm_state(self.bn))


def temporal_conv(
    in_channels: int, out_channels: int, *, kernel_size: int = 1, stride: int = 1, groups: int = 1, bias: bool = True
) -> nn.Conv2d:
    """A convolution over time only: (N, C_in, T, V) -> (N, C_out, floor((T - 1) / stride) + 1, V)."""
    return nn.Conv2d(in_channels, out_channels, (kernel_size, 1), stride=(stride, 1), padding=(kernel_size // 2, 0), groups=groups, bias=bias)
