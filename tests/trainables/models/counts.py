"""What tests of several backbones check: counts by arithmetic, and what the deploy form keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests import naive_models
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.cost.counting.count import Count, count
from trainables.deploy.form import deploy
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.reparam.fusible import FULL, RELEASED


def count_of(
    model: ModelConfig,
    *,
    classes: int = 120,
    layout: str = "ntu25",
    persons: int = 2,
    frames: int = 64,
) -> Count:
    """By arithmetic, of the joint stream."""
    return count(
        model,
        load_layout(layout),
        classes=classes,
        persons=persons,
        frames=frames,
        stream=StreamConfig(),
    )


def params_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def check_counts(model: ModelConfig, *, persons: int, frames: int, work: bool = False) -> None:
    """Parameters of both forms are those of the built modules, and with `work` so are the
    multiply-accumulates.
    """
    layout = load_layout("ucla20")
    cost = count_of(model, classes=7, layout=layout.name, persons=persons, frames=frames)
    with torch.device("meta"):
        network = build_backbone(
            model, layout, classes=7, persons=persons, stream=StreamConfig(), seed=0
        ).eval()
        for counted, module in ((cost.training, network), (cost.deploy, deploy(network, FULL))):
            assert counted.params == params_of(module)
            if work:
                with FlopCounterMode(display=False) as counter:
                    module(torch.empty(1, 3, frames, layout.size, persons))
                assert counted.gmacs * 2e9 == pytest.approx(counter.get_total_flops(), rel=1e-12)


def check_foldings(network: nn.Module, frames: int) -> None:
    """The deploy form, folded in full and as released, has the logits of the network."""
    spec = network.spec
    clips = naive_models.random_clips(2, 3, frames, spec.joints, spec.persons)
    with torch.no_grad():
        expected = network(clips)
        for folding in (FULL, RELEASED):
            differ = (deploy(network, folding, frames=frames)(clips) - expected).abs().max()
            assert differ <= 1e-9 * expected.abs().max().clamp(min=1)


def check_deploy_form(network: nn.Module, frames: int, convolutions: int) -> None:
    """Equal logits, no normalisation left in the graph modules, so many convolutions in the first
    of them, and as many parameters as are counted.
    """
    spec = network.spec
    clips = naive_models.random_clips(2, 3, frames, spec.joints, spec.persons)
    form = deploy(network, FULL)
    with torch.no_grad():
        expected = network(clips)
        assert (form(clips) - expected).abs().max() <= 1e-9 * max(1.0, expected.abs().max())
    graphs = [block.graph for block in form.blocks]
    assert not any(
        isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        for graph in graphs
        for module in graph.modules()
    )
    assert sum(isinstance(module, nn.Conv2d) for module in graphs[0].modules()) == convolutions
    layout = {25: "ntu25", 20: "ucla20"}[spec.joints]
    counted = count_of(
        spec.model, classes=spec.classes, layout=layout, persons=spec.persons, frames=frames
    )
    for cost, module in ((counted.training, network), (counted.deploy, form)):
        assert cost.params == params_of(module)
