"""Pickles of other code bases, read without running anything in them.

Knows arrays and containers, nothing of what they mean. Readers call `foreign_files.read_pickle`.

A list of permitted names is not enough: numpy's own dtype takes its flags from the pickle, and an
array whose type says that it holds no Python objects although it does turns bytes of the file into
pointers. So numpy sees nothing of a pickle but checked types, shapes and bytes.

Nor may a pickle change what reads it: opcode BUILD sets attributes of whatever the pickle got hold
of. So it never gets a function or a class of ours, only a `_Name` that can be called.

A megabyte of opcodes can ask for gigabytes: by a place in the memo, by a function that is called
again and again on one shared value, by lists that hold one another many times. So opcodes are
looked at before they run, what functions make is counted, and the content is measured as a reader
walks through it: shared parts as often as they are met.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from trainables.contract.names import said
from trainables.contract.tensors import storage, tensor

FREE = 1 << 24
"""Bytes that the content of any file may take in memory."""
MOST_GROWTH = 32
"""How many times its size the content of a larger file may take, shared parts counted each time."""
DEEPEST = 100
"""Containers inside each other."""

# booleans, numbers and text: nothing that refers to other objects
_PLAIN = re.compile(r"[biufcSU][0-9]{1,9}")
_ENTRY = 8  # bytes of a reference
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
_CONTAINERS = (dict, list, tuple, set, frozenset)
_LEAVES = (str, bytes, bytearray, float, complex, bool, type(None), np.generic)


class Refused(pickle.UnpicklingError):
    """Content that is not read; the message is a clause that says why."""


def load_pickle(file: Path) -> Any:
    """The content of a pickle of dict, list, tuple, set, text, bytes, numbers, and numpy's arrays
    and scalars of numbers and text; an OrderedDict becomes a dict, a tensor of torch an array.

    OSError where the file cannot be opened; Refused where it asks for anything else, is damaged, or
    grows to more than its size explains.
    """
    with file.open("rb") as stream:
        size = file.stat().st_size
        try:
            _check_memo(stream, size)
            content = _PlainUnpickler(stream, _Budget(size)).load()
            check_extent(content, size)
            return content
        except Refused:
            raise
        # there is no list of what opcodes that were changed or cut off can raise
        except Exception as error:
            text = said(error)
            raise Refused(f"it is damaged or cut short{f': {text}' if text else ''}") from error


def check_extent(content: Any, size: int) -> None:
    """Refused where content made from `size` bytes is much larger with every shared
    part counted as often as it is met, nested more than `DEEPEST` times, holds itself, or holds
    anything but plain values, such as a whole number of more than 64 bits.
    """
    most = max(FREE, MOST_GROWTH * size)
    extents: dict[int, int] = {}  # id of a container -> bytes, with all that it holds
    above: set[int] = set()  # ids of the containers around the one that is looked at
    waiting: list[Any] = [[content]]
    while waiting:
        value = waiting[-1]
        key = id(value)
        if key in extents:
            waiting.pop()
            continue
        parts: Collection[Any] = [*value, *value.values()] if isinstance(value, dict) else value
        below = [
            part for part in parts if isinstance(part, _CONTAINERS) and id(part) not in extents
        ]
        if below:
            if key in above:
                raise Refused("it holds a container that holds itself")
            above.add(key)
            if len(above) > DEEPEST:
                raise Refused(f"its containers are nested more than {DEEPEST} times")
            waiting += below
            continue
        waiting.pop()
        above.discard(key)
        extents[key] = sum([_extent(part, extents) for part in parts])
        if extents[key] > most:
            raise Refused(
                f"its {size} bytes grow to more than {most}, because it holds parts of itself many"
                " times"
            )


def _extent(part: Any, extents: dict[int, int]) -> int:
    """Bytes of a part and the reference to it."""
    if isinstance(part, np.ndarray):
        return part.nbytes + _ENTRY
    if isinstance(part, str | bytes | bytearray):
        return len(part) + _ENTRY
    if isinstance(part, int):
        if not -(2**63) <= part < 2**64:
            raise Refused("it holds a whole number of more than 64 bits")
        return _ENTRY
    if isinstance(part, _CONTAINERS):
        return extents[id(part)] + _ENTRY
    if not isinstance(part, _LEAVES):
        raise Refused(f"it holds something of type {type(part).__name__}")
    return _ENTRY


def _check_memo(stream: IO[bytes], size: int) -> None:
    """Refused where an opcode names a place in the memo beyond the size of the file: ten
    bytes make the interpreter prepare 64 GB of places.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for opcode, place, _ in pickletools.genops(cast(IO[bytes], content)):
            if opcode.name in _MEMO and not 0 <= cast(int, place) <= size:
                raise Refused("it names a place that it cannot need")


class _Budget:
    """Counts the bytes that functions make of shared values; a pickle that asks for far more than
    it holds is refused.
    """

    def __init__(self, size: int) -> None:
        self._size, self._left = size, max(FREE, MOST_GROWTH * size)

    def spend(self, *values: Any) -> None:
        for value in values:
            if isinstance(value, str | bytes | bytearray):
                self._left -= len(value)
            elif isinstance(value, _CONTAINERS):
                self._left -= 10 * _ENTRY * len(value)  # as a set or a dictionary has them
        if self._left < 0:
            raise Refused(f"its {self._size} bytes grow to more than their size explains")


class _Name:
    """What a pickle gets for a name that it asks for: it can be called, and nothing else."""

    __slots__ = ("_budget", "_make")

    def __init__(self, make: Callable[..., Any], budget: _Budget) -> None:
        self._make, self._budget = make, budget

    def __call__(self, *arguments: Any) -> Any:
        self._budget.spend(*arguments)
        made = self._make(*arguments)
        if isinstance(made, _Type):
            made.budget = self._budget
        return made

    def __setstate__(self, state: Any) -> None:
        raise Refused("it asks to change what reads it")


class _Type:
    """A dtype as a pickle describes it: `dtype("f4", ...)`, then a state, of which only the byte
    order is believed.
    """

    budget: _Budget

    def __init__(self, text: str, *_: Any) -> None:
        if not _PLAIN.fullmatch(text):
            raise Refused(
                f"it holds an array of type {text}: only those of numbers and text are loaded"
            )
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array that is empty until its state comes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, of, fortran, raw = state
        dtype = _checked(of)
        of.budget.spend(raw)
        super().__setstate__((version, shape, dtype, fortran, _bytes(raw)))


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
        raise Refused(f"its bytes must be written as latin1, got {codec}")
    return text.encode("latin1")


def _not_called(*_: Any) -> Any:
    raise Refused("it makes an array in a way that numpy does not")


def _checked(of: Any) -> np.dtype[Any]:
    if not isinstance(of, _Type):
        raise Refused(f"the type of its arrays must be a dtype, got a {type(of).__name__}")
    return of.dtype


def _bytes(raw: Any) -> Any:
    """Bytes; Python 2 wrote them as text."""
    return raw.encode("latin1") if isinstance(raw, str) else raw


_PERMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _not_called,  # an argument of _reconstruct
    ("collections", "OrderedDict"): dict,  # a dict has no attributes that BUILD could set
    ("_codecs", "encode"): _encoded,
    ("torch.storage", "_load_from_bytes"): storage,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
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

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        super().__init__(stream, encoding="latin1")
        self._budget = budget

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PERMITTED:
            raise Refused(
                f"it asks for {module}.{name}: only arrays and plain containers are loaded"
            )
        return _Name(_PERMITTED[module, name], self._budget)
