"""A tensor with many zeros as what takes the least room in a file. Knows no network and no file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

STORAGE_BYTES = 300
"""What a file of torch.save spends on every tensor besides its
numbers (276 bytes were measured).
"""

REAL = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)


def pack(tensor: Tensor) -> Tensor | dict[str, Any]:
    """What stands in a file for `tensor`: itself, or its non-zero numbers and where they are,
    whichever is smaller.

    where: a bit for every number, or of every non-zero number how many zeros are before it since
    the last one, in the smallest integers that hold them. Numbers that float16 holds exactly are
    stored so. Nothing is rounded; a negative zero comes back as zero.
    """
    if not tensor.is_floating_point():
        return tensor
    flat = tensor.detach().cpu().contiguous().flatten()
    positions = flat.nonzero().flatten()
    candidates = {
        "all": (flat, None),
        "bits": (flat[positions], _bits(flat)),
        "gaps": (flat[positions], _gaps(positions)),
    }
    sizes = {kind: _stored_bytes(*candidate) for kind, candidate in candidates.items()}
    kind = min(sizes, key=lambda name: sizes[name])
    values, where = candidates[kind]
    if kind == "all" and _narrowed(values).dtype == tensor.dtype:
        return tensor
    return {
        "kind": kind,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "values": _narrowed(values).clone(),
        **({} if where is None else {"where": where}),
    }


def unpack(packed: Tensor | dict[str, Any], shape: Sequence[int]) -> Tensor:
    """The tensor `pack` was given; ValueError where the record is not one of its own or not of
    `shape`.
    """
    if isinstance(packed, Tensor):
        return packed
    if list(packed["shape"]) != list(shape):
        raise ValueError(f"must have shape {list(shape)}, got {list(packed['shape'])}")
    values, size = packed["values"], math.prod(shape)
    if (
        packed["dtype"] not in REAL
        or not isinstance(values, Tensor)
        or not values.is_floating_point()
        or values.dim() != 1
    ):
        raise ValueError(f"must hold real numbers of type {', '.join(REAL)}, got {packed['dtype']}")
    dtype = REAL[packed["dtype"]]
    if packed["kind"] == "all":
        positions = torch.arange(size)
    elif packed["kind"] in ("bits", "gaps"):
        positions = (_positions_of_bits if packed["kind"] == "bits" else _positions_of_gaps)(
            packed["where"], size
        )
    else:
        raise ValueError(f"must be all, bits or gaps, got '{packed['kind']}'")
    if len(positions) != len(values):
        raise ValueError(
            f"must hold a number for each of {len(positions)} places, got {len(values)}"
        )
    return (
        torch.zeros(size, dtype=dtype).index_copy_(0, positions, values.to(dtype)).view(list(shape))
    )


def _stored_bytes(values: Tensor, where: Tensor | None) -> int:
    tensors = [_narrowed(values), *([] if where is None else [where])]
    return sum(tensor.numel() * tensor.element_size() + STORAGE_BYTES for tensor in tensors)


def _narrowed(values: Tensor) -> Tensor:
    """In float16 where that changes no number."""
    half = values.half()
    return half if torch.equal(half.to(values.dtype), values) else values


def _bits(flat: Tensor) -> Tensor:
    """A bit per number, the first number in the highest bit of the first byte."""
    return torch.from_numpy(np.packbits((flat != 0).numpy()))


def _positions_of_bits(where: Tensor, size: int) -> Tensor:
    if where.dtype != torch.uint8 or where.dim() != 1 or len(where) != (size + 7) // 8:
        raise ValueError(
            f"must hold a bit for each of {size} numbers, got {len(where)} of {where.dtype}"
        )
    return torch.from_numpy(np.unpackbits(where.numpy(), count=size)).nonzero().flatten()


def _gaps(positions: Tensor) -> Tensor:
    """Zeros before each non-zero number since the last one."""
    gaps = torch.diff(positions, prepend=torch.tensor([-1])) - 1
    largest = int(gaps.max()) if len(gaps) else 0
    return gaps.to(next(dtype for dtype in INTEGERS if largest <= torch.iinfo(dtype).max))


def _positions_of_gaps(where: Tensor, size: int) -> Tensor:
    if where.dtype not in INTEGERS or where.dim() != 1:
        raise ValueError(f"must hold whole gaps, got {where.dtype}")
    gaps = where.long()
    positions = (gaps + 1).cumsum(0) - 1
    if len(gaps) and not (
        int(gaps.min()) >= 0 and int(gaps.max()) < size and int(positions[-1]) < size
    ):
        raise ValueError(f"must have its places among {size} numbers, got {int(positions[-1])}")
    return positions
