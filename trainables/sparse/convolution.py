"""A convolution over time by its kept weights, as a function of arrays. Knows no networks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.sparse.rows import Numbers, Rows, Shifts

LINE_BYTES = 64
SHAPES = 16
"""Lengths of clips whose places in memory a convolution keeps."""
ROOMS_BYTES = 1 << 27
"""Of the rooms that a thread keeps: those of two dozen programs of full width."""


@dataclass(frozen=True)
class Steps:
    """How a kernel goes through the frames."""

    stride: int = 1
    dilation: int = 1
    padding: int = 0  # frames of zeros before and behind


class Convolution:
    """(P, C_in, T, V) -> (P, C_out, T', V) by the weights of a kernel (C_out, C_in / groups, K)
    that are not zero; float32 or float64, as the kernel is.
    """

    def __init__(self, kernel: Numbers, steps: Steps, *, groups: int = 1) -> None:
        self.rows = Rows.of(kernel, groups)
        self.steps = steps
        self._zeros = np.zeros(len(kernel), kernel.dtype)
        self._offsets: OrderedDict[Shifts, npt.NDArray[np.uint32]] = OrderedDict()

    def __call__(
        self,
        x: Numbers,
        *,
        bias: Numbers | None = None,
        residual: Numbers | None = None,
        relu: bool = False,
        threads: int = 1,
    ) -> Numbers:
        """conv(x) + bias + residual, then ReLU where asked; arrays of any layout in memory, the
        result contiguous.

        bias: (C_out,); residual: (P, C_out, T', V). Every person is computed by one thread, so that
        results do not depend on the number of threads.
        """
        persons, _, frames, joints = x.shape
        shifts = Shifts(
            frames,
            joints,
            self.rows.size,
            self.steps.stride,
            self.steps.dilation,
            self.steps.padding,
        )
        out = np.empty((persons, self.rows.outputs, shifts.frames_out, joints), x.dtype)
        x = np.ascontiguousarray(x)
        bias = self._zeros if bias is None else bias
        residual = None if residual is None else np.ascontiguousarray(residual)

        def run(part: slice) -> None:
            start = None if residual is None else residual[part]
            self._run(x[part], bias, start, relu, out[part], shifts)

        in_parts(run, persons, threads)
        return out

    def _run(
        self,
        x: Numbers,
        bias: Numbers,
        residual: Numbers | None,
        relu: bool,
        out: Numbers,
        shifts: Shifts,
    ) -> None:
        from trainables.sparse import kernels

        persons, inputs = x.shape[:2]
        columns = shifts.frames_out * shifts.joints
        if residual is None:
            start, start_size, start_row = np.zeros(columns, x.dtype), 0, 0
        else:
            start, start_size, start_row = residual.ravel(), self.rows.outputs * columns, columns
        size = inputs * shifts.row if shifts.spreads else 0
        kernels.convolve(
            x.reshape(persons, -1),
            (
                inputs,
                shifts.frames,
                shifts.joints,
                shifts.stride,
                shifts.padding,
                shifts.phase,
                shifts.row,
            ),
            shifts.spreads,
            (self.rows.starts, self.offsets(shifts), self.rows.values),
            bias,
            (start, start_size, start_row),
            relu,
            out.reshape(persons, -1),
            columns,
            room(lambda: aligned(size, x.dtype), inputs, shifts, x.dtype)
            if size
            else np.zeros(0, x.dtype),
        )

    def offsets(self, shifts: Shifts) -> npt.NDArray[np.uint32]:
        """Where every weight's piece begins, kept for some shapes."""
        if shifts not in self._offsets:
            self._offsets[shifts] = shifts.offsets(self.rows)
            while len(self._offsets) > SHAPES:
                self._offsets.popitem(last=False)
        return self._offsets[shifts]


def in_parts(run: Callable[[slice], None], persons: int, threads: int) -> None:
    """`run` of every part of the persons, in so many threads; the first of their errors is
    raised.
    """
    parts = [part for part in np.array_split(np.arange(persons), max(threads, 1)) if len(part)]
    slices = [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
    if len(slices) > 1:
        list(_pool(threads).map(run, slices))
    elif slices:
        run(slices[0])


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sparse")


class _Rooms(threading.local):
    """A thread's buffers, zero wherever nothing is written."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Any, Numbers] = OrderedDict()


_rooms = _Rooms()


def aligned(size: int, dtype: npt.DTypeLike) -> Numbers:
    """Zeros that begin with a cache line: vectors that lie across two of them load half as fast."""
    each = np.dtype(dtype).itemsize
    numbers = np.zeros(size + LINE_BYTES // each, dtype)
    ahead = -numbers.ctypes.data % LINE_BYTES // each
    found: Numbers = numbers[ahead : ahead + size]
    return found


def room(make: Callable[[], Numbers], *purpose: Any) -> Numbers:
    """A buffer of this thread for one purpose: as it is made at first, then as its last user left
    it.
    """
    if purpose not in _rooms.kept:
        made = make()
        _rooms.kept[purpose] = made
        held = sum(numbers.nbytes for numbers in _rooms.kept.values())
        while held > ROOMS_BYTES and len(_rooms.kept) > 1:
            held -= _rooms.kept.popitem(last=False)[1].nbytes
    _rooms.kept.move_to_end(purpose)
    return _rooms.kept[purpose]
