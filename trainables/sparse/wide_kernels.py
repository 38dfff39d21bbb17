"""Compiled kernels for maps of 24 to 32 joints, whose frames take 32 numbers in buffers: every
piece of a feature map begins at a whole vector then, which is read twice as fast as across two.

Needs numba, as `kernels` does; what is said there of compiled files holds here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from trainables.sparse.gradient_kernels import LONG, Sums, data_of
from trainables.sparse.kept_code import kernel
from trainables.sparse.kernels import Triple
from trainables.sparse.rows import WIDTH, Counts, Numbers
from trainables.sparse.vectors import LANES, Loop

VECTORS = WIDTH // LANES
"""Of a frame."""
FRAMES = 8 // VECTORS
"""Whose sums stay in registers: 8 vectors."""
HELD = 16 // VECTORS if LANES == 16 else FRAMES
"""Frames of a gradient that stay in registers."""


class Frames(Sums):
    """Vectors of frames of V joints that lie close together in memory, zeros beyond the joints."""

    def __init__(self, context: Any, builder: Any, kind: Any, joints: Any) -> None:
        super().__init__(context, builder, kind, LANES)
        self.used = [
            builder.icmp_signed("<", *self._lanes_and(joints, part * LANES))
            for part in range(VECTORS)
        ]
        self.pointer = self.kind.as_pointer()
        self.mask = self.used[0].type

    def put(self, value: Any, base: Any, part: int) -> None:
        """The part'th vector of a frame at `base`, its joints alone."""
        function = self._intrinsic(
            "store",
            ir.FunctionType(ir.VoidType(), [self.kind, self.pointer, ir.IntType(32), self.mask]),
        )
        aligned = ir.Constant(ir.IntType(32), self.bytes)
        self.builder.call(function, [value, self._at(base, part), aligned, self.used[part]])

    def take(self, base: Any, part: int) -> Any:
        """The part'th vector of a frame at `base`, zeros beyond its joints."""
        function = self._intrinsic(
            "load",
            ir.FunctionType(self.kind, [self.pointer, ir.IntType(32), self.mask, self.kind]),
        )
        aligned = ir.Constant(ir.IntType(32), self.bytes)
        arguments = [self._at(base, part), aligned, self.used[part], self.zeros]
        return self.builder.call(function, arguments)

    def _intrinsic(self, name: str, kind: Any) -> Any:
        number = "f32" if self.bytes == 4 else "f64"
        called = f"llvm.masked.{name}.v{self.lanes}{number}.p0"
        return cgutils.get_or_insert_function(self.builder.module, kind, called)


def _sums(frames: int, *, close: bool) -> Callable[..., Any]:
    """The operation below for so many frames, whose sums stay in registers. close: the result's
    frames are V numbers, `step` apart, and not WIDTH.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def sums(
        typing: Any,
        x: Any,
        x_at: Any,
        values: Any,
        offsets: Any,
        first: Any,
        last: Any,
        bias: Any,
        start: Any,
        start_at: Any,
        out: Any,
        out_at: Any,
        step: Any,
        joints: Any,
    ) -> Any:
        """out[out_at + f step + j] = bias + start[start_at + f WIDTH + j] + sum of values[i] x[x_at
        + offsets[i] + f WIDTH + j], i from first to last, for all joints j of the frames f. No
        bounds are checked.
        """
        arguments = (
            *(x, x_at, values, offsets, first, last, bias),
            *(start, start_at, out, out_at, step, joints),
        )

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            frame = Frames(context, builder, signature.args[0].dtype, given[12])
            data = data_of(context, builder, signature, given)
            source, begin, more = data(0, given[1]), data(7, given[8]), frame.splat(given[6])
            sums = [builder.fadd(frame.load(begin, j), more) for j in range(frames * VECTORS)]
            loop = Loop(builder, given[4], given[5], sums)
            weight = frame.splat(builder.load(data(2, loop.i)))
            offset = builder.load(data(3, loop.i))
            piece = builder.gep(source, [builder.zext(offset, LONG)])
            loop.close(
                [
                    frame.multiply_add(total, weight, frame.load(piece, j))
                    for j, total in enumerate(loop.carried)
                ]
            )
            place = data(9, given[10])
            for j, total in enumerate(loop.carried):
                if not close:
                    frame.store(total, place, j)
                    continue
                frame.put(total, place, j % VECTORS)
                if j % VECTORS == VECTORS - 1:
                    place = builder.gep(place, [given[11]])
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = sums
    return operation


def _products(frames: int) -> Callable[..., Any]:
    """The operation below for so many frames, whose gradient stays in registers."""

    @intrinsic  # type: ignore[untyped-decorator]
    def products(
        typing: Any,
        x: Any,
        x_at: Any,
        offsets: Any,
        first: Any,
        last: Any,
        gradient: Any,
        gradient_at: Any,
        joints: Any,
        out: Any,
    ) -> Any:
        """out[i] += sum over frames f and joints j of gradient[gradient_at + f V + j] x[x_at +
        offsets[i] + f WIDTH + j], i from first to last; V: joints. No bounds are checked.
        """
        arguments = (x, x_at, offsets, first, last, gradient, gradient_at, joints, out)

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            frame = Frames(context, builder, signature.args[0].dtype, given[7])
            data = data_of(context, builder, signature, given)
            source, row, held = data(0, given[1]), data(5, given[6]), []
            for _ in range(frames):
                held += [frame.take(row, part) for part in range(VECTORS)]
                row = builder.gep(row, [given[7]])

            def at(i: Any) -> Any:
                return builder.gep(source, [builder.zext(builder.load(data(2, i)), LONG)])

            frame.add_products(held, at, data(8), given[3], given[4])
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = products
    return operation


@intrinsic  # type: ignore[untyped-decorator]
def _widen(typing: Any, x: Any, x_at: Any, joints: Any, out: Any, out_at: Any) -> Any:
    """A frame of `out` = that of x with zeros beyond its joints. No bounds are checked."""

    def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        frame = Frames(context, builder, signature.args[0].dtype, given[2])
        data = data_of(context, builder, signature, given)
        source, place = data(0, given[1]), data(3, given[4])
        for part in range(VECTORS):
            frame.store(frame.take(source, part), place, part)
        return context.get_dummy_value()

    return types.void(x, x_at, joints, out, out_at), written


_frames_sums, _frame_sums = _sums(FRAMES, close=False), _sums(1, close=False)
_last_frames_sums, _last_frame_sums = _sums(FRAMES, close=True), _sums(1, close=True)
_frames_products, _frame_products = _products(HELD), _products(1)


@kernel
def spread_wide(x: Numbers, spread_as: tuple[int, ...], out: Numbers) -> None:
    """Write a flat map (C, T, V) into spread rows of frames of WIDTH numbers; the zeros around are
    there already.

    spread_as: (C, T, V, stride, padding, phase, row), as of `rows.Shifts` of WIDTH joints.
    """
    channels, frames, joints, stride, padding, phase, row = spread_as
    for channel in range(channels):
        source = channel * frames * joints
        for frame in range(frames):
            place = frame + padding
            to = channel * row + place % stride * phase + place // stride * WIDTH
            _widen(x, source, joints, out, to)
            source += joints


@kernel
def convolve_wide(
    x: Numbers,
    spread_as: tuple[int, ...],
    rows: Triple,
    bias: Numbers,
    out: Numbers,
    parts: Counts,
    steps: tuple[int, int, int],
    rooms: tuple[Numbers, Numbers],
) -> None:
    """A convolution of maps (P, C_in, T, V): out (P, rows, T', V) = bias + weights times pieces.

    rows: chunk after chunk of inputs, which stay in the cache, each of all rows. parts: (part, 4):
    first row, rows, frames, where the first frame is in a row of the result. steps: numbers of the
    result from row to row and from frame to frame, and joints. rooms: a spread map, zero where
    nothing is written, and a place for FRAMES frames of every row and one, that of zeros.
    """
    starts, offsets, values = rows
    row_step, step, joints = steps
    room, sums = rooms
    all_rows = len(bias)
    chunks, size = (len(starts) - 1) // all_rows, FRAMES * WIDTH
    zeros, zero = all_rows * size, x.dtype.type(0.0)
    for person in range(len(x)):
        spread_wide(x[person], spread_as, room)
        result = out[person]
        for part in parts:
            tile = FRAMES if part[2] >= FRAMES else 1
            for some in range(0, part[2], tile):
                frame = min(some, part[2] - tile)
                for chunk in range(chunks):
                    for number in range(part[1]):
                        o = part[0] + number
                        row, at = chunk * all_rows + o, o * size
                        begin = zeros if chunk == 0 else at
                        to = number * row_step + part[3] + frame * step
                        given = (room, frame * WIDTH, values, offsets, starts[row], starts[row + 1])
                        more = bias[o] if chunk == 0 else zero
                        if chunk < chunks - 1:
                            if tile == 1:
                                _frame_sums(*given, more, sums, begin, sums, at, 0, joints)
                            else:
                                _frames_sums(*given, more, sums, begin, sums, at, 0, joints)
                        elif tile == 1:
                            _last_frame_sums(*given, more, sums, begin, result, to, step, joints)
                        else:
                            _last_frames_sums(*given, more, sums, begin, result, to, step, joints)


@kernel
def sum_products_wide(
    x: Numbers,
    spread_as: tuple[int, ...],
    rows: Triple,
    gradient: Numbers,
    part: tuple[int, int, int, int],
    room: Numbers,
) -> None:
    """Add to every weight's number the sum over persons, frames and joints of its output's gradient
    times its piece of x.

    x, gradient: (P, numbers of a map). rows: (starts, offsets, numbers), chunk after chunk of
    inputs, which stay in the cache, each of all rows. part: rows first to last, which are computed,
    of all; and frames. room: a spread map, zero where nothing is written.
    """
    starts, offsets, out = rows
    first, last, all_rows, frames = part
    joints = spread_as[2]
    whole = frames - frames % HELD
    chunks = (len(starts) - 1) // all_rows
    for person in range(len(x)):
        spread_wide(x[person], spread_as, room)
        given = gradient[person]
        for frame in range(0, whole, HELD):
            for chunk in range(chunks):
                for o in range(first, last):
                    row = chunk * all_rows + o
                    _frames_products(
                        *(room, frame * WIDTH, offsets, starts[row], starts[row + 1]),
                        *(given, (o * frames + frame) * joints, joints, out),
                    )
        for frame in range(whole, frames):
            for row in range(first, len(starts) - 1):
                o = row % all_rows
                if first <= o < last:
                    _frame_products(
                        *(room, frame * WIDTH, offsets, starts[row], starts[row + 1]),
                        *(given, (o * frames + frame) * joints, joints, out),
                    )
