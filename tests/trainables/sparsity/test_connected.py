"""Masks that disconnect a network are found, others are not, on every backbone."""

import copy

import pytest
import torch

from tests.trainables.models.test_conformance import CASES
from trainables.laws.backbone import narrow
from trainables.laws.narrow import clips_for
from trainables.sparsity import connected
from trainables.sparsity.connected import first_disconnected_block
from trainables.sparsity.masks import attach, maskable


def dead(model):
    return first_disconnected_block(model, list(model.blocks), clips_for(model))


@pytest.mark.parametrize("case", CASES)
def test_a_residual_is_a_way_and_nothing_is_none(case):
    # the residual of the second block is the identity, that of the third a convolution
    model = narrow(CASES[case], stages=(2, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert dead(model) is None
    layers = maskable(list(model.blocks))
    for layer in layers[1]:
        attach(layer, torch.zeros_like(layer.weight))
    assert dead(model) is None
    for layer in layers[2]:
        attach(layer, torch.zeros_like(layer.weight))
    assert dead(model) == 2
    for name, tensor in model.state_dict().items():
        assert "mask" in name or torch.equal(
            tensor, before[name.replace(".parametrizations.weight.original", ".weight")]
        )


def test_one_layer_of_a_block_without_a_residual_is_enough():
    model = narrow({"backbone": "st_gcn"})
    attach(model.blocks[0].temporal.conv, torch.zeros_like(model.blocks[0].temporal.conv.weight))
    assert dead(model) == 0


def test_one_weight_is_a_way():
    model = narrow({"backbone": "st_gcn"})
    for layer in (layer for block in maskable(list(model.blocks)) for layer in block):
        mask = torch.zeros_like(layer.weight)
        mask[0, 0, mask.shape[2] // 2] = 1  # of channel 0 to channel 0, at the middle tap
        attach(layer, mask)
    assert dead(model) is None
    first = model.blocks[1].graph.conv.parametrizations.weight[0].mask
    first.copy_(first.roll(1, dims=1))  # reads channel 1, which holds nothing
    residual = model.blocks[1].residual.conv.parametrizations.weight[0].mask
    residual.copy_(residual.roll(1, dims=1))
    assert dead(model) == 1


def test_masks_that_stay_are_tried_once(monkeypatch):
    model = narrow({"backbone": "st_gcn"})
    conv = model.blocks[0].temporal.conv
    mask = attach(conv, torch.ones_like(conv.weight)).mask
    tried = []
    monkeypatch.setattr(connected, "_make_positive", lambda probe: tried.append(probe))
    assert [dead(model) for _ in range(3)] == [None] * 3
    assert len(tried) == 1
    mask.zero_()
    dead(model)
    dead(copy.deepcopy(model))
    assert len(tried) == 3
