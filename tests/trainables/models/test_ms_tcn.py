"""MS-TCN: its branches against loops, its start, its deploy form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models
from trainables.models.layers import Block
from trainables.models.ms_tcn import MSTCN
from trainables.reparam.fusible import FULL, RELEASED, deployed


def telling(channels: int, kernel_size: int, stride: int, *, relu: bool = False) -> MSTCN:
    """Double precision, BatchNorm and biases away from their start, scales behind the maximum of
    both signs.
    """
    generator = torch.Generator().manual_seed(4)
    module = MSTCN(channels, kernel_size, stride, relu=relu).double()
    naive_models.randomise_batch_norm(module, generator)
    naive_models.disturb(module, generator)
    module.pool_bn.weight.data[0].neg_()
    return module


def normalised(x: Tensor, norm: nn.BatchNorm2d, channels: slice = slice(None)) -> Tensor:
    """Channel by channel, with the batch's statistics in training mode."""
    weight, bias, mean, var = (
        tensor[channels] for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        mu, v = (x[:, c].mean(), x[:, c].var(correction=0)) if norm.training else (mean[c], var[c])
        out[:, c] = weight[c] * (x[:, c] - mu) / (v + norm.eps).sqrt() + bias[c]
    return out


def convolved(
    x: Tensor, kernel: Tensor, bias: Tensor, *, stride: int = 1, dilation: int = 1
) -> Tensor:
    size = kernel.shape[2]
    spread = torch.zeros(*kernel.shape[:2], dilation * (size - 1) + 1, 1, dtype=kernel.dtype)
    for k in range(size):
        spread[:, :, dilation * k] = kernel[:, :, k]
    padded = naive_models.zero_rows(x, dilation * (size // 2))
    return naive_models.temporal_conv(padded, spread, stride, 1) + bias[:, None, None]


def naive_ms_tcn(module: MSTCN, x: Tensor) -> Tensor:
    """The four branches one after the other, as the paper draws them."""
    width, stride = x.shape[1] // 4, module.stride
    squeezed = []
    for branch in range(3):
        rows = slice(branch * width, (branch + 1) * width)
        part = convolved(x, module.squeeze.conv.weight[rows], module.squeeze.conv.bias[rows])
        squeezed.append(normalised(part, module.squeeze.bn, rows).clamp_min(0))
    outs = []
    for dilation, part, conv in zip((1, 2), squeezed, module.dilated, strict=False):
        outs.append(
            normalised(
                convolved(part, conv.conv.weight, conv.conv.bias, stride=stride, dilation=dilation),
                conv.bn,
            )
        )
    frames = x.shape[2]
    highest = [
        squeezed[2][:, :, max(t - 1, 0) : min(t + 2, frames)].amax(dim=2)
        for t in range(0, frames, stride)
    ]
    outs.append(normalised(torch.stack(highest, dim=2), module.pool_bn))
    outs.append(
        normalised(
            convolved(x, module.pointwise.conv.weight, module.pointwise.conv.bias, stride=stride),
            module.pointwise.bn,
        )
    )
    out = torch.cat(outs, dim=1)
    return out.clamp_min(0) if module.relu else out


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "frames"), [(5, 1, 6), (5, 2, 6), (5, 2, 7), (3, 2, 5), (7, 1, 3)]
)
def test_matches_loops(kernel_size, stride, frames, relu, training):
    module, x = (
        telling(8, kernel_size, stride, relu=relu).train(training),
        naive_models.random_clips(2, 8, frames, 3),
    )
    with torch.no_grad():
        out, expected = module(x), naive_ms_tcn(module, x)
    assert out.shape == (2, 8, (frames - 1) // stride + 1, 3)
    assert (out < 0).any() != relu
    torch.testing.assert_close(out, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("stride", "frames"), [(1, 8), (2, 8), (2, 7)])
def test_deploy_form_is_the_same_function(stride, frames, relu):
    module, x = (
        telling(16, 5, stride, relu=relu).eval(),
        naive_models.random_clips(2, 16, frames, 4),
    )
    form = deployed(module, FULL)
    with torch.no_grad():
        torch.testing.assert_close(form(x), module(x), rtol=0.0, atol=1e-12)
        torch.testing.assert_close(deployed(module, RELEASED)(x), module(x), rtol=0.0, atol=1e-12)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in form.modules())
    assert (
        sum(parameter.numel() for parameter in form.parameters())
        == 4 * (16 + 1) * 4 + 2 * (4 * 5 + 1) * 4 + 2 * 4
    )


@pytest.mark.parametrize("relu", [False, True])
def test_a_residual_may_be_added_in_place(relu):
    """What a block does with the result; a ReLU as the last
    operation would forbid it in training.
    """
    x = naive_models.random_clips(2, 8, 5, 3).requires_grad_()
    Block(nn.Identity(), telling(8, 5, 1, relu=relu).train(), nn.Identity())(x).sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_initial_weights():
    torch.manual_seed(0)
    module = MSTCN(256, 5, 1, relu=False)
    for conv, fan_out in (
        (module.squeeze, 64),
        (module.pointwise, 64),
        (module.dilated[0], 320),
        (module.dilated[1], 320),
    ):
        assert conv.conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
        assert not conv.conv.bias.any()
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    gammas = torch.cat([norm.weight.detach() for norm in norms])
    assert len(gammas) == (3 + 2 + 1 + 1) * 64
    assert gammas.mean().item() == pytest.approx(1.0, abs=0.005)
    assert gammas.std().item() == pytest.approx(0.02, rel=0.15)
    assert not any(norm.bias.any() for norm in norms)
