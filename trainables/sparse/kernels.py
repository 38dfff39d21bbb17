"""Compiled kernels: rows of kept weights times contiguous pieces of feature maps.

Needs numba, so it is imported only where `rows.compiled()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from trainables.sparse.kept_code import kernel
from trainables.sparse.rows import Counts, Numbers
from trainables.sparse.vectors import LANES, Loop, Vectors

Triple = tuple[Counts, npt.NDArray[np.uint32], Numbers]
"""starts, offsets and values of rows."""

VECTORS = 8
"""Registers that hold sums: enough to hide how long an operation takes."""
COLUMNS = VECTORS * LANES
HALF = COLUMNS // 2


def _tile(vectors: int, lanes: int, outputs: int = 1) -> Callable[..., Any]:
    """The operation below for vectors * lanes columns, whose sums stay in registers."""

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
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
        start_row: Any,
        floor: Any,
        out: Any,
        out_at: Any,
        out_row: Any,
    ) -> Any:
        """out[out_at + o out_row + j] = max(floor, bias[o] + start[start_at + o start_row + j] +
        sum of values[i outputs + o] x[x_at + offsets[i] + j], i from first to last), for the
        outputs o and columns j. No bounds are checked. bias: a tuple.
        """
        arguments = (
            *(x, x_at, values, offsets, first, last, bias),
            *(start, start_at, start_row, floor, out, out_at, out_row),
        )

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            wide = ir.IntType(64)

            def data(position: int, at: Any | None = None) -> Any:
                kind = signature.args[position]
                base = context.make_array(kind)(context, builder, given[position]).data
                return base if at is None else builder.gep(base, [at])

            def row_of(base: Any, row: Any, output: int) -> Any:
                return builder.gep(base, [builder.mul(row, ir.Constant(wide, output))])

            vector = Vectors(context, builder, signature.args[0].dtype, lanes)
            source, starts, result = data(0, given[1]), data(7, given[8]), data(11, given[12])
            sums = []
            for output in range(outputs):
                added = vector.splat(builder.extract_value(given[6], output))
                row = row_of(starts, given[9], output)
                sums += [builder.fadd(vector.load(row, j), added) for j in range(vectors)]
            loop = Loop(builder, given[4], given[5], sums)
            offset = builder.load(builder.gep(data(3), [loop.i]))
            piece = builder.gep(source, [builder.zext(offset, wide)])
            numbers = [vector.load(piece, j) for j in range(vectors)]
            weights = builder.gep(data(2), [builder.mul(loop.i, ir.Constant(wide, outputs))])
            totals = []
            for output in range(outputs):
                weight = builder.gep(weights, [ir.Constant(wide, output)])
                weight = vector.splat(builder.load(weight))
                own = loop.carried[output * vectors : (output + 1) * vectors]
                totals += [
                    vector.multiply_add(total, weight, each)
                    for total, each in zip(own, numbers, strict=True)
                ]
            loop.close(totals)
            floors = vector.splat(given[10])
            for number, total in enumerate(loop.carried):
                row = row_of(result, given[13], number // vectors)
                vector.store(vector.at_least(floors, total), row, number % vectors)
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = tile
    return operation


_wide, _narrow, _single = _tile(VECTORS, LANES), _tile(1, LANES), _tile(1, 1)
GROUP = 4
"""Outputs that share their places, computed together."""
_group = _tile(VECTORS // 2, LANES, GROUP)


# One kernel for each operation: several of them in one loop cost up to a quarter of the speed.
@kernel
def _multiply_wide(
    x: tuple[Numbers, int],
    rows: Triple,
    bias: Numbers,
    start: tuple[Numbers, int, int],
    floors: tuple[float, float],
    out: tuple[Numbers, int, int],
    columns: int,
) -> None:
    """`multiply` of single weights and at least COLUMNS columns."""
    (numbers, x_at), (starts, offsets, values) = x, rows
    (first, start_at, start_row), (result, out_at, out_row) = start, out
    outputs, zero = len(bias), numbers.dtype.type(0.0)
    chunks = (len(starts) - 1) // outputs
    for tile in range(0, columns, COLUMNS):
        at = min(tile, columns - COLUMNS)
        for chunk in range(chunks):
            floor = floors[1] if chunk == chunks - 1 else floors[0]
            for o in range(outputs):
                row, to = chunk * outputs + o, out_at + o * out_row + at
                given = (numbers, x_at + at, values, offsets, starts[row], starts[row + 1])
                if chunk == 0:
                    begin = start_at + o * start_row + at
                    _wide(*given, (bias[o],), first, begin, 0, floor, result, to, 0)
                else:
                    _wide(*given, (zero,), result, to, 0, floor, result, to, 0)


@kernel
def _multiply_groups(
    x: tuple[Numbers, int],
    rows: Triple,
    bias: Numbers,
    start: tuple[Numbers, int, int],
    floors: tuple[float, float],
    out: tuple[Numbers, int, int],
    columns: int,
) -> None:
    """`multiply` of groups of outputs and at least HALF columns."""
    (numbers, x_at), (starts, offsets, values) = x, rows
    (first, start_at, start_row), (result, out_at, out_row) = start, out
    outputs, zero = len(bias), numbers.dtype.type(0.0)
    chunks = (len(starts) - 1) * GROUP // outputs
    for tile in range(0, columns, HALF):
        at = min(tile, columns - HALF)
        for chunk in range(chunks):
            floor = floors[1] if chunk == chunks - 1 else floors[0]
            for o in range(0, outputs, GROUP):
                row, to = (chunk * outputs + o) // GROUP, out_at + o * out_row + at
                given = (numbers, x_at + at, values, offsets, starts[row], starts[row + 1])
                if chunk == 0:
                    begin = start_at + o * start_row + at
                    more = (bias[o], bias[o + 1], bias[o + 2], bias[o + 3])
                    _group(*given, more, first, begin, start_row, floor, result, to, out_row)
                else:
                    none = (zero, zero, zero, zero)
                    _group(*given, none, result, to, out_row, floor, result, to, out_row)


@kernel
def _multiply_little(
    x: tuple[Numbers, int],
    rows: Triple,
    bias: Numbers,
    start: tuple[Numbers, int, int],
    floors: tuple[float, float],
    out: tuple[Numbers, int, int],
    columns: int,
) -> None:
    """`multiply` of single weights and few columns."""
    (numbers, x_at), (starts, offsets, values) = x, rows
    (first, start_at, start_row), (result, out_at, out_row) = start, out
    outputs, zero = len(bias), numbers.dtype.type(0.0)
    chunks, size = (len(starts) - 1) // outputs, LANES if columns >= LANES else 1
    for tile in range(0, columns, size):
        at = min(tile, columns - size)
        for chunk in range(chunks):
            floor = floors[1] if chunk == chunks - 1 else floors[0]
            for o in range(outputs):
                row, to = chunk * outputs + o, out_at + o * out_row + at
                given = (numbers, x_at + at, values, offsets, starts[row], starts[row + 1])
                source, begin, more = result, to, zero
                if chunk == 0:
                    source, begin, more = first, start_at + o * start_row + at, bias[o]
                if size == LANES:
                    _narrow(*given, (more,), source, begin, 0, floor, result, to, 0)
                else:
                    _single(*given, (more,), source, begin, 0, floor, result, to, 0)


@kernel
def multiply(
    x: tuple[Numbers, int],
    rows: Triple,
    bias: Numbers,
    start: tuple[Numbers, int, int],
    relu: bool,
    out: tuple[Numbers, int, int],
    columns: int,
    group: int,
) -> None:
    """out row o = bias[o] + start row o + sum of rows' weights times pieces of x, over `columns`
    numbers each, then ReLU if asked.

    x, start, out: flat arrays and where their maps begin, of the last two also numbers from row to
    row, 0 of `start`: one row for all. rows: (starts, offsets, values), for every output once or,
    chunk after chunk of inputs, several times. group: 1, or 4 (at least HALF columns): so many
    outputs have their places in common, and every place as many values. `out` must not be where x
    or start are, but for whole tiles: the last columns are computed twice.
    """
    lowest = x[0].dtype.type(-np.inf)
    floors = (lowest, x[0].dtype.type(0.0) if relu else lowest)
    if group == GROUP:
        _multiply_groups(x, rows, bias, start, floors, out, columns)
    elif columns < COLUMNS:
        _multiply_little(x, rows, bias, start, floors, out, columns)
    else:
        _multiply_wide(x, rows, bias, start, floors, out, columns)


@kernel
def spread(x: Numbers, spread_as: tuple[int, ...], out: Numbers) -> None:
    """Write a flat map (C, T, V) into spread rows (`rows.Shifts`); the zeros around are there
    already.

    spread_as: (C, T, V, stride, padding, phase, row).
    """
    channels, frames, joints, stride, padding, phase, row = spread_as
    for channel in range(channels):
        if stride == 1:
            to, source = channel * row + padding * joints, channel * frames * joints
            out[to : to + frames * joints] = x[source : source + frames * joints]
            continue
        for frame in range(frames):
            place = frame + padding
            to = channel * row + place % stride * phase + place // stride * joints
            source = (channel * frames + frame) * joints
            out[to : to + joints] = x[source : source + joints]


@kernel
def convolve(
    x: Numbers,
    spread_as: tuple[int, ...],
    spreads: bool,
    rows: Triple,
    bias: Numbers,
    residual: tuple[Numbers, int, int],
    relu: bool,
    out: Numbers,
    columns: int,
    room: Numbers,
) -> None:
    """A convolution of maps (P, C_in, T, V): out (P, C_out, T' V) = bias + residual + conv, then
    ReLU if asked.

    x, out: (P, numbers of a map). residual: (flat start, its numbers from map to map, from row to
    row), both 0 for one row of zeros. room: a spread map, zero where nothing is written.
    """
    start, start_size, start_row = residual
    for person in range(len(x)):
        source = x[person]
        if spreads:
            spread(source, spread_as, room)
            source = room
        begin = (start, person * start_size, start_row)
        result = (out[person], 0, columns)
        multiply((source, 0), rows, bias, begin, relu, result, columns, 1)


def _mixed(frames: int) -> Callable[..., Any]:
    """The operation below for so many frames, whose sums stay in registers."""

    @intrinsic  # type: ignore[untyped-decorator]
    def mixed(
        typing: Any,
        x: Any,
        x_at: Any,
        matrix: Any,
        matrix_at: Any,
        joints: Any,
        width: Any,
        out: Any,
        out_at: Any,
    ) -> Any:
        """out[out_at + f width + j] = sum over v of x[x_at + f width + v] matrix[matrix_at + v
        width + j], for the joints j of one vector. No bounds are checked.
        """
        arguments = (x, x_at, matrix, matrix_at, joints, width, out, out_at)

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def data(position: int, at: Any) -> Any:
                kind = signature.args[position]
                base = context.make_array(kind)(context, builder, given[position]).data
                return builder.gep(base, [at])

            vector = Vectors(context, builder, signature.args[0].dtype, LANES)
            wide = ir.IntType(64)
            ahead = [builder.mul(given[5], ir.Constant(wide, frame)) for frame in range(frames)]
            source, weights, result = data(0, given[1]), data(2, given[3]), data(6, given[7])
            zeros = [ir.Constant(vector.kind, [0.0] * LANES) for _ in range(frames)]
            loop = Loop(builder, ir.Constant(wide, 0), given[4], zeros)
            row = vector.load(builder.gep(weights, [builder.mul(loop.i, given[5])]))
            joint = builder.gep(source, [loop.i])
            loop.close(
                [
                    vector.multiply_add(
                        total, vector.splat(builder.load(builder.gep(joint, [ahead[frame]]))), row
                    )
                    for frame, total in enumerate(loop.carried)
                ]
            )
            for frame, total in enumerate(loop.carried):
                vector.store(total, builder.gep(result, [ahead[frame]]))
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = mixed
    return operation


_mixed_frames, _mixed_frame = _mixed(VECTORS), _mixed(1)


@kernel
def mix(
    space: Numbers,
    rows: Counts,
    matrices: Numbers,
    frames: int,
    joints: int,
    width: int,
) -> None:
    """Mix the joints of rows of frames: out[f] = x[f] M. rows: (row, 3): where x, M and out begin;
    x and out in `space`, M (V, width) in `matrices`. width: numbers from frame to frame.
    """
    whole = frames - frames % VECTORS
    for number in range(len(rows)):
        x, matrix, out = rows[number, 0], rows[number, 1], rows[number, 2]
        for joint in range(0, width, LANES):
            for frame in range(0, whole, VECTORS):
                at = frame * width
                _mixed_frames(
                    *(space, x + at, matrices, matrix + joint, joints, width),
                    *(space, out + at + joint),
                )
            for frame in range(whole, frames):
                at = frame * width
                _mixed_frame(
                    *(space, x + at, matrices, matrix + joint, joints, width),
                    *(space, out + at + joint),
                )


MULTIPLY, MIX, PICK, LEAK, CLEAR = 0, 1, 2, 3, 4
"""Steps of a program."""
SLOPE = 0.1
"""Of LeakyReLU below zero."""


@kernel
def run(
    space: Numbers,
    steps: Counts,
    rows: Triple,
    bias: Numbers,
    mixings: Counts,
    matrices: Numbers,
) -> None:
    """The steps (step, 14) of a program on one person's `space`, where all its feature maps are: a
    code and what belongs to it.

    MULTIPLY first row, last row, columns, start, its row, out, its row, whether ReLU follows,
    outputs, first bias, group, first offset, first value: see `multiply`.
    MIX first, number of `mixings`, frames, joints, width. PICK rows, frames, stride, width, from,
    its row, to, its row: every stride-th frame. LEAK rows, columns, from, its row: LeakyReLU(0.1).
    CLEAR rows, numbers, from, its row: zeros.
    """
    starts, offsets, values = rows
    zero, lowest = space.dtype.type(0.0), space.dtype.type(-np.inf)
    for number in range(len(steps)):
        step = steps[number]
        if step[0] == MULTIPLY:
            first, last = step[1], step[2]
            multiply(
                (space, 0),
                (starts[first : last + 1], offsets[step[12] :], values[step[13] :]),
                bias[step[10] : step[10] + step[9]],
                (space, step[4], step[5]),
                step[8] != 0,
                (space, step[6], step[7]),
                step[3],
                step[11],
            )
        elif step[0] == MIX:
            first, count = step[1], step[2]
            mix(space, mixings[first : first + count], matrices, step[3], step[4], step[5])
        elif step[0] == PICK:
            frames, stride, width = step[2], step[3], step[4]
            for row in range(step[1]):
                for frame in range(frames):
                    source = step[5] + row * step[6] + frame * stride * width
                    target = step[7] + row * step[8] + frame * width
                    for joint in range(0, width, LANES):
                        _narrow(
                            *(space, 0, values, offsets, 0, 0, (zero,)),
                            *(space, source + joint, 0, lowest, space, target + joint, 0),
                        )
        elif step[0] == LEAK:
            slope = space.dtype.type(SLOPE)
            for row in range(step[1]):
                numbers = space[step[3] + row * step[4] : step[3] + row * step[4] + step[2]]
                for at in range(len(numbers)):
                    numbers[at] = max(numbers[at], numbers[at] * slope)
        elif step[0] == CLEAR:
            for row in range(step[1]):
                begin = step[3] + row * step[4]
                for at in range(begin, begin + step[2], LANES):
                    _narrow(
                        *(space, 0, values, offsets, 0, 0, (zero,)),
                        *(space, 0, 0, lowest, space, at, 0),  # where there are zeros
                    )


@kernel
def means(
    space: Numbers, at: int, row: int, frames: int, joints: int, width: int, out: Numbers
) -> None:
    """out[c] = the mean over frames and joints of row c of a map that begins `at`; row, width:
    numbers from row to row and from frame to frame.
    """
    sums = np.empty(joints, space.dtype)
    for channel in range(len(out)):
        sums[:] = space.dtype.type(0.0)
        for frame in range(frames):
            begin = at + channel * row + frame * width
            numbers = space[begin : begin + joints]
            for joint in range(joints):
                sums[joint] += numbers[joint]
        total = space.dtype.type(0.0)
        for joint in range(joints):
            total += sums[joint]
        out[channel] = total / space.dtype.type(frames * joints)
