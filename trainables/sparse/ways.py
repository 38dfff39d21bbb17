"""How a convolution by kept weights goes through maps of one shape, forward and back: with frames
close together, or with frames of 32 numbers in buffers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.sparse.convolution import Steps, in_parts, room
from trainables.sparse.rows import ALIGNED, WIDTH, Counts, Numbers, Rows, Shifts

LINE = 64
"""Bytes of a line of the cache."""
TILE, COLUMNS = 4, 128
"""Frames of the largest tile of wide ways, and numbers of that of close ones."""
CACHE = 28 * 1024
"""Bytes of a chunk of inputs: what fits into the first level of the cache beside the rest."""
FEWEST = 12
"""Weights of a row in a chunk for which sums are worth to be read and written once more."""
Offsets = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Chunked:
    """Weights in the order in which wide kernels go through them."""

    order: Counts
    starts: Counts  # of every row of every chunk
    offsets: Offsets

    @classmethod
    def of(cls, row: Counts, rows: int, source: Counts, piece: Counts, numbers: int) -> Chunked:
        """Weights by their rows, the channels they read and where their pieces begin; numbers: of
        a channel that are read for a tile of all rows.
        """
        sources = int(source.max(initial=0)) + 1
        needed = -(-sources * numbers * 4 // CACHE)
        chunks = max(1, min(needed, len(row) // (rows * FEWEST)))
        chunk = source * chunks // sources
        order = np.lexsort((piece, row, chunk))
        starts = _starts(chunk * rows + row, chunks * rows)
        return cls(order, starts, piece[order].astype(np.uint32))

    def rows(self, values: Numbers) -> tuple[Counts, Offsets, Numbers]:
        return self.starts, self.offsets, values[self.order]


class Way(ABC):
    """Maps are contiguous; every person, or every row of weights, is computed by one thread, one
    after the other, so that results do not depend on the number of threads.
    """

    def __init__(self, rows: Rows, steps: Steps, frames: int, joints: int) -> None:
        """frames, joints: of the input."""
        self.rows = rows
        self.steps = steps
        self.frames, self.joints = frames, joints
        # padded frame u s + f of the input is read by tap k where f = k d mod s, from frame
        # u - k d // s of the output
        self.ahead, self.phase = np.divmod(rows.taps * steps.dilation, steps.stride)

    @abstractmethod
    def forward(self, x: Numbers, values: Numbers, bias: Numbers, threads: int) -> Numbers:
        """(P, C_in, T, V) -> (P, C_out, T', V)."""

    @abstractmethod
    def input_gradient(self, gradient: Numbers, values: Numbers, threads: int) -> Numbers:
        """(P, C_out, T', V) -> (P, C_in, T, V)."""

    @abstractmethod
    def weight_gradient(self, x: Numbers, gradient: Numbers, threads: int) -> Numbers:
        """(N,)."""

    def shifts(self, joints: int) -> Shifts:
        """Through the input."""
        return Shifts(
            self.frames,
            joints,
            self.rows.size,
            self.steps.stride,
            self.steps.dilation,
            self.steps.padding,
        )


class CloseWay(Way):
    """Frames close together; of a 1x1 convolution of every frame nothing is copied first."""

    def __init__(self, rows: Rows, steps: Steps, frames: int, joints: int) -> None:
        super().__init__(rows, steps, frames, joints)
        self.through = self.shifts(joints)
        self.offsets = self.through.offsets(rows)
        row = rows.channels * steps.stride + self.phase
        reach = (rows.size - 1) * steps.dilation
        numbers = COLUMNS * steps.stride + reach * joints
        self.there = Chunked.of(
            rows.owners, rows.outputs, rows.channels, self.offsets.astype(np.int64), numbers
        )
        # frames of a row of the result, one phase each, and the first, counted in strides
        self.first = steps.padding // steps.stride
        self.length = (steps.padding + frames - 1) // steps.stride - self.first + 1
        before = max(0, reach // steps.stride - self.first)
        after = max(0, self.first + self.length - self.through.frames_out)
        # as much behind as before: what `spread` pads
        self.back = Shifts(self.through.frames_out, joints, 1, padding=max(before, after))
        size = self.back.row if self.back.spreads else self.back.frames * joints
        piece = rows.owners * size + (self.back.padding + self.first - self.ahead) * joints
        numbers = COLUMNS + reach // steps.stride * joints
        self.again = Chunked.of(row, rows.inputs * steps.stride, rows.owners, piece, numbers)

    def forward(self, x: Numbers, values: Numbers, bias: Numbers, threads: int) -> Numbers:
        out = np.empty((len(x), self.rows.outputs, self.through.frames_out, self.joints), x.dtype)
        self._convolve(x, self.through, self.there.rows(values), bias, out, threads)
        return out

    def input_gradient(self, gradient: Numbers, values: Numbers, threads: int) -> Numbers:
        persons, inputs, stride = len(gradient), self.rows.inputs, self.steps.stride
        out = np.empty((persons, inputs * stride, self.length, self.joints), gradient.dtype)
        bias = np.zeros(inputs * stride, gradient.dtype)
        self._convolve(gradient, self.back, self.again.rows(values), bias, out, threads)
        if stride == 1:
            return out
        # frames of the phases one after the other: (P, C_in, frames in a row, stride, V)
        apart = (persons, inputs, stride, self.length, self.joints)
        woven = np.ascontiguousarray(out.reshape(apart).transpose(0, 1, 3, 2, 4))
        unused = self.steps.padding - self.first * stride
        together = woven.reshape(persons, inputs, self.length * stride, self.joints)
        return np.ascontiguousarray(together[:, :, unused : unused + self.frames])

    def weight_gradient(self, x: Numbers, gradient: Numbers, threads: int) -> Numbers:
        from trainables.sparse import gradient_kernels

        out = np.zeros(len(self.offsets), x.dtype)
        shifts, maps, gradients = self.through, _flat(x), _flat(gradient)

        def run(part: slice) -> None:
            gradient_kernels.sum_products(
                maps,
                _spread_as(shifts, x.shape[1], self.joints),
                shifts.spreads,
                (self.rows.starts, self.offsets, out),
                gradients,
                (part.start, part.stop, shifts.frames_out * self.joints),
                self._room(shifts, x),
            )

        in_parts(run, self.rows.outputs, threads)
        return out

    def _convolve(
        self,
        x: Numbers,
        shifts: Shifts,
        rows: tuple[Counts, Offsets, Numbers],
        bias: Numbers,
        out: Numbers,
        threads: int,
    ) -> None:
        """out (P, rows, T', V) = rows of weights times pieces of x."""
        from trainables.sparse import kernels

        columns, maps, results = out.shape[2] * out.shape[3], _flat(x), _flat(out)
        start = np.zeros(columns, x.dtype)

        def run(part: slice) -> None:
            kernels.convolve(
                maps[part],
                _spread_as(shifts, x.shape[1], self.joints),
                shifts.spreads,
                rows,
                bias,
                (start, 0, 0),
                False,
                results[part],
                columns,
                self._room(shifts, x),
            )

        in_parts(run, len(x), threads)

    def _room(self, shifts: Shifts, x: Numbers) -> Numbers:
        return _room(x.shape[1] * shifts.row if shifts.spreads else 0, (x.shape[1], shifts), x)


class WideWay(Way):
    """Frames take WIDTH numbers in buffers, so that every piece begins at a whole vector; inputs
    come in chunks that stay in the first level of the cache.
    """

    def __init__(self, rows: Rows, steps: Steps, frames: int, joints: int) -> None:
        super().__init__(rows, steps, frames, joints)
        stride, padding = steps.stride, steps.padding
        self.through = self.shifts(WIDTH)
        frames_out = self.through.frames_out
        self.parts = np.array([[0, rows.outputs, frames_out, 0]])
        piece = rows.channels * self.through.row + self.through.taps()[rows.taps]
        reach = (rows.size - 1) * steps.dilation
        numbers = (TILE * stride + reach) * WIDTH
        self.there = Chunked.of(rows.owners, rows.outputs, rows.channels, piece, numbers)
        phases = np.arange(stride)
        first = -((phases - padding) // stride)  # of each phase, counted in strides
        lengths = (padding + frames - 1 - phases) // stride - first + 1
        begin = (first * stride + phases - padding) * joints
        count = np.full(stride, rows.inputs)
        self.back_parts = np.stack([phases * rows.inputs, count, lengths, begin], axis=1)
        before = max(0, int(self.ahead.max(initial=0) - first.min()))
        after = max(0, int((first + lengths).max()) - frames_out)
        self.back = Shifts(frames_out, WIDTH, 1, padding=max(before, after))
        frame = self.back.padding + first[self.phase] - self.ahead
        piece = rows.owners * self.back.row + frame * WIDTH
        row = self.phase * rows.inputs + rows.channels
        numbers = (TILE + reach // stride) * WIDTH
        self.again = Chunked.of(row, rows.inputs * stride, rows.owners, piece, numbers)

    def forward(self, x: Numbers, values: Numbers, bias: Numbers, threads: int) -> Numbers:
        out = np.empty((len(x), self.rows.outputs, self.through.frames_out, self.joints), x.dtype)
        rows = self.there.rows(values)
        self._convolve(x, self.through, rows, bias, (out, self.parts, self.joints), threads)
        return out

    def input_gradient(self, gradient: Numbers, values: Numbers, threads: int) -> Numbers:
        shape = (len(gradient), self.rows.inputs, self.frames, self.joints)
        out = np.empty(shape, gradient.dtype)
        bias = np.zeros(self.rows.inputs * self.steps.stride, gradient.dtype)
        result = (out, self.back_parts, self.joints * self.steps.stride)
        self._convolve(gradient, self.back, self.again.rows(values), bias, result, threads)
        return out

    def weight_gradient(self, x: Numbers, gradient: Numbers, threads: int) -> Numbers:
        from trainables.sparse import wide_kernels

        sums = np.zeros(len(self.there.order), x.dtype)
        maps, gradients = _flat(x), _flat(gradient)

        def run(part: slice) -> None:
            wide_kernels.sum_products_wide(
                maps,
                _spread_as(self.through, x.shape[1], self.joints),
                (self.there.starts, self.there.offsets, sums),
                gradients,
                (part.start, part.stop, self.rows.outputs, self.through.frames_out),
                self._room(self.through, x),
            )

        in_parts(run, self.rows.outputs, threads)
        out = np.empty_like(sums)
        out[self.there.order] = sums
        return out

    def _convolve(
        self,
        x: Numbers,
        shifts: Shifts,
        rows: tuple[Counts, Offsets, Numbers],
        bias: Numbers,
        result: tuple[Numbers, Counts, int],
        threads: int,
    ) -> None:
        """result: (out (P, rows, frames, V), parts and numbers from frame to frame, see
        `wide_kernels.convolve_wide`).
        """
        from trainables.sparse import wide_kernels

        out, parts, step = result
        maps, results = _flat(x), _flat(out)
        steps = (out.shape[2] * self.joints, step, self.joints)
        sums = (len(bias) + 1) * TILE * WIDTH

        def run(part: slice) -> None:
            wide_kernels.convolve_wide(
                maps[part],
                _spread_as(shifts, x.shape[1], self.joints),
                rows,
                bias,
                results[part],
                parts,
                steps,
                (self._room(shifts, x), _room(sums, ("sums", len(bias)), x)),
            )

        in_parts(run, len(x), threads)

    def _room(self, shifts: Shifts, x: Numbers) -> Numbers:
        return _room(x.shape[1] * shifts.row, (x.shape[1], shifts, self.joints), x)


def _starts(row: Counts, rows: int) -> Counts:
    """(rows + 1,): where every row begins, of the row of each weight."""
    starts = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=starts[1:])
    return starts


def _spread_as(shifts: Shifts, channels: int, joints: int) -> tuple[int, ...]:
    return (
        channels,
        shifts.frames,
        joints,
        shifts.stride,
        shifts.padding,
        shifts.phase,
        shifts.row,
    )


def _room(size: int, purpose: tuple[object, ...], x: Numbers) -> Numbers:
    """A buffer that begins at a cache line."""

    def made() -> Numbers:
        found = np.zeros(size + ALIGNED, x.dtype)
        unused = -found.ctypes.data % LINE // x.itemsize
        return found[unused : unused + size]

    return room(made, "training", *purpose, x.dtype)


def _flat(maps: Numbers) -> Numbers:
    """(P, numbers of a map)."""
    return maps.reshape(len(maps), math.prod(maps.shape[1:]))
