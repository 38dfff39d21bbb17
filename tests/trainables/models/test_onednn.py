"""Convolutions of deploy forms: weights that are packed once for oneDNN."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models import onednn
from trainables.models.onednn import add_conv, packed_weight
from trainables.reparam.fusible import frozen_conv

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_reorder_convolution_weight"), reason="torch without oneDNN"
)


def conv_of(stride: int = 1, groups: int = 1) -> nn.Conv2d:
    generator = torch.Generator().manual_seed(1)
    kernel = torch.randn(32, 32 // groups, 5, 1, generator=generator)
    return frozen_conv(kernel, torch.randn(32, generator=generator), stride=stride, groups=groups)


def rows(*shape: int) -> Tensor:
    draw = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    return draw.to(memory_format=torch.channels_last)


def check(conv: nn.Conv2d, samples: int = 2) -> None:
    x = rows(samples, 32, 8, 5)
    expected = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, 1, conv.groups)
    total = rows(*expected.shape)
    expected = F.relu(expected + total)
    torch.testing.assert_close(add_conv(total, conv, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_a_packed_weight_convolves_as_it_is(stride, groups):
    conv = conv_of(stride, groups)
    for samples in (2, 2, 3, 1):  # other shapes are packed anew
        check(conv, samples)
    assert packed_weight(conv, rows(1, 32, 8, 5)).is_mkldnn


@torch.no_grad()
def test_a_weight_that_changes_is_packed_anew():
    conv = conv_of()
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
