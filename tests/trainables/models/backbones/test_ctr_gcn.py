"""CTR-GCN: its graph convolution against loops in both conventions, its start, its sizes, its
deploy form with every temporal module.
"""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models
from tests.trainables.models import counts
from tests.trainables.models.counts import check_counts
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.model import Temporal
from trainables.deploy.form import deploy
from trainables.graphs import spatial
from trainables.layouts import load_layout
from trainables.models.backbones.ctr_gcn import TopologyRefinement, reduced_channels
from trainables.models.build import Backbone, build_backbone
from trainables.reparam.fusible import FULL, RELEASED, deployed

CONVENTIONS = ("official", "pyskl")


def telling(
    inside: int, outside: int, convention: str, *, subsets: int = 3, joints: int = 5
) -> TopologyRefinement:
    """Double precision; every tensor away from its start."""
    generator = torch.Generator().manual_seed(4)
    adjacency = torch.randn(subsets, joints, joints, generator=generator)
    module = TopologyRefinement(adjacency, inside, outside, convention=convention).double()
    naive_models.randomise_batch_norm(module, generator)
    naive_models.disturb(module, generator)
    module.alpha.data.fill_(0.7)
    return module


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution of (N, C, ...)."""
    out = [
        sum(weight[o, i, 0, 0] * x[:, i] for i in range(x.shape[1])) + bias[o]
        for o in range(len(bias))
    ]
    return torch.stack(out, dim=1)


def naive_graph_conv(module: TopologyRefinement, x: Tensor, convention: str) -> Tensor:
    """Subset by subset, every convolution before the mean over time, joint by joint (evaluation
    mode).
    """
    subsets, joints = len(module.embed), x.shape[3]
    reduced = module.relate.out_channels // (2 * subsets)
    out: Tensor | float = 0.0
    for k in range(subsets):
        first, second = (
            slice((part * subsets + k) * reduced, (part * subsets + k + 1) * reduced)
            for part in (0, 1)
        )
        # (N, r, V)
        p = pointwise(x, module.relate.weight[first], module.relate.bias[first]).mean(dim=2)
        q = pointwise(x, module.relate.weight[second], module.relate.bias[second]).mean(dim=2)
        z = pointwise(x, module.embed[k].weight, module.embed[k].bias)
        mixed = torch.zeros_like(z)
        for u in range(joints):
            for v in range(joints):
                compared = torch.tanh(p[:, :, u] - q[:, :, v])
                # (N, C)
                refined = pointwise(compared, module.refine[k].weight, module.refine[k].bias)
                topology = module.alpha * refined + module.adjacency[k, u, v]
                to, source = (u, v) if convention == "official" else (v, u)
                mixed[..., to] += topology[:, :, None] * z[..., source]
        out = out + mixed
    out = naive_models.batch_norm(out, module.bn)
    if isinstance(module.residual, nn.Identity):
        return (out + x).clamp_min(0)
    down = pointwise(x, module.residual.conv.weight, module.residual.conv.bias)
    return (out + naive_models.batch_norm(down, module.residual.bn)).clamp_min(0)


@pytest.mark.parametrize(("inside", "outside", "subsets"), [(3, 8, 3), (16, 16, 3), (24, 8, 2)])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_graph_convolution_matches_loops(convention, inside, outside, subsets):
    module = telling(inside, outside, convention, subsets=subsets).eval()
    x = naive_models.random_clips(2, inside, 4, 5)
    with torch.no_grad():
        expected = naive_graph_conv(module, x, convention)
        torch.testing.assert_close(module(x), expected, rtol=0.0, atol=1e-11)
        torch.testing.assert_close(deployed(module, FULL)(x), expected, rtol=0.0, atol=1e-11)
        torch.testing.assert_close(deployed(module, RELEASED)(x), expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_clips_of_any_memory_layout(convention):
    module, x = (
        telling(3, 8, convention).eval(),
        naive_models.random_clips(2, 4, 5, 3).permute(0, 3, 1, 2),
    )
    with torch.no_grad():
        torch.testing.assert_close(module(x), module(x.contiguous()), rtol=0.0, atol=1e-12)
        torch.testing.assert_close(deployed(module, FULL)(x), module(x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("inside", "official", "pyskl"),
    [(3, 8, 8), (8, 1, 8), (9, 8, 8), (16, 2, 8), (24, 3, 3), (64, 8, 8), (256, 32, 32)],
)
def test_channels_in_which_joints_are_compared(inside, official, pyskl):
    assert (reduced_channels(inside, "official"), reduced_channels(inside, "pyskl")) == (
        official,
        pyskl,
    )


def test_both_convolutions_of_the_differences_learn_from_the_start():
    """alpha is 0 at first: its own gradient must not be."""
    module = TopologyRefinement(torch.randn(3, 5, 5), 8, 8, convention="official").double()
    module.bn.weight.data.fill_(1.0)
    module(naive_models.random_clips(4, 8, 4, 5)).square().sum().backward()
    assert module.alpha.grad.abs().item() > 1e-6
    assert not module.refine[0].weight.grad.any()


def test_pyskl_ends_ms_tcn_with_a_relu():
    assert [
        naive_models.narrow_backbone("ctr_gcn", convention=convention).blocks[1].temporal.relu
        for convention in CONVENTIONS
    ] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("layout", "persons", "frames"), [("ntu25", 2, 7), ("ucla20", 1, 8), ("coco17", 2, 5)]
)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("temporal", get_args(Temporal))
def test_deploy_form_gives_the_same_logits(temporal, convention, layout, persons, frames):
    network = naive_models.narrow_backbone(
        "ctr_gcn", layout=layout, persons=persons, temporal=temporal, convention=convention
    ).eval()
    clips = naive_models.random_clips(2, 3, frames, network.spec.joints, persons)
    with torch.no_grad():
        expected = network(clips)
        for folding in (FULL, RELEASED):
            form = deploy(network, folding, frames=frames)
            assert (form(clips) - expected).abs().max() <= 1e-9 * max(1.0, expected.abs().max())
    assert not any(
        isinstance(part, nn.BatchNorm2d)
        for block in deploy(network, FULL).blocks
        for part in block.graph.modules()
    )


@pytest.mark.parametrize("subsets", [1, 5])
def test_any_number_of_subsets(subsets):
    network = naive_models.narrow_backbone("ctr_gcn", subsets=subsets, graph="random").eval()
    clips = naive_models.random_clips(2, 3, 8, 25, 1)
    with torch.no_grad():
        torch.testing.assert_close(deploy(network)(clips), network(clips), rtol=1e-9, atol=1e-9)


def built(**model) -> Backbone:
    config = ModelConfig(backbone="ctr_gcn", stages=(1, 1), **model)
    return build_backbone(
        config, load_layout("ntu25"), classes=8, persons=1, stream=StreamConfig(), seed=1
    )


def deviation(weight: Tensor) -> float:
    return weight.detach().std(correction=0).item()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_initial_weights(convention):
    network = built(convention=convention)
    first, block = network.blocks
    graph = block.graph
    assert first.residual is None
    skeleton = load_layout("ntu25")
    parents = skeleton.parents if convention == "official" else skeleton.graph_parents
    assert torch.equal(graph.adjacency, torch.tensor(spatial(parents), dtype=torch.float32))
    assert not graph.alpha.any()
    assert torch.equal(graph.bn.weight, torch.full((128,), 1e-6))
    assert deviation(graph.relate.weight) == pytest.approx((2 / 8) ** 0.5, rel=0.05)
    for conv in (*graph.embed, *graph.refine, graph.residual.conv, block.residual.conv):
        assert deviation(conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.1)
        assert not conv.bias.any()
    assert torch.equal(graph.residual.bn.weight, torch.ones(128))
    head = network.head.fc
    assert deviation(head.weight) == pytest.approx(
        (2 / 8) ** 0.5 if convention == "official" else 0.01, rel=0.1
    )
    assert head.bias.any() == (convention == "official")


def test_initial_weights_of_other_temporal_modules():
    single, branched = (
        built(temporal="conv").blocks[1].temporal,
        built(temporal="rep_tcn").blocks[1].temporal,
    )
    assert deviation(single.conv.weight) == pytest.approx((2 / (128 * 5)) ** 0.5, rel=0.05)
    assert not single.conv.bias.any()
    origin = branched.body.branches["origin"].conv
    # torch's own: U(+-1 / sqrt(fan in))
    assert deviation(origin.weight) == pytest.approx((1 / (128 * 5) / 3) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("options", "training", "released", "gmacs"),
    [  # of the released code at 120 classes, 64 frames
        ({}, 1_462_092, 1_462_092, 1.939),
        ({"convention": "pyskl"}, 1_462_092, 1_462_092, 1.939),
        ({"temporal": "conv"}, 2_344_012, 2_344_012, 2.853),
        ({"temporal": "rep_tcn"}, 4_456_652, 2_344_012, 2.853),
    ],
)
def test_released_sizes(options, training, released, gmacs):
    counted = count_of(classes=120, frames=64, **options)
    assert (counted.training.params, counted.released.params) == (training, released)
    assert counted.released.gmacs == pytest.approx(gmacs, abs=5e-4)
    assert count_of(classes=60, frames=64, **options).released.params == released - 60 * 257


def count_of(*, classes, frames, **options):
    config = ModelConfig(backbone="ctr_gcn", **options)
    return counts.count_of(config, classes=classes, frames=frames)


def test_released_work_of_longer_clips():
    assert count_of(classes=60, frames=100).released.gmacs == pytest.approx(2.972, abs=5e-4)


def test_both_ablations_ship_the_same_network():
    assert (
        count_of(classes=120, frames=64, temporal="conv").deploy
        == count_of(classes=120, frames=64, temporal="rep_tcn").deploy
    )


def test_maskable_weights_of_the_sparse_study():
    """Its CTR-GCN has the six branches of ST-GCN++."""
    blocks = count_of(classes=60, frames=64, temporal="ms_tcn6").maskable
    assert [sum(block) for block in blocks] == [
        12_128,
        *[26_576] * 3,
        85_428,
        *[105_908] * 2,
        341_712,
        *[423_632] * 2,
    ]


@pytest.mark.parametrize("temporal", get_args(Temporal))
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_counted_parameters_are_the_built_ones(convention, temporal):
    config = ModelConfig(
        backbone="ctr_gcn", channels=16, stages=(2, 1), convention=convention, temporal=temporal
    )
    check_counts(config, persons=1, frames=9)
