"""The mean of a padded map, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.sparse import kernels


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("channels", "frames", "joints", "width"), [(3, 5, 25, 32), (1, 1, 1, 16), (7, 16, 16, 16)]
)
def test_means_are_those_of_joints_that_are_there(kind, channels, frames, joints, width):
    row, at = frames * width + 16, 48
    space = np.full(at + channels * row, np.nan, kind)
    numbers = np.random.default_rng(0).standard_normal((channels, frames, joints)).astype(kind)
    for channel in range(channels):
        begin = at + channel * row
        place = space[begin : begin + frames * width].reshape(frames, width)
        place[:, :joints] = numbers[channel]
    found = np.full(channels, np.nan, kind)
    kernels.means(space, at, row, frames, joints, width, found)
    expected = numbers.astype(np.float64).mean(axis=(1, 2))
    # as many sums as there are numbers, each rounded once
    rounding = numbers.size // channels * np.finfo(kind).eps
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * np.abs(numbers).mean())
