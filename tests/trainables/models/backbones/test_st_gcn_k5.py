"""ST-GCN-K5: its graph convolution against loops, its start, its sizes, its deploy form with every
temporal module.
"""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models
from tests.trainables.models.counts import check_counts, count_of
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.model import Temporal
from trainables.deploy.form import deploy
from trainables.layouts import load_layout
from trainables.models.backbones.st_gcn_k5 import NormalisedGraphConv
from trainables.models.build import build_backbone
from trainables.reparam.fusible import FULL, RELEASED, deployed


def telling(inside: int, outside: int, subsets: int) -> NormalisedGraphConv:
    """Double precision; every tensor away from its start."""
    generator = torch.Generator().manual_seed(4)
    module = NormalisedGraphConv(subsets, 5, inside, outside).double()
    naive_models.randomise_batch_norm(module, generator)
    naive_models.disturb(module, generator)
    module.adjacency.data.copy_(torch.randn(subsets, 5, 5, generator=generator))
    module.adjacency.data[0, :, 2] = 0.0  # a joint that receives nothing
    return module


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    out = [
        sum(conv.weight[o, i, 0, 0] * x[:, i] for i in range(x.shape[1])) + conv.bias[o]
        for o in range(conv.out_channels)
    ]
    return torch.stack(out, dim=1)


def naive_graph_conv(module: NormalisedGraphConv, x: Tensor) -> Tensor:
    """Subset by subset, joint by joint (evaluation mode)."""
    joints = x.shape[3]
    out: Tensor | float = 0.0
    for matrix, conv in zip(module.adjacency, module.project, strict=True):
        mixed = torch.zeros_like(x)
        for v in range(joints):
            length = sum(matrix[u, v] ** 2 for u in range(joints)) ** 0.5
            for u in range(joints):
                mixed[..., v] += x[..., u] * matrix[u, v] / (length + 1e-4)
        out = out + pointwise(mixed, conv)
    out = naive_models.batch_norm(out, module.bn)
    if isinstance(module.residual, nn.Identity):
        return (out + x).clamp_min(0)
    return (
        out + naive_models.batch_norm(pointwise(x, module.residual.conv), module.residual.bn)
    ).clamp_min(0)


@pytest.mark.parametrize(("inside", "outside", "subsets"), [(3, 8, 3), (8, 8, 3), (8, 16, 1)])
def test_graph_convolution_matches_loops(inside, outside, subsets):
    module, x = telling(inside, outside, subsets).eval(), naive_models.random_clips(2, inside, 4, 5)
    with torch.no_grad():
        expected = naive_graph_conv(module, x)
        torch.testing.assert_close(module(x), expected, rtol=0.0, atol=1e-11)
        torch.testing.assert_close(deployed(module, FULL)(x), expected, rtol=0.0, atol=1e-11)
        torch.testing.assert_close(deployed(module, RELEASED)(x), expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize(
    ("layout", "persons", "frames", "subsets"),
    [("ntu25", 2, 7, 3), ("ucla20", 1, 8, 3), ("coco17", 2, 5, 2)],
)
@pytest.mark.parametrize("temporal", get_args(Temporal))
def test_deploy_form_gives_the_same_logits(temporal, layout, persons, frames, subsets):
    network = naive_models.narrow_backbone(
        "st_gcn_k5", layout=layout, persons=persons, temporal=temporal, subsets=subsets
    ).eval()
    for block in network.blocks:  # identities would not show a transposed product
        block.graph.adjacency.data += naive_models.random_clips(
            *block.graph.adjacency.shape, seed=6
        )
    clips = naive_models.random_clips(2, 3, frames, network.spec.joints, persons)
    with torch.no_grad():
        expected = network(clips)
        for folding in (FULL, RELEASED):
            form = deploy(network, folding, frames=frames)
            assert (form(clips) - expected).abs().max() <= 1e-9 * max(1.0, expected.abs().max())


@pytest.mark.parametrize("temporal", ["conv", "rep_tcn"])
def test_nothing_but_convolutions_and_graphs_is_left(temporal):
    form = deploy(naive_models.narrow_backbone("st_gcn_k5", temporal=temporal), FULL)
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in form.modules())
    assert [
        sum(isinstance(part, nn.Conv2d) for part in block.modules()) for block in form.blocks
    ] == [3, 4]


def deviation(weight: Tensor) -> float:
    return weight.detach().std(correction=0).item()


def test_initial_weights():
    config = ModelConfig(backbone="st_gcn_k5", stages=(1, 1))
    network = build_backbone(
        config, load_layout("ntu25"), classes=8, persons=1, stream=StreamConfig(), seed=1
    )
    first, block = network.blocks
    graph = block.graph
    assert first.residual is None
    assert torch.equal(graph.adjacency, torch.eye(25).expand(3, -1, -1))
    assert torch.equal(graph.bn.weight, torch.full((128,), 1e-6))
    for conv in graph.project:
        assert deviation(conv.weight) == pytest.approx((2 / (128 * 64 * 3)) ** 0.5, rel=0.05)
        assert not conv.bias.any()
    for conv, fan_out in (
        (graph.residual.conv, 128),
        (block.residual.conv, 128),
        (block.temporal.conv, 128 * 5),
    ):
        assert deviation(conv.weight) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert not conv.bias.any()
    assert torch.equal(block.temporal.bn.weight, torch.ones(128))
    assert deviation(network.head.fc.weight) == pytest.approx((2 / 8) ** 0.5, rel=0.1)
    assert network.head.fc.bias.any()


@pytest.mark.parametrize(
    ("temporal", "training", "gmacs"), [("conv", 2_108_322, 2.527), ("rep_tcn", 4_220_962, 4.991)]
)
@pytest.mark.parametrize("classes", [120, 60])
def test_released_sizes(temporal, training, gmacs, classes):
    fewer = (120 - classes) * 257
    counted = count_of(ModelConfig(backbone="st_gcn_k5", temporal=temporal), classes=classes)
    assert (counted.training.params, counted.released.params) == (
        training - fewer,
        2_108_322 - fewer,
    )
    assert counted.training.gmacs == pytest.approx(gmacs, abs=5e-4)
    assert counted.released.gmacs == pytest.approx(2.527, abs=5e-4)
    assert counted.deploy == count_of(ModelConfig(backbone="st_gcn_k5"), classes=classes).deploy


@pytest.mark.parametrize("temporal", get_args(Temporal))
def test_counted_parameters_are_the_built_ones(temporal):
    config = ModelConfig(
        backbone="st_gcn_k5", channels=16, stages=(2, 1), subsets=2, temporal=temporal
    )
    check_counts(config, persons=1, frames=9)
