"""Every blending equals the two operations it replaces, grouped or not, and keeps the working
precision.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from trainables.reparam.kernels import (
    BatchNormState,
    add_branches,
    average_kernel,
    fuse_conv_bn,
    merge_pointwise,
    sum_adjacency,
    widen_kernel,
)

TIGHT = {"rtol": 0.0, "atol": 1e-12}  # double precision, values around 1, a few dozen terms


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def batch_norm(channels):
    return BatchNormState(
        random(channels), random(channels), random(channels), random(channels).abs() + 0.1, 1e-5
    )


def apply(bn, x):
    return F.batch_norm(x, bn.mean, bn.var, bn.gamma, bn.beta, training=False, eps=bn.eps)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_average_as_convolution(groups):
    x = random(2, 8, 7, 3)
    kernel = average_kernel(8, 3, groups=groups, like=x)
    assert kernel.shape == (8, 8 // groups, 3, 1)
    torch.testing.assert_close(
        F.conv2d(x, kernel, groups=groups), F.avg_pool2d(x, (3, 1), 1), **TIGHT
    )


def test_average_is_rounded_in_the_working_precision():
    assert (
        average_kernel(1, 3, like=torch.zeros(1, dtype=torch.float64))[0, 0, 0, 0].item() == 1 / 3
    )
    assert average_kernel(1, 3, like=torch.zeros(1)).dtype == torch.float32


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("biased", [False, True])
def test_conv_then_batch_norm(groups, biased):
    x, kernel, bn = random(2, 8, 9, 3), random(12, 8 // groups, 5, 1), batch_norm(12)
    bias = random(12) if biased else None
    fused, fused_bias = fuse_conv_bn(kernel, bn, bias)
    torch.testing.assert_close(
        F.conv2d(x, fused, fused_bias, groups=groups),
        apply(bn, F.conv2d(x, kernel, bias, groups=groups)),
        **TIGHT,
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_pointwise_then_temporal(groups):
    x = random(2, 8, 9, 3)
    first, first_bias, second, second_bias = (
        random(8, 8 // groups, 1, 1),
        random(8),
        random(12, 8 // groups, 5, 1),
        random(12),
    )
    two_steps = F.conv2d(
        F.conv2d(x, first, first_bias, groups=groups), second, second_bias, groups=groups
    )
    merged, bias = merge_pointwise(first, first_bias, second, second_bias, groups=groups)
    torch.testing.assert_close(F.conv2d(x, merged, bias, groups=groups), two_steps, **TIGHT)
    without = merge_pointwise(first, first_bias, second, groups=groups)[1]
    torch.testing.assert_close(without + second_bias, bias, **TIGHT)


def test_parallel_convolutions_add():
    x, branches = random(2, 4, 9, 3), [(random(6, 4, 3, 1), random(6)) for _ in range(3)]
    kernel, bias = add_branches(branches)
    torch.testing.assert_close(
        F.conv2d(x, kernel, bias), sum(F.conv2d(x, *branch) for branch in branches), **TIGHT
    )


@pytest.mark.parametrize(("size", "wide"), [(1, 5), (3, 9), (5, 5)])
def test_widened_kernel_stays_centred(size, wide):
    x, kernel = random(2, 4, 9, 3), random(6, 4, size, 1)
    widened = widen_kernel(kernel, wide)
    assert widened.shape[2] == wide
    torch.testing.assert_close(
        F.conv2d(x, widened, padding=(wide // 2, 0)),
        F.conv2d(x, kernel, padding=(size // 2, 0)),
        **TIGHT,
    )


def test_parallel_adjacencies_add():
    x, matrices = random(2, 4, 9, 3), random(5, 3, 3)
    torch.testing.assert_close(
        x @ sum_adjacency(matrices).T, sum(x @ matrix.T for matrix in matrices), **TIGHT
    )


def test_image_of_zero_is_what_batch_norm_makes_of_a_zero():
    bn = batch_norm(4)
    torch.testing.assert_close(
        apply(bn, torch.zeros(1, 4, 1, 1, dtype=torch.float64)).flatten(), bn.image_of_zero, **TIGHT
    )


def test_a_merged_kernel_keeps_feature_maps_in_their_order_in_memory():
    """Of strides as channels_last has them, torch's convolution makes such feature maps."""
    pointwise, kernel = (torch.randn(8, 8, 1, 1) for _ in range(2))
    merged, _ = merge_pointwise(pointwise, torch.zeros(8), kernel)
    assert merged.stride() == (8, 1, 1, 1)
