"""Second moments of windows against their definition: every stride, grouping, length and count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import naive_models
from trainables.reparam.gram import Window, window_moments


def naive_moments(
    x: Tensor, shift: Tensor, counts: Tensor, window: Window
) -> tuple[Tensor, Tensor, Tensor]:
    centred = x - shift[:, None, None]
    samples, channels, frames, joints = x.shape
    single = centred.view(samples, window.groups, channels // window.groups, frames, joints)
    seen = F.pad(single, (0, 0, window.reach, window.reach)).unfold(3, window.size, window.stride)
    whole = torch.einsum("n,ngijva,ngkjvb->gaibk", counts, seen, seen)
    return (
        whole.flatten(3).flatten(1, 2),
        torch.einsum("n,ngitv,ngktv->gik", counts, single, single),
        torch.einsum("n,nctv->ct", counts, centred),
    )


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_moments_and_their_gradient(size, stride, groups, frames):
    window = Window(size, stride, groups)
    shift = naive_models.random_clips(4, seed=2)
    for counts in (None, torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)):
        x = naive_models.random_clips(3, 4, frames, 2).requires_grad_()
        weights = torch.ones(3, dtype=torch.float64) if counts is None else counts
        expected = naive_moments(x, shift, weights, window)
        moments = window_moments(x, shift, counts, window)
        upstream = [naive_models.random_clips(*each.shape, seed=7) for each in expected]
        (slope,) = torch.autograd.grad(moments, x, upstream)
        (expected_slope,) = torch.autograd.grad(expected, x, upstream)
        for ours, naive in zip((*moments, slope), (*expected, expected_slope), strict=True):
            torch.testing.assert_close(ours, naive, rtol=0.0, atol=1e-11)
