"""Mixing and convolution in one operation are those two, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.models.mixing import mixed_by_each
from trainables.reparam.kept_mixing import AT_ONCE, mixed_and_convolved
from trainables.sparse.convolution import Steps
from trainables.sparse.gradients import Pattern

SUBSETS, INSIDE, OUTSIDE = 3, 4, 6


@pytest.mark.parametrize("samples", [1, AT_ONCE, 2 * AT_ONCE + 1])
@pytest.mark.parametrize(("frames", "joints"), [(1, 25), (7, 20)])
def test_result_and_gradients_are_those_of_two_operations(samples, frames, joints):
    torch.manual_seed(0)
    double = {"dtype": torch.float64, "requires_grad": True}
    x = torch.randn(samples, INSIDE, frames, joints, **double)
    matrices = torch.randn(SUBSETS, joints, joints, **double)
    kept = torch.rand(OUTSIDE, SUBSETS * INSIDE, 1, 1) < 0.3
    kernel = (torch.randn(kept.shape, dtype=torch.float64) * kept).requires_grad_()
    into = torch.randn(samples, OUTSIDE, frames, joints, dtype=torch.float64)
    pattern = Pattern(kept[..., 0].numpy(), Steps())

    expected = F.conv2d(mixed_by_each(x, matrices), kernel)
    wanted = torch.autograd.grad(expected, (x, matrices, kernel), into)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found = mixed_and_convolved(x, matrices, kernel, pattern)
            results.append([found, *torch.autograd.grad(found, (x, matrices, kernel), into)])
        finally:
            torch.set_num_threads(1)
    torch.testing.assert_close(results[0][0], expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(results[0][1:3], wanted[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(results[0][3], wanted[2] * kept, rtol=1e-12, atol=1e-11)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_only_gradients_that_are_asked_for_are_computed():
    torch.manual_seed(0)
    kept = torch.rand(OUTSIDE, SUBSETS * INSIDE, 1, 1) < 0.3
    pattern = Pattern(kept[..., 0].numpy(), Steps())
    given = [torch.randn(3, INSIDE, 5, 20), torch.randn(SUBSETS, 20, 20), torch.randn(kept.shape)]
    whole = [each.clone().requires_grad_() for each in given]
    mixed_and_convolved(*whole, pattern).sum().backward()
    for number in range(3):
        some = [each.clone().requires_grad_(n == number) for n, each in enumerate(given)]
        mixed_and_convolved(*some, pattern).sum().backward()
        for n, (ours, theirs) in enumerate(zip(some, whole, strict=True)):
            assert torch.equal(ours.grad, theirs.grad) if n == number else ours.grad is None


def test_a_map_that_lies_as_rows_of_channels_is_taken_as_it_is():
    torch.manual_seed(0)
    x = torch.randn(2, INSIDE, 5, 20).to(memory_format=torch.channels_last)
    matrices = torch.randn(SUBSETS, 20, 20)
    kernel = torch.randn(OUTSIDE, SUBSETS * INSIDE, 1, 1)
    pattern = Pattern(np.ones((OUTSIDE, SUBSETS * INSIDE, 1), bool), Steps())
    found = mixed_and_convolved(x, matrices, kernel, pattern)
    assert torch.equal(found, mixed_and_convolved(x.contiguous(), matrices, kernel, pattern))
