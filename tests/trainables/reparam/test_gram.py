"""Second moments of windows against their definition: every stride, grouping, length and count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import naive_models
from trainables.reparam.gram import Centre, Window, window_moments

pytestmark = pytest.mark.usefixtures("library")


def naive_moments(x: Tensor, centre: Centre, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    counts = x.new_ones(len(x)) if centre.counts is None else centre.counts
    place = centre.shift + centre.along[:, None] * centre.direction
    centred = x - place[:, :, None, None]
    samples, channels, frames, joints = x.shape
    single = centred.view(samples, window.groups, channels // window.groups, frames, joints)
    seen = F.pad(single, (0, 0, window.reach, window.reach)).unfold(3, window.size, window.stride)
    whole = torch.einsum("n,ngijva,ngkjvb->gaibk", counts, seen, seen)
    return (
        whole.flatten(3).flatten(1, 2),
        torch.einsum("n,ngitv,ngktv->gik", counts, single, single),
        torch.einsum("wn,nctv->wct", torch.stack([counts, counts * centre.along]), centred),
    )


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_moments_and_their_gradient(size, stride, groups, frames):
    window = Window(size, stride, groups)
    shift, direction = naive_models.random_clips(2, 4, seed=2)
    along = naive_models.random_clips(3, seed=3)
    for counts in (None, torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)):
        x = naive_models.random_clips(3, 4, frames, 2).requires_grad_()
        centre = Centre(shift, direction, along, counts)
        expected = naive_moments(x, centre, window)
        moments = window_moments(x, centre.without(x.detach()), centre, window)
        upstream = [naive_models.random_clips(*each.shape, seed=7) for each in expected]
        (slope,) = torch.autograd.grad(moments, x, upstream)
        (expected_slope,) = torch.autograd.grad(expected, x, upstream)
        for ours, naive in zip((*moments, slope), (*expected, expected_slope), strict=True):
            torch.testing.assert_close(ours, naive, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("counts", [(1.0, 1.0, 1.0, 1.0), (9.0, 1.0, 2.0, 1.0)])
def test_a_centre_takes_the_largest_difference_between_samples_away(counts):
    means, weights = naive_models.random_clips(4, 6, seed=1), torch.tensor(counts).double()
    means[0] += 100 * naive_models.random_clips(6, seed=2)
    centre = Centre.of(means, weights)
    assert centre.without(means[:, :, None, None]).abs().max() < 3
    shares = weights / weights.sum()
    torch.testing.assert_close(centre.shift, shares @ means, rtol=1e-12, atol=0.0)
    assert abs(shares @ centre.along) < 1e-12
    assert abs(shares @ centre.along.square() - 1) < 1e-12


def test_samples_of_one_mean_lie_at_it():
    centre = Centre.of(naive_models.random_clips(1, 6, seed=1).expand(3, -1), None)
    assert (centre.offsets.abs() < 1e-12).all()
