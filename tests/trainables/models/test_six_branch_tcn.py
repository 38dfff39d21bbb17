"""The six temporal branches: a naive twin branch by branch, both deploy forms, the statistics of
the mean joint, sizes and work.
"""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tests import naive_models
from trainables.contract.config import ModelConfig
from trainables.cost.counting.six_branch_tcn import count_six_branch_tcn
from trainables.cost.counting.tally import Tally
from trainables.models.six_branch_tcn import GlobalSixBranchTCN, SixBranchTCN, maximum_of_three
from trainables.reparam.fusible import FULL, RELEASED, deployed

JOINTS = 5


def convolution(
    x: Tensor, kernel: Tensor, bias: Tensor, stride: int = 1, dilation: int = 1
) -> Tensor:
    """y[o, t, v] = b[o] + sum_ik W[o, i, k] x[i, s t + d (k - K // 2), v], zero beyond the ends of
    time.
    """
    outside, inside, size, _ = kernel.shape
    frames = (x.shape[2] - 1) // stride + 1
    out = torch.zeros(x.shape[0], outside, frames, x.shape[3], dtype=x.dtype) + bias[:, None, None]
    for o in range(outside):
        for i in range(inside):
            for k in range(size):
                for t in range(frames):
                    at = stride * t + dilation * (k - size // 2)
                    if 0 <= at < x.shape[2]:
                        out[:, o, t] += kernel[o, i, k, 0] * x[:, i, at]
    return out


def normalised(x: Tensor, norm: nn.BatchNorm2d, channels: slice) -> Tensor:
    """Evaluation mode, of some channels."""
    gamma, beta, mean, var = (
        tensor[channels, None, None]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return gamma * (x - mean) / (var + norm.eps).sqrt() + beta


def naive(module: SixBranchTCN, x: Tensor) -> Tensor:
    """Six branches one after the other, then the common part."""
    has_mean, channels, stride = isinstance(module, GlobalSixBranchTCN), x.shape[1], module.stride
    if has_mean:
        x = torch.cat([x, sum(x[..., v] for v in range(JOINTS))[..., None] / JOINTS], dim=3)
    sixth, start, outs = channels // 6, 0, []
    for branch in range(5):
        width = channels - 5 * sixth if branch == 0 else sixth
        rows = slice(start, start + width)
        start += width
        hidden = convolution(x, module.embed.conv.weight[rows], module.embed.conv.bias[rows])
        hidden = normalised(hidden, module.embed.bn, rows).clamp(min=0)
        if branch < 4:
            conv = module.dilated[branch]
            outs.append(convolution(hidden, conv.weight, conv.bias, stride, dilation=branch + 1))
        else:
            last = hidden.shape[2] - 1
            frames = [
                hidden[:, :, max(t - 1, 0) : min(t + 1, last) + 1].max(dim=2).values
                for t in range(0, last + 1, stride)
            ]
            outs.append(torch.stack(frames, dim=2))
    outs.append(convolution(x, module.pointwise.weight, module.pointwise.bias, stride))
    y = torch.cat(outs, dim=1)
    if has_mean:
        y = torch.stack(
            [y[..., v] + module.coefficients[v] * y[..., JOINTS] for v in range(JOINTS)], dim=3
        )
    y = normalised(y, module.norm, slice(None)).clamp(min=0)
    return normalised(
        convolution(y, module.project.conv.weight, module.project.conv.bias),
        module.project.bn,
        slice(None),
    )


def built(
    has_mean: bool, channels: int = 16, kernel_size: int = 3, stride: int = 1
) -> SixBranchTCN:
    """Every tensor away from its start, some scales of the common BatchNorm negative."""
    torch.manual_seed(2)
    module = (
        GlobalSixBranchTCN(channels, kernel_size, stride, joints=JOINTS)
        if has_mean
        else SixBranchTCN(channels, kernel_size, stride)
    ).double()
    generator = torch.Generator().manual_seed(3)
    naive_models.randomise_batch_norm(module, generator)
    naive_models.disturb(module, generator)
    module.norm.weight.data[1::2] *= -1
    return module.eval()


@pytest.mark.parametrize("has_mean", [False, True])
@pytest.mark.parametrize(
    ("channels", "kernel_size", "stride", "frames"),
    [(8, 3, 1, 6), (16, 3, 2, 7), (16, 5, 2, 8), (24, 9, 3, 11)],
)
def test_matches_naive_in_every_form(has_mean, channels, kernel_size, stride, frames):
    module, x = (
        built(has_mean, channels, kernel_size, stride),
        naive_models.random_clips(2, channels, frames, JOINTS),
    )
    with torch.no_grad():
        expected = naive(module, x)
        for form in (module, deployed(module, RELEASED), deployed(module, FULL)):
            torch.testing.assert_close(form(x), expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("has_mean", [False, True])
def test_all_that_is_folded_is_gone(has_mean):
    form = deployed(built(has_mean), FULL)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in form.modules())
    assert sum(isinstance(part, nn.Conv2d) for part in form.modules()) == 7
    assert not any(parameter.requires_grad for parameter in form.parameters())


def test_mean_joint_starts_without_effect():
    with_mean = GlobalSixBranchTCN(16, 3, 1, joints=JOINTS).eval()
    without = SixBranchTCN(16, 3, 1).eval()
    assert torch.equal(with_mean.coefficients, torch.zeros(JOINTS))
    without.load_state_dict(
        {name: tensor for name, tensor in with_mean.state_dict().items() if name != "coefficients"}
    )
    x = torch.randn(2, 16, 6, JOINTS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(with_mean(x), without(x))


def test_mean_joint_counts_in_the_first_statistics_and_not_in_the_common_ones():
    module, x = built(True).train(), naive_models.random_clips(3, 16, 6, JOINTS)
    first, common = module.embed.bn.running_mean.clone(), module.norm.running_mean.clone()
    with torch.no_grad():
        hidden = F.conv2d(
            torch.cat([x, x.mean(dim=3, keepdim=True)], dim=3),
            module.embed.conv.weight,
            module.embed.conv.bias,
        )
        branches = module.branches(x)
        module.load_state_dict(built(True).state_dict())
        module(x)
    torch.testing.assert_close(
        module.embed.bn.running_mean,
        0.9 * first + 0.1 * hidden.mean(dim=(0, 2, 3)),
        rtol=0.0,
        atol=1e-12,
    )
    assert branches.shape[3] == JOINTS
    torch.testing.assert_close(
        module.norm.running_mean,
        0.9 * common + 0.1 * branches.mean(dim=(0, 2, 3)),
        rtol=0.0,
        atol=1e-12,
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_maximum_of_three_is_the_same_with_and_without_a_gradient(stride, frames):
    x = naive_models.random_clips(2, 3, frames, JOINTS).clamp(min=0)
    expected = torch.stack(
        [x[:, :, max(t - 1, 0) : t + 2].max(dim=2).values for t in range(0, frames, stride)], dim=2
    )
    assert torch.equal(maximum_of_three(x, stride), expected)
    assert torch.equal(maximum_of_three(x.requires_grad_(), stride).detach(), expected)


def test_initial_weights_are_those_of_torch():
    torch.manual_seed(4)
    module = SixBranchTCN(96, 3, 1)
    for conv, fan_in in (
        (module.embed.conv, 96),
        (module.dilated[1], 48),
        (module.pointwise, 96),
        (module.project.conv, 96),
    ):
        for tensor in (conv.weight, conv.bias):
            assert 0.8 * fan_in**-0.5 < tensor.abs().max() <= fan_in**-0.5


@pytest.mark.parametrize(("temporal", "more"), [("ms_tcn6", 0), ("dg_ms_tcn", JOINTS)])
@pytest.mark.parametrize("stride", [1, 2])
def test_counted_equals_built(temporal, more, stride):
    channels, before = 32, 9
    module, frames = built(more > 0, channels, 5, stride), (before - 1) // stride + 1
    clips = torch.zeros(1, channels, before, JOINTS, dtype=torch.float64)
    for form, network in (("training", module), ("deploy", deployed(module, FULL))):
        tally = Tally(form, JOINTS, persons=1)
        tally.begin_block()
        count_six_branch_tcn(
            ModelConfig(temporal=temporal, kernel_size=5), tally, channels, before, frames
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(clips)
        assert tally.leaf_params == sum(parameter.numel() for parameter in network.parameters())
        assert 2 * tally.leaf_macs == counter.get_total_flops()
        assert tally.mixing_macs == 0
        assert sorted(map(prod, tally.kernels[0])) == sorted(
            part.weight.numel() for part in network.modules() if isinstance(part, nn.Conv2d)
        )
