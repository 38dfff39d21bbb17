"""Networks of several levels: counted equals built, published shares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import StreamConfig, TrialConfig
from trainables.cost.counting.count import count
from trainables.cost.counting.levels import count_trial, training_share
from trainables.deploy.form import deploy
from trainables.laws.counted import measured_gmacs
from trainables.layouts import load_layout
from trainables.models.build_levels import build_multi_level
from trainables.models.multilevel import multi_level_spec
from trainables.reparam.fusible import FULL

LAYOUT = load_layout("ucla20")
SIZES = {"classes": 12, "persons": 2}
LEVELS = [0.6, 0.8, 0.95, 0.99]


def config_of(backbone: str = "st_gcn", model: dict | None = None, **sparsity) -> TrialConfig:
    options = {
        "backbone": backbone,
        **({"channels": 8, "stages": (1, 1), "groups": 2} if model is None else model),
    }
    return TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "p", "frames": 16},
            "model": options,
            "sparsity": {"levels": LEVELS} | sparsity,
        }
    )


@pytest.mark.parametrize(
    ("backbone", "sparsity"),
    [
        ("st_gcn", {"network": "experts", "fusion": "concat"}),
        *((backbone, {"network": "nested"}) for backbone in BACKBONES.own),
        *((backbone, {"network": "mixture", "active": 2}) for backbone in BACKBONES.own),
        ("info_gcn", {"network": "experts"}),
        ("info_gcn", {"network": "experts", "fusion": "weighted", "expert_losses": False}),
    ],
)
def test_counted_equals_built(backbone, sparsity):
    config = config_of(backbone, **sparsity, levels=[0.6, 0.9])
    counted = count_trial(config, LAYOUT, **SIZES)
    spec = multi_level_spec(config.model, config.sparsity, LAYOUT, stream=StreamConfig(), **SIZES)
    with torch.device("meta"):
        network = build_multi_level(spec, seed=0).eval()
        form = deploy(network, FULL)
    assert counted.training.params == sum(parameter.numel() for parameter in network.parameters())
    assert counted.deploy.params == sum(parameter.numel() for parameter in form.parameters())
    assert counted.maskable_params == sum(
        m.weight.numel()
        for b in network.level_blocks[0]
        for m in b.modules()
        if isinstance(m, nn.Conv2d)
    )
    if sparsity["network"] != "mixture":  # on no memory nothing can be chosen
        for cost, module in ((counted.training, network), (counted.deploy, form)):
            gmacs, leaf = measured_gmacs(module, 16)
            assert cost.gmacs == pytest.approx(gmacs, rel=1e-12)
            assert cost.leaf_gmacs == pytest.approx(leaf, rel=1e-12)


@pytest.mark.parametrize("active", [1, 2, 4])
def test_a_mixture_does_the_work_of_its_gate_and_of_the_experts_it_chooses(active):
    config = config_of("ctr_gcn", network="mixture", active=active)
    data = {"frames": 16, "stream": StreamConfig(), **SIZES}
    one, gate = (count(model, LAYOUT, **data).deploy for model in (config.model, config.model.gate))
    width, classes = config.model.width, 12
    by_hand = (
        active * (one.gmacs - width * classes / 1e9)
        + (gate.gmacs - width * classes / 1e9)
        + (4 * width + width * classes) / 1e9
    )
    assert count_trial(config, LAYOUT, **SIZES).deploy.gmacs == pytest.approx(by_hand, rel=1e-12)


def test_a_mixture_runs_as_counted():
    """Real clips: as many experts as are active, whatever they are."""
    config = config_of("st_gcn", network="mixture", active=3)
    spec = multi_level_spec(config.model, config.sparsity, LAYOUT, stream=StreamConfig(), **SIZES)
    network = build_multi_level(spec, seed=0).eval()
    rows = []
    for expert in network.members:
        expert.data_norm.register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
    network(torch.randn(5, 3, 16, 20, 2))
    assert sum(rows) == 3 * 5


def test_levels_of_the_study_keep_two_thirds_of_one_dense_network():
    """0.4 + 0.2 + 0.05 + 0.01 = 0.66 of the maskable weights; nested ones the 0.4 of the lowest
    level.
    """
    options = {"backbone": "st_gcn"}
    experts, nested = (
        config_of(model=options, network=network) for network in ("experts", "nested")
    )
    beside, one = count_trial(experts, LAYOUT, **SIZES), count_trial(nested, LAYOUT, **SIZES)
    kept = 4 * beside.maskable_params - (
        beside.training.params - beside.nonzero_params(experts.sparsity)
    )
    assert kept / beside.maskable_params == pytest.approx(0.66, abs=1e-4)
    kept = one.maskable_params - (one.training.params - one.nonzero_params(nested.sparsity))
    assert kept / one.maskable_params == pytest.approx(0.4, abs=1e-4)


def test_a_single_network_is_counted_as_ever():
    config = TrialConfig.model_validate(
        {"data": {"store": "s", "protocol": "p"}, "sparsity": {"level": 0.5}}
    )
    assert count_trial(config, LAYOUT, **SIZES) == count(
        config.model, LAYOUT, frames=64, stream=StreamConfig(), **SIZES
    )
    assert training_share(config.sparsity) == 1.0


def test_nested_levels_are_trained_two_at_a_time_and_hold_one_set_of_weights():
    config = config_of(network="nested")
    assert training_share(config.sparsity) == 2 / 4
    one = count(config.model, LAYOUT, frames=16, stream=StreamConfig(), **SIZES)
    several = count_trial(config, LAYOUT, **SIZES)
    assert several.training.params == one.training.params
    assert several.training.gmacs == pytest.approx(4 * one.training.gmacs)
    # BatchNorm is in the kernels, and of every level its own
    assert several.deploy.params == 4 * one.deploy.params
