"""What deploy forms ask of oneDNN: convolutions, with sum and ReLU, of feature maps that lie in
memory as rows, by weights that are packed once, and products with matrices. Knows torch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.libraries import mkl_lacks_avx512


def rows_last(x: Tensor) -> bool:
    """Whether a feature map (N, C, T, V) lies in memory as rows of channels (channels_last) and in
    no other order.

    Never in a traced program, where the compiler chooses the order, nor under autocast, where
    operands differ in precision.
    """
    if torch.compiler.is_compiling() or x.is_meta or torch.is_autocast_enabled(x.device.type):
        return False
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def add_conv(total: Tensor, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """ReLU(conv(x) + total), in `total`'s memory where one operation does all three."""
    if _one_operation(total):
        if _pays_in_pairs(conv, x):
            return _add_in_pairs(total, conv, x)
        return _add_conv(total, conv, x, conv.bias)
    out: Tensor = conv(x)
    out += total
    return F.relu(out, inplace=True)


def onednn_multiplies(x: Tensor) -> bool:
    """Whether oneDNN multiplies rows of such a feature map by matrices faster than torch's products
    do, which are MKL's.
    """
    return _one_operation(x) and mkl_lacks_avx512()


def add_product(total: Tensor, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """ReLU(conv(x) + total) without the convolution's bias, in `total`'s memory; for feature maps
    of which `onednn_multiplies` is true.
    """
    return _add_conv(total, conv, x.contiguous(memory_format=torch.channels_last), None)


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x), for feature maps of which `onednn_multiplies` is true."""
    settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, packed_weight(conv, x), conv.bias, *settings, "none", [], ""
    )
    return out


def channels_first(kernel: Tensor, rows: Tensor) -> Tensor:
    """kernel rows^T: (C_out, C_in), (P, C_in) -> (C_out, P); for feature maps of which
    `onednn_multiplies` is true.
    """
    out: Tensor = torch.ops.mkldnn._linear_pointwise(kernel, rows, None, "none", [], "")
    return out


def _add_conv(total: Tensor, conv: nn.Conv2d, x: Tensor, bias: Tensor | None) -> Tensor:
    settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        total, x, packed_weight(conv, x), bias, *settings, "add", 1.0, "relu", [], None
    )
    return fused


TAPS, WIDE = 9, 128
"""Nine taps of so many channels are multiplied in pairs of frames: 1.1 (128) to 1.2 (256) times as
fast on a Zen 5 as one by one, with 64 channels 0.9.
"""


def _pays_in_pairs(conv: nn.Conv2d, x: Tensor) -> bool:
    return (
        conv.kernel_size == (TAPS, 1)
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.padding == (TAPS // 2, 0)
        and conv.groups == 1
        and min(conv.weight.shape[:2]) >= WIDE
        and x.shape[2] % 2 == 0
        and not conv.weight.is_inference()
        and rows_last(x)
        and mkl_lacks_avx512()
    )


def _add_in_pairs(total: Tensor, conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What `_add_conv` gives, with two thirds of the products, in `total`'s memory: Winograd's
    F(2, 3) over frames (Lavin and Gray 2016), three times three taps.

    Two frames of one filter g of three taps on d0 to d3 take four products, (d0 - d2) g0, (d1 + d2)
    (g0 + g1 + g2) / 2, (d2 - d1) (g0 - g1 + g2) / 2 and (d1 - d3) g2, whose sums over channels and
    the three filters are convolutions of three taps with stride 2 and dilation 3. Sums and
    differences of frames beyond the ends are part of their inputs, which is one frame longer.
    """
    samples, channels, frames, joints = x.shape
    rows, out = x.permute(0, 2, 3, 1), total.permute(0, 2, 3, 1)  # (N, T, V, C), views
    inputs = rows.new_empty(4, samples, frames + 1, joints, channels)
    early, plus, minus, late = inputs
    torch.sub(rows[:, :-2], rows[:, 2:], out=early[:, 2:-1])
    torch.neg(rows[:, :2], out=early[:, :2])
    early[:, -1] = rows[:, -2]
    late[:, :-2] = early[:, 1:-1]
    late[:, -2:] = rows[:, -2:]
    torch.add(rows[:, :-1], rows[:, 1:], out=plus[:, 1:-1])
    torch.sub(rows[:, 1:], rows[:, :-1], out=minus[:, 1:-1])
    plus[:, 0] = minus[:, 0] = rows[:, 0]
    plus[:, -1] = rows[:, -1]
    torch.neg(rows[:, -1], out=minus[:, -1])
    maps = [each.permute(0, 3, 1, 2) for each in inputs]
    kernels = _packed_pairs(conv, maps[0])
    summed, difference = (
        torch.ops.mkldnn._convolution_pointwise(
            maps[i], kernels[i], bias, *PAIRS, 1, "none", [], ""
        ).permute(0, 2, 3, 1)
        for i, bias in ((1, conv.bias), (2, None))
    )
    first, second = out[:, ::2] + summed, out[:, 1::2] + summed
    first += difference
    second -= difference
    for into, part, i in ((out[:, ::2], first, 0), (out[:, 1::2], second, 3)):
        torch.ops.mkldnn._convolution_pointwise_.binary(
            part.permute(0, 3, 1, 2), maps[i], kernels[i], None, *PAIRS, 1, "add", 1.0, "relu", [],
            None,
        )  # fmt: skip
        into.copy_(part)
    return total


PAIRS = (2, 0), (2, 1), (3, 1)
"""Padding, stride and dilation."""


def _pair_kernels(weight: Tensor) -> list[Tensor]:
    """What the four products multiply by, the last negated; rounded once from double precision."""
    first, middle, last = (weight.double()[:, :, tap::3] for tap in range(3))
    ends = first + last
    kernels = first, (ends + middle) / 2, (ends - middle) / 2, -last
    return [each.to(weight.dtype).contiguous(memory_format=torch.channels_last) for each in kernels]


SHAPES = 4
"""Of inputs for which a weight is kept packed: the last persons of a batch may be fewer."""


@dataclass(slots=True)
class _Packed:
    """What was packed and its version, and the results by the shape of the input and settings."""

    source: Tensor
    version: int
    by_shape: dict[tuple[torch.Size, tuple[Any, ...]], list[Tensor]] = field(default_factory=dict)

    def is_of(self, weight: Tensor) -> bool:
        return self.source.data_ptr() == weight.data_ptr() and self.version == weight._version


_packed: WeakKeyDictionary[nn.Module, _Packed] = WeakKeyDictionary()
"""Of every convolution."""


def packed_weight(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Its weight in the order in memory that oneDNN's convolution of such inputs wants. It is
    brought into it once for each of a few shapes, and again where the weight is another: in every
    call it costs a tenth to a quarter of a convolution of two persons. A copy takes as much memory.

    A weight that is changed past autograd after the first call (`weight.data`, `weight.numpy()`)
    counts as the same: torch notes no version of it.
    """
    if conv.weight.is_inference():  # nobody knows whether it was changed
        return conv.weight
    settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
    return _prepared(conv, x, lambda weight: [weight], settings)[0]


def _packed_pairs(conv: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """The same of the four kernels that multiply pairs of frames; x: one of their inputs."""
    return _prepared(conv, x, _pair_kernels, (*PAIRS, 1))


def _prepared(
    conv: nn.Conv2d, x: Tensor, made: Callable[[Tensor], list[Tensor]], settings: tuple[Any, ...]
) -> list[Tensor]:
    weight = conv.weight
    known = _packed.get(conv)
    if known is None or not known.is_of(weight):
        # as long as the source is held, no other weight lies where it does
        known = _packed[conv] = _Packed(weight.detach(), weight._version)
    key = x.shape, settings
    found = known.by_shape.get(key)
    if found is not None:
        return found
    packed = [
        torch.ops.mkldnn._reorder_convolution_weight(each, *settings, x.shape)
        for each in made(weight.detach())
    ]
    if len(known.by_shape) >= SHAPES:
        known.by_shape = {}
    known.by_shape[key] = packed
    return packed


@dataclass(slots=True)
class _Kept:
    """What was computed, of which tensors in which versions."""

    sources: tuple[Tensor, ...]
    versions: list[int]
    rows: Tensor

    def is_of(self, parts: tuple[Tensor, ...]) -> bool:
        return all(
            source.data_ptr() == part.data_ptr() and version == part._version
            for source, version, part in zip(self.sources, self.versions, parts, strict=True)
        )


_kept: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()
"""Of every graph convolution."""


def kept_rows(
    module: nn.Module, parts: tuple[Tensor, ...], compute: Callable[..., Tensor]
) -> Tensor:
    """compute(*parts), (C, 1, V), as (1, C, 1, V) in memory as rows of channels: computed anew
    where one of the parts, which belong to the module, is another; see `packed_weight`.
    """
    unseen = torch.is_grad_enabled() or any(part.is_inference() for part in parts)
    known = None if unseen else _kept.get(module)
    if known is not None and known.is_of(parts):
        return known.rows
    rows = compute(*parts)[None].contiguous(memory_format=torch.channels_last)
    if not unseen:
        sources = tuple(part.detach() for part in parts)
        _kept[module] = _Kept(sources, [part._version for part in parts], rows)
    return rows


def _one_operation(total: Tensor) -> bool:
    """Whether oneDNN's convolution with sum and ReLU can be used: channels_last float32 on the CPU,
    in inference, outside a compiler.
    """
    return (
        total.dtype == torch.float32
        and total.device.type == "cpu"
        and not torch.is_grad_enabled()
        and rows_last(total)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )
