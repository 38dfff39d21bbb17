"""What deploy forms ask of oneDNN: convolutions, with sum and ReLU, of feature maps that lie in
memory as rows, by weights that are packed once, and products with matrices. Knows torch alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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


SHAPES = 4
"""Of inputs for which a weight is kept packed: the last persons of a batch may be fewer."""


@dataclass(slots=True)
class _Packed:
    """What was packed and its version, and the results by the shape of the input."""

    source: Tensor
    version: int
    by_shape: dict[torch.Size, Tensor] = field(default_factory=dict)

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
    weight = conv.weight
    if weight.is_inference():  # nobody knows whether it was changed
        return weight
    known = _packed.get(conv)
    if known is None or not known.is_of(weight):
        # as long as the source is held, no other weight lies where it does
        known = _packed[conv] = _Packed(weight.detach(), weight._version)
    found = known.by_shape.get(x.shape)
    if found is not None:
        return found
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight.detach(), conv.padding, conv.stride, conv.dilation, conv.groups, x.shape
    )
    assert isinstance(packed, Tensor)
    if len(known.by_shape) >= SHAPES:
        known.by_shape = {}
    known.by_shape[x.shape] = packed
    return packed


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
