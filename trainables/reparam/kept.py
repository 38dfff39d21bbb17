"""Convolutions under masks, trained by their kept weights alone: forward, input gradient and the
gradient of kept weights, on CPUs where that costs less. Equal to the dense convolution with the
zeros in it but for rounding.

Knows torch and the sparse kernels, no network and no way of choosing masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrize

from trainables.contract.fast import kept_weights_pay
from trainables.sparse.convolution import Steps
from trainables.sparse.gradients import Pattern

Arrangement = Callable[[Tensor], Tensor]
"""What a network makes of a weight, or of a mask on it: the kernel it convolves with."""


@dataclass(frozen=True)
class ConvOptions:
    """How a convolution over time goes through the frames."""

    stride: int = 1
    dilation: int = 1
    padding: int = 0
    groups: int = 1


class _Patterns:
    """Patterns of a mask as it is now; not copied with it."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None
        self._version = 0
        self._kept: dict[tuple[ConvOptions, Arrangement], Pattern] = {}

    def of(self, mask: Tensor, options: ConvOptions, arrange: Arrangement) -> Pattern:
        if self._mask is not mask or self._version != mask._version:
            self._mask, self._version, self._kept = mask, mask._version, {}
        if (options, arrange) not in self._kept:
            kernel = arrange(mask.detach()).squeeze(3) != 0
            steps = Steps(options.stride, options.dilation, options.padding)
            pattern = Pattern(kernel.numpy(), steps, groups=options.groups)
            self._kept[options, arrange] = pattern
        return self._kept[options, arrange]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()


class WeightMask(nn.Module):
    """weight -> weight * mask while `active`, weight otherwise; the mask is a buffer: saved, moved
    and copied with the module.
    """

    mask: Tensor
    only_kept_learn: ClassVar[bool] = True
    """Whether removed weights get no gradient."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.active = False
        self.by_kept_weights = False
        """Whether convolutions under it are trained so, see `train_by_kept_weights`."""
        self._patterns = _Patterns()

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask if self.active else weight

    def pattern(self, options: ConvOptions, arrange: Arrangement) -> Pattern:
        """What it keeps of the kernel (C_out, C_in / groups, K, 1) that `arrange` makes of it."""
        return self._patterns.of(self.mask, options, arrange)


def train_by_kept_weights(network: nn.Module) -> None:
    """From now on convolutions under active masks are trained by their kept weights alone where
    that costs less.
    """
    for module in network.modules():
        if isinstance(module, WeightMask):
            module.by_kept_weights = module.only_kept_learn


class MaskedConv2d(nn.Conv2d):
    """What a convolution becomes when a mask is put on its weight."""

    def forward(self, input: Tensor) -> Tensor:
        options = _options_of(self)
        mask = weight_mask(self)
        if mask is None or options is None:
            return super().forward(input)
        return conv_over_time(input, self.weight, self.bias, mask, options)


def weight_mask(conv: nn.Conv2d) -> WeightMask | None:
    """The mask on a convolution's weight."""
    if not parametrize.is_parametrized(conv, "weight"):
        return None
    parts = list(conv.parametrizations.weight.children())  # type: ignore[union-attr]
    return parts[0] if len(parts) == 1 and isinstance(parts[0], WeightMask) else None


def _options_of(conv: nn.Conv2d) -> ConvOptions | None:
    """None: it is not one over time alone."""
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return None
    (stride, across), (padding, beside) = conv.stride, conv.padding
    if (conv.kernel_size[1], across, beside) != (1, 1, 0):
        return None
    return ConvOptions(stride, conv.dilation[0], padding, conv.groups)


def conv_over_time(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    mask: WeightMask | None,
    options: ConvOptions,
    arrange: Arrangement = lambda mask: mask,
) -> Tensor:
    """(N, C_in, T, V) -> (N, C_out, T', V) by a kernel (C_out, C_in / groups, K, 1) that is zero
    where `arrange(mask)` is; see `train_by_kept_weights`.
    """
    pattern = pattern_in(mask, x, kernel, options, arrange)
    if pattern is not None:
        out: Tensor = _KeptConv.apply(x, kernel, bias, pattern)  # type: ignore[no-untyped-call]
        return out
    return F.conv2d(
        x,
        kernel,
        bias,
        (options.stride, 1),
        (options.padding, 0),
        (options.dilation, 1),
        options.groups,
    )


def pattern_in(
    mask: WeightMask | None,
    x: Tensor,
    kernel: Tensor,
    options: ConvOptions,
    arrange: Arrangement,
) -> Pattern | None:
    """What a step computes with of a kernel, see `conv_over_time`; None where it is dense."""
    if mask is None or not mask.by_kept_weights or not mask.active or not _possible(x, kernel):
        return None
    pattern = mask.pattern(options, arrange)
    return pattern if kept_weights_pay(pattern.weights, len(pattern.places)) else None


def _possible(x: Tensor, kernel: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == kernel.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


@contextmanager
def torch_says_so() -> Iterator[None]:
    """Where memory does not suffice for an array, torch's error says so, as for a tensor."""
    try:
        yield
    except MemoryError as error:
        raise torch.OutOfMemoryError(f"out of memory: {error}") from error


class _KeptConv(torch.autograd.Function):
    """The convolution by kept weights; the kernel's gradient is zero at the others."""

    @staticmethod
    @torch_says_so()
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor | None, pattern: Pattern
    ) -> Tensor:
        values = kernel.detach().reshape(-1).numpy()[pattern.places]
        ctx.save_for_backward(x)
        ctx.pattern, ctx.values, ctx.shape = pattern, values, kernel.shape
        out = pattern(
            x.detach().numpy(),
            values,
            None if bias is None else bias.detach().numpy(),
            threads=torch.get_num_threads(),
        )
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    @torch_says_so()
    def backward(
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        pattern, threads = ctx.pattern, torch.get_num_threads()
        given = gradient.contiguous().numpy()
        to_x = to_kernel = to_bias = None
        if ctx.needs_input_grad[0]:
            found = pattern.input_gradient(given, ctx.values, x.shape[2], threads=threads)
            to_x = torch.from_numpy(found)
        if ctx.needs_input_grad[1]:
            flat = np.zeros(ctx.shape.numel(), given.dtype)
            found = pattern.weight_gradient(x.detach().numpy(), given, threads=threads)
            flat[pattern.places] = found
            to_kernel = torch.from_numpy(flat).view(ctx.shape)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(dim=(0, 2, 3))
        return to_x, to_kernel, to_bias, None
