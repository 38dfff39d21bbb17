"""Compiled mixing of joints and its gradients, against sums written out by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.sparse.mixing import MIXED, matrices_gradient, mixed, rows_gradient

JOINTS = (MIXED[0], 13, 16, 17, 20, 25, MIXED[-1])
SIZES = ((1, 1, 1), (2, 7, 2), (3, 130, 3), (1, 300, 3))
"""Samples, frames, matrices: one of each, fewer than a tile, and more than are summed at once."""


def numbers(kind, joints, samples, frames, each):
    some = np.random.default_rng(joints + frames).standard_normal
    shapes = (samples, frames, joints), (each, joints, joints), (samples, each, frames, joints)
    return [some(shape).astype(kind) for shape in shapes]


def assert_close(found, expected, kind, terms):
    """As many terms as are summed up, each rounded once or twice."""
    assert found.dtype == kind
    assert found.flags.c_contiguous
    room = 2 * terms * np.finfo(kind).eps * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=room)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("joints", JOINTS)
def test_every_sum_is_that_of_its_formula(kind, joints):
    for sizes in SIZES:
        rows, matrices, gradient = numbers(kind, joints, *sizes)
        exact = [each.astype(np.float64) for each in (rows, matrices, gradient)]
        expected = np.einsum("nrv,kvw->nkrw", *exact[:2])
        assert_close(mixed(rows, matrices), expected, kind, joints)
        expected = np.einsum("nkrw,kvw->nrv", exact[2], exact[1])
        assert_close(rows_gradient(gradient, matrices), expected, kind, joints * sizes[2])
        expected = np.einsum("nrv,nkrw->kvw", exact[0], exact[2])
        assert_close(matrices_gradient(rows, gradient), expected, kind, sizes[1])


def all_of(rows, matrices, gradient, threads):
    return (
        mixed(rows, matrices, threads=threads),
        rows_gradient(gradient, matrices, threads=threads),
        matrices_gradient(rows, gradient, threads=threads),
    )


def test_threads_and_the_order_in_memory_change_no_bit():
    arrays = numbers(np.float32, 25, 5, 40, 3)
    expected = all_of(*arrays, threads=1)
    for given in (arrays, [np.asfortranarray(each) for each in arrays]):
        for threads in (1, 2, 4):
            for ours, theirs in zip(all_of(*given, threads), expected, strict=True):
                assert np.array_equal(ours, theirs)


def test_many_frames_are_summed_up_in_double():
    """A sum of many ones loses them in single precision beyond 2^24."""
    frames = 2**18
    rows = np.full((1, frames, 9), 3.0, np.float32)
    found = matrices_gradient(rows, np.full((1, 1, frames, 9), 33.333332, np.float32))
    exact = 3.0 * float(np.float32(33.333332)) * frames
    np.testing.assert_allclose(found, exact, rtol=1e-6)
