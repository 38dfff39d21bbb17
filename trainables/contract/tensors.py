"""Tensors inside pickles, as torch puts them there, read as arrays and without torch.

Knows how torch writes a storage into a pickle; runs nothing. `pickles` calls it.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "BoolStorage": "?",
}


def storage(raw: bytes) -> npt.NDArray[Any]:
    """The numbers of a storage, (n,), from what `torch.save` wrote of it in its form of before
    version 1.6, which pickles hold to this day: five pickles, then size and content.

    ValueError for anything else.
    """
    stream = io.BytesIO(raw)
    if (_plain(stream), _plain(stream)) != (_MAGIC, _PROTOCOL):
        raise ValueError("a tensor in it is not as torch writes it")
    if _plain(stream).get("little_endian") is not True:
        raise ValueError("a tensor in it was written by a big-endian machine")
    dtype, key, count = _StorageUnpickler(stream).load()
    (size,) = struct.unpack("<q", stream.read(8)) if _plain(stream) == [key] else (-1,)
    numbers = stream.read()
    if not size == count == len(numbers) / dtype.itemsize:
        raise ValueError("a tensor in it was cut short")
    return np.frombuffer(numbers, dtype)


def tensor(numbers: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> npt.NDArray[Any]:
    """The tensor of that shape in a storage; ValueError where it reaches beyond it, or shows
    numbers more than once.
    """
    if not isinstance(numbers, np.ndarray) or len(shape) != len(strides):
        raise ValueError("a tensor in it has no storage of its own")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    fits = min((offset, *shape, *strides), default=0) >= 0 and last < len(numbers)
    count: int = math.prod(shape)
    if count > len(numbers) or (count and not fits):
        raise ValueError("a tensor in it reaches beyond its storage")
    if not count:
        return np.empty(shape, numbers.dtype)
    steps = tuple(step * numbers.itemsize for step in strides)
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps).copy()


def _plain(stream: io.BytesIO) -> Any:
    """The next pickle of numbers, text and containers."""
    return _NoNames(stream).load()


class _NoNames(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name} within a tensor")


class _StorageUnpickler(_NoNames):
    """Reads the reference to a storage: (type, key, number of entries)."""

    def find_class(self, module: str, name: str) -> Any:
        if module != "torch" or name not in _STORAGES:
            super().find_class(module, name)
        return _STORAGES[name]

    def persistent_load(self, reference: Any) -> tuple[np.dtype[Any], str, int]:
        kind, dtype, key, _, count, view = reference
        if kind != "storage" or dtype not in _STORAGES.values() or view is not None:
            raise pickle.UnpicklingError("it holds a tensor that shares another one's storage")
        return np.dtype(dtype), key, count
