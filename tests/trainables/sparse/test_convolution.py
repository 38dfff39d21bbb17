"""Convolutions by kept weights are torch's dense convolutions with the zeros in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.sparse import kernels
from trainables.sparse.convolution import Convolution, Steps
from trainables.sparse.rows import Rows

ROUNDING = {np.float32: 1e-6, np.float64: 1e-14}  # of the sum of all absolute products


def dense(x, kernel, bias, steps, groups=1):
    """torch's convolution in double precision, and the same with all numbers positive."""
    tensors = [torch.from_numpy(np.asarray(each, dtype=np.float64)) for each in (x, kernel, bias)]

    def conv(x, kernel, bias):
        return F.conv2d(
            x,
            kernel[..., None],
            bias,
            stride=(steps.stride, 1),
            padding=(steps.padding, 0),
            dilation=(steps.dilation, 1),
            groups=groups,
        ).numpy()

    return conv(*tensors), conv(*(tensor.abs() for tensor in tensors))


def kept(rng, shape, share):
    return rng.standard_normal(shape) * (rng.random(shape) < share)


def check(rng, *, maps, kernel, steps, groups=1, kind=np.float32, **how):
    kernel, x = kernel.astype(kind), rng.standard_normal(maps).astype(kind)
    bias = rng.standard_normal(len(kernel)).astype(kind)
    expected, scale = dense(x, kernel, bias, steps, groups)
    residual = how.get("residual")
    if residual:
        residual = rng.standard_normal(expected.shape).astype(kind)
        expected, scale = expected + residual, scale + abs(residual)
    if how.get("relu"):
        expected = np.maximum(expected, 0)
    convolution = Convolution(kernel, steps, groups=groups)
    found = convolution(
        x,
        bias=bias,
        residual=residual if how.get("residual") else None,
        relu=how.get("relu", False),
        threads=how.get("threads", 1),
    )
    assert found.dtype == kind
    assert found.shape == expected.shape
    np.testing.assert_array_less(abs(found - expected), ROUNDING[kind] * scale + 1e-30)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("maps", "kernel", "steps"),
    [
        ((2, 4, 9, 25), (6, 4, 1), Steps()),
        ((2, 4, 9, 25), (6, 4, 5), Steps(padding=2)),
        ((1, 4, 9, 25), (6, 4, 5), Steps(stride=2, padding=2)),
        ((1, 4, 10, 25), (6, 4, 9), Steps(stride=2, padding=4)),
        ((1, 3, 11, 7), (5, 3, 3), Steps(stride=3, dilation=2, padding=2)),
        ((3, 3, 8, 20), (5, 3, 3), Steps(dilation=3, padding=3)),
        ((1, 3, 8, 20), (5, 3, 2), Steps()),  # shorter, and of an even size
        ((2, 3, 1, 25), (5, 3, 5), Steps(padding=2)),  # one frame
        ((2, 3, 9, 1), (5, 3, 5), Steps(padding=2)),  # one joint
        ((1, 1, 1, 1), (1, 1, 1), Steps()),
        ((0, 3, 9, 5), (5, 3, 3), Steps(padding=1)),  # nobody
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_is_the_dense_convolution(maps, kernel, steps, share, kind):
    rng = np.random.default_rng(0)
    check(rng, maps=maps, kernel=kept(rng, kernel, share), steps=steps, kind=kind)


def test_rows_may_be_empty_or_full():
    rng = np.random.default_rng(1)
    kernel = kept(rng, (5, 4, 3), 0.3)
    kernel[[0, 4]], kernel[2] = 0.0, rng.standard_normal((4, 3))
    check(rng, maps=(2, 4, 7, 11), kernel=kernel, steps=Steps(padding=1))


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_read_their_own_channels(groups):
    rng = np.random.default_rng(2)
    kernel = kept(rng, (8, 8 // groups, 3), 0.5)
    check(rng, maps=(2, 8, 7, 11), kernel=kernel, steps=Steps(padding=1), groups=groups)


def test_500_shapes():
    rng = np.random.default_rng(3)
    for case in range(500):
        groups, size, dilation = (
            int(rng.choice(some)) for some in ([1, 1, 2, 3], [1, 2, 3, 5, 9], [1, 1, 2, 3])
        )
        padding = int(rng.choice([0, dilation * (size // 2), size]))
        shortest = max(1, dilation * (size - 1) + 1 - 2 * padding)
        inputs, outputs, persons = (int(n) for n in rng.integers(1, (9, 9, 4)))
        frames, joints = int(rng.integers(shortest, shortest + 20)), int(rng.integers(1, 27))
        check(
            rng,
            maps=(persons, groups * inputs, frames, joints),
            kernel=kept(rng, (groups * outputs, inputs, size), rng.choice([0.02, 0.2, 0.5, 1.0])),
            steps=Steps(int(rng.choice([1, 1, 2, 3])), dilation, padding),
            groups=groups,
            kind=(np.float32, np.float64)[case % 2],
            residual=bool(rng.random() < 0.5),
            relu=bool(rng.random() < 0.5),
            threads=int(rng.integers(1, 4)),
        )


def test_what_is_no_number_stays_none():
    kernel = np.ones((1, 1, 1), dtype=np.float32)
    x = np.full((1, 1, 1, 40), np.nan, dtype=np.float32)
    assert np.isnan(Convolution(kernel, Steps())(x, relu=True)).all()


def test_input_of_any_layout_gives_the_same_bits():
    rng = np.random.default_rng(4)
    convolution = Convolution(kept(rng, (4, 3, 3), 0.5), Steps(padding=1))
    x = rng.standard_normal((2, 3, 8, 9))
    rows_of_channels = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.repeat(x, 2, axis=3)[..., ::2]
    for other in (rows_of_channels, wide):
        assert not other.flags.c_contiguous
        np.testing.assert_array_equal(convolution(other), convolution(x))


def test_threads_give_the_same_bits():
    rng = np.random.default_rng(5)
    convolution = Convolution(
        kept(rng, (8, 8, 5), 0.3).astype(np.float32), Steps(stride=2, padding=2)
    )
    x = rng.standard_normal((7, 8, 16, 25)).astype(np.float32)
    alone = convolution(x)
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(convolution(x, threads=threads), alone)


def test_lengths_may_change_from_call_to_call():
    """Buffers are kept: what one length leaves in them does not show in another."""
    rng = np.random.default_rng(6)
    kernel, steps = kept(rng, (4, 3, 5), 0.5), Steps(padding=2)
    convolution = Convolution(kernel, steps)
    for frames in (9, 4, 30, 9, 1, *range(2, 22), 9):
        x = rng.standard_normal((2, 3, frames, 5))
        expected, _ = dense(x, kernel, np.zeros(4), steps)
        np.testing.assert_allclose(convolution(x), expected, atol=1e-13)


def test_rows_name_every_kept_weight():
    rng = np.random.default_rng(7)
    kernel = kept(rng, (4, 3, 5), 0.4)
    rows = Rows.of(kernel)
    again = np.zeros_like(kernel)
    again[rows.owners, rows.channels, rows.taps] = rows.values
    np.testing.assert_array_equal(again, kernel)


def test_transposed_rows_are_those_of_the_turned_kernel():
    rng = np.random.default_rng(8)
    kernel = kept(rng, (4, 3, 5), 0.4)
    turned, order = Rows.of(kernel).transposed()
    expected = Rows.of(np.ascontiguousarray(kernel.transpose(1, 0, 2)[:, :, ::-1]))
    for name in ("starts", "channels", "taps", "values"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(expected, name))
    np.testing.assert_array_equal(turned.values, Rows.of(kernel).values[order])


@pytest.mark.parametrize("columns", [64, 100, 300])
@pytest.mark.parametrize("relu", [False, True])
def test_groups_of_outputs_are_multiplied_at_any_width(columns, relu):
    """In two chunks of inputs: 2 and 1 places of 4 outputs, then 1 and none."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(4 * columns).astype(np.float32)
    start = rng.standard_normal(8 * columns).astype(np.float32)
    values = rng.standard_normal((4, 4)).astype(np.float32)
    inputs = np.array([0, 3, 1, 2])
    rows = (np.array([0, 2, 3, 4, 4]), (inputs * columns).astype(np.uint32), values.ravel())
    bias, out = np.arange(8, dtype=np.float32) - 4, np.zeros(8 * columns, np.float32)
    kernels.multiply(
        (x, 0), rows, bias, (start, 0, columns), relu, (out, 0, columns), columns, kernels.GROUP
    )
    maps = x.reshape(4, columns)
    first, second = [0, 1, 3], [2]  # values of the first four outputs and of the others
    expected = np.concatenate([values[each].T @ maps[inputs[each]] for each in (first, second)])
    expected += bias[:, None] + start.reshape(8, columns)
    if relu:
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(out.reshape(8, columns), expected, atol=1e-5)
