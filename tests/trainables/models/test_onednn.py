"""Convolutions of deploy forms: weights that are packed once for oneDNN."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models import onednn
from trainables.models.onednn import (
    add_conv,
    add_product,
    channels_first,
    convolved,
    packed_weight,
)
from trainables.reparam.fusible import frozen_conv

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_reorder_convolution_weight"), reason="torch without oneDNN"
)


def conv_of(stride: int = 1, groups: int = 1, taps: int = 5) -> nn.Conv2d:
    generator = torch.Generator().manual_seed(1)
    kernel = torch.randn(32, 32 // groups, taps, 1, generator=generator)
    return frozen_conv(kernel, torch.randn(32, generator=generator), stride=stride, groups=groups)


def rows(*shape: int) -> Tensor:
    draw = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    return draw.to(memory_format=torch.channels_last)


def check(conv: nn.Conv2d, samples: int = 2) -> None:
    x = rows(samples, 32, 8, 5)
    expected = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, 1, conv.groups)
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(convolved(conv, x), expected)
    total = rows(*expected.shape)
    summed = F.relu(expected + total)
    close(add_conv(total, conv, x), summed)
    without = rows(*expected.shape) - conv.bias[:, None, None]
    close(add_product(rows(*expected.shape), conv, x.contiguous()), F.relu(expected + without))


@pytest.mark.parametrize("taps", [5, 1])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_a_packed_weight_convolves_as_it_is(stride, groups, taps):
    conv = conv_of(stride, groups, taps)
    for samples in (2, 2, 3, 1):  # other shapes are packed anew
        check(conv, samples)
    assert packed_weight(conv, rows(1, 32, 8, 5)).is_mkldnn


@torch.no_grad()
def test_a_product_puts_channels_first():
    draw = rows(1, 32, 7, 5).permute(0, 2, 3, 1).reshape(-1, 32)
    kernel = conv_of(taps=1).weight[:, :, 0, 0]
    torch.testing.assert_close(channels_first(kernel, draw), kernel @ draw.T, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_weight_is_packed_once_for_each_shape(monkeypatch):
    """The last persons of an odd number go through a network apart."""
    calls, pack = [], torch.ops.mkldnn._reorder_convolution_weight
    monkeypatch.setattr(
        torch.ops.mkldnn,
        "_reorder_convolution_weight",
        lambda *given: calls.append(given) or pack(*given),
    )
    conv = conv_of()
    for _ in range(3):
        for samples in (2, 1):
            check(conv, samples)
    assert len(calls) == 2


@pytest.mark.parametrize("taps", [5, 1])
@torch.no_grad()
def test_a_weight_that_changes_is_packed_anew(taps):
    conv = conv_of(taps=taps)
    check(conv)
    once = packed_weight(conv, rows(2, 32, 8, 5))
    assert packed_weight(conv, rows(2, 32, 8, 5)) is once
    conv.weight.mul_(2.0)
    check(conv)
    conv.weight = nn.Parameter(conv.weight * 3.0, requires_grad=False)
    check(conv)
    twin = copy.deepcopy(conv)
    twin.weight.mul_(0.5)
    check(twin)
    check(conv)
    conv.load_state_dict({name: 2 * each for name, each in conv.state_dict().items()})
    check(conv)
    conv.half().float()  # may lie where it lay before
    check(conv)


@torch.inference_mode()
def test_a_weight_whose_changes_nobody_sees_is_not_packed():
    conv = conv_of()
    assert conv.weight.is_inference()
    check(conv)
    conv.weight.mul_(2.0)
    check(conv)


@torch.no_grad()
def test_a_convolution_that_is_gone_leaves_nothing():
    conv = conv_of()
    check(conv)
    before = len(onednn._packed)
    del conv
    assert len(onednn._packed) == before - 1
