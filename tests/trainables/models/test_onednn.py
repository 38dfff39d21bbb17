"""Convolutions of deploy forms: weights that are packed once for oneDNN."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models import onednn
from trainables.models.backbones.hpi_gcn import grouped_joint_bias
from trainables.models.layers import GroupedJointMixing
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


@pytest.fixture
def in_pairs(monkeypatch):
    """Nine taps of narrow convolutions, too, on any processor; the calls that were made so."""
    calls, add = [], onednn._add_in_pairs
    monkeypatch.setattr(onednn, "WIDE", 1)
    monkeypatch.setattr(onednn, "mkl_lacks_avx512", lambda: True)
    monkeypatch.setattr(
        onednn, "_add_in_pairs", lambda *given: calls.append(given[2].shape) or add(*given)
    )
    return calls


def check_nine_taps(conv: nn.Conv2d, samples: int, frames: int) -> None:
    x, total = rows(samples, 32, frames, 5), rows(samples, 32, frames, 5).flip(0)
    total = total.contiguous(memory_format=torch.channels_last)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=conv.padding)
    exact = F.relu(exact + total)
    found = add_conv(total, conv, x)
    assert found.data_ptr() == total.data_ptr()
    assert (found - exact).norm() <= 5e-7 * exact.norm()


@pytest.mark.parametrize("samples", [1, 3])
@torch.no_grad()
def test_nine_taps_of_pairs_of_frames_are_those_of_single_ones(in_pairs, samples):
    conv = conv_of(taps=9)
    for frames in (2, 4, 6, 16, 17, 2):  # inputs of 16 are as long as 17 themselves
        check_nine_taps(conv, samples, frames)
    conv.weight.mul_(2.0)
    check_nine_taps(conv, samples, 16)
    assert [shape[2] for shape in in_pairs] == [2, 4, 6, 16, 2, 16]


@torch.no_grad()
def test_other_convolutions_take_frame_by_frame(in_pairs):
    for conv in (conv_of(taps=5), conv_of(taps=9, stride=2), conv_of(taps=9, groups=2)):
        check(conv)
    assert not in_pairs


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


@torch.no_grad()
def test_a_bias_of_joints_is_kept_until_one_of_its_parts_changes():
    calls = []

    def compute(scale: Tensor, shift: Tensor) -> Tensor:
        calls.append(1)
        return (scale * 2 + shift)[:, None]

    module = nn.Module()
    module.scale, module.shift = (
        nn.Parameter(torch.rand(3, 5), requires_grad=False) for _ in range(2)
    )
    for change in (
        lambda: None,
        lambda: module.shift.mul_(2.0),
        lambda: setattr(module, "scale", nn.Parameter(module.scale + 1, requires_grad=False)),
        lambda: module.load_state_dict({k: 3 * v for k, v in module.state_dict().items()}),
    ):
        change()
        for _ in range(2):
            found = onednn.kept_rows(module, (module.scale, module.shift), compute)
            assert torch.equal(found[0, :, 0], module.scale * 2 + module.shift)
            assert found.permute(0, 2, 3, 1).is_contiguous()
    assert len(calls) == 4
    twin = copy.deepcopy(module)
    twin.scale.mul_(0.5)
    found = onednn.kept_rows(twin, (twin.scale, twin.shift), compute)
    assert torch.equal(found[0, :, 0], twin.scale * 2 + twin.shift)


@torch.inference_mode()
def test_a_bias_of_joints_whose_changes_nobody_sees_is_not_kept():
    scale, module = torch.ones(3, 5), nn.Module()
    for factor in (1.0, 2.0):
        scale.mul_(factor)
        found = onednn.kept_rows(module, (scale,), lambda part: part[:, None])
        assert torch.equal(found[0, :, 0], scale)


@torch.no_grad()
def test_the_bias_of_grouped_mixing_is_what_mixing_makes_of_the_inner_one():
    draw = torch.Generator().manual_seed(3)
    inner, outer = torch.randn(8, generator=draw), torch.randn(6, generator=draw)
    mixing = GroupedJointMixing(2, 5)
    mixing.matrices.normal_(generator=draw)
    kernel = torch.randn(6, 8, 1, 1, generator=draw)
    mixed = mixing(inner[None, :, None, None].expand(1, 8, 1, 5).contiguous())
    found = grouped_joint_bias(inner, mixing.matrices, kernel, outer)
    torch.testing.assert_close(found[None], F.conv2d(mixed, kernel, outer), rtol=1e-5, atol=1e-5)
