"""Copies of modules are those of `copy.deepcopy`."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from tests import naive_models
from trainables.deploy.form import deploy
from trainables.module_copies import module_copy
from trainables.sparsity.masks import Masked, attach


class Drawn(nn.Module):
    """Says itself how it is copied."""

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __deepcopy__(self, memo):
        twin = Drawn()
        twin.copies = self.copies + 1
        return twin


class Remembering(nn.Linear):
    """Its state is not its dictionary."""

    def __getstate__(self):
        return {**self.__dict__, "pickled": True}


def plain():
    return naive_models.narrow_backbone("hpi_gcn_op", layout="coco17").eval()


def masked():
    network = plain()
    for block in network.blocks:
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d):
                mask = torch.rand(conv.weight.shape, generator=torch.Generator().manual_seed(0))
                attach(conv, (mask > 0.5).to(mask))
                break
    return network


def twice():
    """One module, one parameter and one buffer in two places each, and views of one memory."""
    layer, network = nn.Linear(3, 3), nn.Module()
    network.one, network.other = layer, nn.Sequential(layer, nn.ReLU())
    network.weight = layer.weight
    network.register_buffer("whole", torch.arange(6.0))
    network.register_buffer("part", network.whole[2:])
    network.options = {"names": ["a"], "empty": {}, "order": OrderedDict(b=1)}
    return network


NETWORKS = {
    "plain": plain,
    "masked": masked,
    "deployed": lambda: deploy(plain(), frames=16),
    "twice": twice,
    "own way": lambda: nn.Sequential(Drawn(), Remembering(2, 2)),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_copy_is_that_of_deepcopy(make):
    network = make()
    expected, found = copy.deepcopy(network), module_copy(network)
    assert described(found) == described(expected)
    for (name, one), (other_name, other) in zip(tensors(found), tensors(expected), strict=True):
        assert (name, type(one)) == (other_name, type(other))
        assert torch.equal(one, other)
        assert one.requires_grad == other.requires_grad
        assert one.stride() == other.stride()
    own = {tensor.untyped_storage().data_ptr() for _, tensor in tensors(network)}
    assert not own & {tensor.untyped_storage().data_ptr() for _, tensor in tensors(found)}


def tensors(network):
    return [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]


def described(network):
    """Modules, which of them are one, their other values, and which tensors share memory."""
    numbers, memory = {}, {}
    modules = [
        (name, type(module).__name__, numbers.setdefault(id(module), len(numbers)), others(module))
        for name, module in network.named_modules(remove_duplicate=False)
    ]
    shared = [
        memory.setdefault(tensor.untyped_storage().data_ptr(), len(memory))
        for _, tensor in tensors(network)
    ]
    return modules, shared


def others(module):
    """What it keeps beside modules and tensors, but for what compares by identity."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, int | str | float | tuple | list | dict | type(None))
        and name not in ("_parameters", "_buffers", "_modules", "parametrizations")
    }


@pytest.mark.parametrize("make", [plain, masked])
def test_deepcopy_is_left_what_modules_hold(make, monkeypatch):
    """It takes three times as long for modules."""
    network, real = make(), copy.deepcopy

    def no_module(value, memo=None):
        assert not isinstance(value, nn.Module)
        return real(value, memo)

    monkeypatch.setattr("trainables.module_copies.copy.deepcopy", no_module)
    kinds = [(name, type(module)) for name, module in network.named_modules()]
    assert [(name, type(module)) for name, module in module_copy(network).named_modules()] == kinds


def test_a_copy_of_masks_goes_its_own_way():
    network = masked()
    twin = module_copy(network)
    for module in twin.modules():
        if isinstance(module, Masked):
            module.mask.zero_()
    assert all(module.mask.any() for module in network.modules() if isinstance(module, Masked))
