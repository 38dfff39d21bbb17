"""A convolution by kept weights and its gradients are those of torch's dense one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.sparse import ways
from trainables.sparse.convolution import Steps
from trainables.sparse.gradients import Pattern

ROUNDING = {np.float32: 2e-6, np.float64: 1e-14}  # of the sum of all absolute products


def dense(x, kernel, gradient, steps, groups):
    """(output, input gradient, kernel's gradient) of torch in double precision; gradient: of the
    output's shape, or None for ones.
    """
    x, kernel = (
        torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (x, kernel)
    )
    out = F.conv2d(
        x,
        kernel[..., None],
        None,
        stride=(steps.stride, 1),
        padding=(steps.padding, 0),
        dilation=(steps.dilation, 1),
        groups=groups,
    )
    out.backward(torch.tensor(gradient, dtype=torch.float64))
    return out.detach().numpy(), x.grad.numpy(), kernel.grad.numpy()


def check(rng, *, maps, kernel, share, steps, groups=1, kind=np.float64, threads=1):
    """kernel: (C_out, C_in / groups, K)."""
    kept = rng.random(kernel) < share
    weights = (rng.standard_normal(kernel) * kept).astype(kind)
    x = rng.standard_normal(maps).astype(kind)
    frames = (maps[2] + 2 * steps.padding - steps.dilation * (kernel[2] - 1) - 1) // steps.stride
    gradient = rng.standard_normal((maps[0], kernel[0], frames + 1, maps[3])).astype(kind)
    expected = dense(x, weights, gradient, steps, groups)
    scales = dense(abs(x), abs(weights), abs(gradient), steps, groups)
    pattern = Pattern(kept, steps, groups=groups)
    values, bias = weights.ravel()[pattern.places], rng.standard_normal(kernel[0]).astype(kind)
    expected = (expected[0] + bias[:, None, None], *expected[1:])
    scales = (scales[0] + abs(bias)[:, None, None], *scales[1:])
    to_weights = np.zeros_like(weights)
    to_weights.ravel()[pattern.places] = pattern.weight_gradient(x, gradient, threads=threads)
    found = (
        pattern(x, values, bias, threads=threads),
        pattern.input_gradient(gradient, values, maps[2], threads=threads),
        to_weights,
    )
    removed = (False, False, ~kept)
    for ours, theirs, scale, gone in zip(found, expected, scales, removed, strict=True):
        assert ours.dtype == kind
        difference = np.where(gone, 0.0, abs(ours - theirs))
        np.testing.assert_array_less(difference, ROUNDING[kind] * scale + 1e-30)
    return found


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("maps", "kernel", "steps"),
    [
        ((2, 4, 9, 25), (6, 4, 1), Steps()),
        ((2, 4, 9, 25), (6, 4, 5), Steps(padding=2)),
        ((2, 4, 10, 25), (6, 4, 1), Steps(stride=2)),
        ((2, 4, 10, 25), (6, 4, 9), Steps(stride=2, padding=4)),
        ((1, 3, 30, 25), (4, 3, 5), Steps(dilation=2, padding=4)),
        ((2, 3, 8, 20), (5, 3, 2), Steps()),  # shorter, and of an even size
        ((2, 3, 8, 20), (5, 3, 1), Steps(padding=2)),  # longer
        ((2, 3, 1, 25), (5, 3, 5), Steps(padding=2)),  # one frame
        ((2, 3, 9, 1), (5, 3, 5), Steps(padding=2)),  # one joint
        ((0, 3, 9, 5), (5, 3, 3), Steps(padding=1)),  # nobody
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_is_the_dense_convolution(maps, kernel, steps, share, kind):
    rng = np.random.default_rng(0)
    check(rng, maps=maps, kernel=kernel, share=share, steps=steps, kind=kind)


def test_500_shapes():
    rng = np.random.default_rng(1)
    for case in range(500):
        groups, size, dilation = (
            int(rng.choice(some)) for some in ([1, 1, 2, 3], [1, 2, 3, 5, 9], [1, 1, 2, 3])
        )
        padding = int(rng.choice([0, dilation * (size // 2), size]))
        shortest = max(1, dilation * (size - 1) + 1 - 2 * padding)
        inputs, outputs, persons = (int(n) for n in rng.integers(1, (9, 9, 4)))
        frames, joints = int(rng.integers(shortest, shortest + 20)), int(rng.integers(1, 34))
        check(
            rng,
            maps=(persons, groups * inputs, frames, joints),
            kernel=(groups * outputs, inputs, size),
            share=rng.choice([0.02, 0.2, 0.5, 1.0]),
            steps=Steps(int(rng.choice([1, 1, 2, 3])), dilation, padding),
            groups=groups,
            kind=(np.float32, np.float64)[case % 2],
            threads=int(rng.integers(1, 4)),
        )


@pytest.mark.parametrize("joints", [20, 25])
@pytest.mark.parametrize("stride", [1, 2])
def test_inputs_may_come_in_chunks(joints, stride, monkeypatch):
    monkeypatch.setattr(ways, "CACHE", 2 * 1024)
    monkeypatch.setattr(ways, "FEWEST", 1)
    for frames in (3, 9):
        check(
            np.random.default_rng(frames),
            maps=(2, 12, frames, joints),
            kernel=(10, 12, 5),
            share=0.3,
            steps=Steps(stride=stride, padding=2),
            threads=2,
        )


def test_threads_and_repeats_give_the_same_bits():
    shape = {"maps": (5, 8, 16, 25), "kernel": (9, 8, 5), "share": 0.3, "kind": np.float32}
    steps = Steps(stride=2, padding=2)
    alone = check(np.random.default_rng(2), **shape, steps=steps)
    for threads in (1, 2, 3, 16):
        again = check(np.random.default_rng(2), **shape, steps=steps, threads=threads)
        for one, other in zip(alone, again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_lengths_may_change_from_call_to_call():
    """Buffers are kept: what one length leaves in them does not show in another."""
    for frames in (9, 4, 30, 9, 1, 9):
        check(
            np.random.default_rng(frames),
            maps=(2, 3, frames, 5),
            kernel=(4, 3, 5),
            share=0.5,
            steps=Steps(stride=2, padding=2),
        )
