"""Pickles of other code bases, read without running anything in them.

Knows arrays and containers, nothing of what they mean.

A list of permitted names is not enough: numpy's own dtype takes its flags from the pickle, and an
array whose type says that it holds no Python objects although it does turns bytes of the file into
pointers. So numpy sees nothing of a pickle but checked types, shapes and bytes.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# booleans, numbers and text: nothing that refers to other objects
_PLAIN = re.compile(r"[biufcSU][0-9]{1,9}")


def load_pickle(file: Path) -> Any:
    """The content of a pickle of dict, list, tuple, set, text, bytes, numbers, and numpy's arrays
    and scalars of numbers and text.

    OSError where the file cannot be opened; pickle.UnpicklingError, which says why, where it asks
    for anything else or is damaged.
    """
    with file.open("rb") as stream:
        try:
            return _PlainUnpickler(stream, encoding="latin1").load()
        except pickle.UnpicklingError:
            raise
        # there is no list of what opcodes that were changed or cut off can raise
        except Exception as error:
            raise pickle.UnpicklingError(
                f"it is damaged or cut short ({type(error).__name__}: {error})"
            ) from error


class _Type:
    """A dtype as a pickle describes it: `dtype("f4", ...)`, then a state, of which only the byte
    order is believed.
    """

    def __init__(self, text: str, *_: Any) -> None:
        if not _PLAIN.fullmatch(text):
            raise pickle.UnpicklingError(
                f"only arrays of numbers and text are loaded, the file holds one of type {text}"
            )
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array that is empty until its state comes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, of, fortran, raw = state
        super().__setstate__((version, shape, _checked(of), fortran, _bytes(raw)))


def _reconstruct(*_: Any) -> _Array:
    """The first of numpy's two steps; the second gives shape, type and bytes."""
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _from_buffer(raw: Any, of: Any, shape: Any, order: Any, axes: Any = None) -> npt.NDArray[Any]:
    """Both steps in one, as protocol 5 has them; `axes` is the
    order in which the bytes hold them.
    """
    array = np.frombuffer(raw, _checked(of))
    return (
        array.reshape(shape, order=order) if axes is None else array.reshape(shape).transpose(axes)
    )


def _scalar(of: Any, raw: Any = b"") -> Any:
    dtype = _checked(of)
    return np.frombuffer(_bytes(raw), dtype)[0] if dtype.itemsize else dtype.type()


def _encoded(text: str = "", codec: str = "latin1") -> bytes:
    """Protocols up to 2 write bytes as text in latin1."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"bytes must be written as latin1, the file has {codec}")
    return text.encode("latin1")


def _checked(of: Any) -> np.dtype[Any]:
    if not isinstance(of, _Type):
        raise pickle.UnpicklingError(
            f"the type of an array must be a dtype, the file has a {type(of).__name__}"
        )
    return of.dtype


def _bytes(raw: Any) -> Any:
    """Bytes; Python 2 wrote them as text."""
    return raw.encode("latin1") if isinstance(raw, str) else raw


_PERMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): "ndarray",  # an argument of _reconstruct, never called
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encoded,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _PERMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _PERMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _PERMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer
for _builtins in ("__builtin__", "builtins"):  # Python 2 and 3
    _PERMITTED |= {
        (_builtins, "set"): set,
        (_builtins, "frozenset"): frozenset,
        (_builtins, "bytes"): _encoded,
    }


class _PlainUnpickler(pickle.Unpickler):
    """Answers the few names that plain content needs, mostly with functions of this file, and
    refuses every other.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PERMITTED:
            raise pickle.UnpicklingError(
                f"only arrays and plain containers are loaded, the file asks for {module}.{name}"
            )
        return _PERMITTED[module, name]
