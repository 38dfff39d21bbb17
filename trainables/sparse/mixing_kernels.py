"""Compiled kernels of joints mixed by matrices, and of the gradients of both.

Needs numba, as `kernels` does; what is said there of compiled files holds here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from trainables.sparse.gradient_kernels import LONG, data_of
from trainables.sparse.kept_code import kernel
from trainables.sparse.rows import WIDTH, Numbers
from trainables.sparse.vectors import LANES, Loop
from trainables.sparse.wide_kernels import VECTORS, Frames

AT_ONCE = 12 // VECTORS
"""Frames whose sums stay in registers."""
OUTER = 13 if LANES == 16 else 2
"""Rows of a matrix's gradient that stay in registers."""
TILE = 96
"""Frames that are read for every matrix before the next ones, a multiple of AT_ONCE."""
SUMMED = 128
"""Frames whose products are added up in the arrays' precision, before they are in double."""


def _mix(frames: int, *, add: bool) -> Callable[..., Any]:
    """The operation below for so many frames, whose sums stay in registers; add: to what is there
    already.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def mix(
        typing: Any,
        x: Any,
        x_at: Any,
        matrix: Any,
        matrix_at: Any,
        joints: Any,
        out: Any,
        out_at: Any,
    ) -> Any:
        """out[out_at + f V + w] = sum over v of x[x_at + f V + v] matrix[matrix_at + v WIDTH + w],
        for all joints w of the frames f; V: joints. No bounds are checked.
        """
        arguments = (x, x_at, matrix, matrix_at, joints, out, out_at)

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            frame = Frames(context, builder, signature.args[0].dtype, given[4])
            data = data_of(context, builder, signature, given)
            ahead = [builder.mul(given[4], ir.Constant(LONG, number)) for number in range(frames)]
            source, weights, result = data(0, given[1]), data(2, given[3]), data(5, given[6])
            places = [builder.gep(result, [each]) for each in ahead]
            parts = [(number, part) for number in range(frames) for part in range(VECTORS)]
            sums = [
                frame.take(places[number], part) if add else frame.zeros for number, part in parts
            ]
            loop = Loop(builder, ir.Constant(LONG, 0), given[4], sums)
            row = builder.gep(weights, [builder.mul(loop.i, ir.Constant(LONG, WIDTH))])
            vectors = [frame.load(row, part) for part in range(VECTORS)]
            joint = builder.gep(source, [loop.i])
            numbers = [frame.splat(builder.load(builder.gep(joint, [each]))) for each in ahead]
            loop.close(
                [
                    frame.multiply_add(total, numbers[number], vectors[part])
                    for (number, part), total in zip(parts, loop.carried, strict=True)
                ]
            )
            for (number, part), total in zip(parts, loop.carried, strict=True):
                frame.put(total, places[number], part)
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = mix
    return operation


def _outer(rows: int) -> Callable[..., Any]:
    """The operation below for so many rows, which stay in registers."""

    @intrinsic  # type: ignore[untyped-decorator]
    def outer(
        typing: Any,
        x: Any,
        x_at: Any,
        gradient: Any,
        gradient_at: Any,
        frames: Any,
        joints: Any,
        out: Any,
        out_at: Any,
    ) -> Any:
        """out[out_at + v WIDTH + w] = sum over frames f of x[x_at + f V + v] gradient[gradient_at +
        f V + w], for the rows v and all w; V: joints. No bounds are checked.
        """
        arguments = (x, x_at, gradient, gradient_at, frames, joints, out, out_at)

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            frame = Frames(context, builder, signature.args[0].dtype, given[5])
            data = data_of(context, builder, signature, given)
            source, others, result = data(0, given[1]), data(2, given[3]), data(6, given[7])
            parts = [(row, part) for row in range(rows) for part in range(VECTORS)]
            loop = Loop(builder, ir.Constant(LONG, 0), given[4], [frame.zeros] * len(parts))
            begin = builder.mul(loop.i, given[5])
            there, here = builder.gep(others, [begin]), builder.gep(source, [begin])
            vectors = [frame.take(there, part) for part in range(VECTORS)]
            totals = []
            for row in range(rows):  # one number after the other: all would not stay in registers
                number = frame.splat(builder.load(builder.gep(here, [ir.Constant(LONG, row)])))
                totals += [
                    frame.multiply_add(loop.carried[row * VECTORS + part], number, vectors[part])
                    for part in range(VECTORS)
                ]
            loop.close(totals)
            for (row, part), total in zip(parts, loop.carried, strict=True):
                place = builder.gep(result, [ir.Constant(LONG, row * WIDTH)])
                frame.store(total, place, part)
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = outer
    return operation


_mix_frames, _mix_frame = _mix(AT_ONCE, add=False), _mix(1, add=False)
_add_frames, _add_frame = _mix(AT_ONCE, add=True), _mix(1, add=True)
_outer_rows, _outer_row = _outer(OUTER), _outer(1)


@kernel
def mix_each(x: Numbers, matrices: Numbers, joints: int, out: Numbers) -> None:
    """out[n, k] = x_n A_k: x (N, R V), matrices (K, V WIDTH), out (N, K R V)."""
    frames = x.shape[1] // joints
    for n in range(len(x)):
        source, result = x[n], out[n]
        for tile in range(0, frames, TILE):
            last = min(tile + TILE, frames)
            whole = last - (last - tile) % AT_ONCE
            for k in range(len(matrices)):
                for frame in range(tile, whole, AT_ONCE):
                    at, to = frame * joints, (k * frames + frame) * joints
                    _mix_frames(source, at, matrices[k], 0, joints, result, to)
                for frame in range(whole, last):
                    at, to = frame * joints, (k * frames + frame) * joints
                    _mix_frame(source, at, matrices[k], 0, joints, result, to)


@kernel
def mix_and_add(x: Numbers, matrices: Numbers, joints: int, out: Numbers) -> None:
    """out[n] += sum over k of x_{n, k} A_k: x (N, K R V), matrices (K, V WIDTH), out (N, R V)."""
    frames = out.shape[1] // joints
    for n in range(len(x)):
        source, result = x[n], out[n]
        for tile in range(0, frames, TILE):
            last = min(tile + TILE, frames)
            whole = last - (last - tile) % AT_ONCE
            for k in range(len(matrices)):
                for frame in range(tile, whole, AT_ONCE):
                    at, to = (k * frames + frame) * joints, frame * joints
                    _add_frames(source, at, matrices[k], 0, joints, result, to)
                for frame in range(whole, last):
                    at, to = (k * frames + frame) * joints, frame * joints
                    _add_frame(source, at, matrices[k], 0, joints, result, to)


@kernel
def outer_each(
    x: Numbers, gradient: Numbers, joints: int, room: Numbers, sums: npt.NDArray[np.float64]
) -> None:
    """sums[n, k] += x_n^T dy_{n, k}, rows of WIDTH numbers: x (N, R V), gradient (N, K R V), sums
    (N, K, V WIDTH); room: (V WIDTH,).
    """
    frames = x.shape[1] // joints
    for n in range(len(x)):
        source, given = x[n], gradient[n]
        for k in range(sums.shape[1]):
            into = sums[n, k]
            for frame in range(0, frames, SUMMED):
                count = min(SUMMED, frames - frame)
                at, there = frame * joints, (k * frames + frame) * joints
                row = 0
                while row + OUTER <= joints:
                    to = row * WIDTH
                    _outer_rows(source, at + row, given, there, count, joints, room, to)
                    row += OUTER
                if row < joints and joints >= OUTER:  # those before are computed once more
                    row, to = joints, (joints - OUTER) * WIDTH
                    _outer_rows(
                        *(source, at + joints - OUTER, given, there, count, joints, room, to)
                    )
                for last in range(row, joints):
                    to = last * WIDTH
                    _outer_row(source, at + last, given, there, count, joints, room, to)
                for number in range(joints * WIDTH):
                    into[number] += room[number]
