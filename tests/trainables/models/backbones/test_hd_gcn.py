"""HD-GCN: naive twins of its layers, the centre of mass, how it
starts, what its deploy form keeps.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models, naive_networks
from tests.trainables.models.counts import check_counts, check_foldings
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.deploy.form import deploy
from trainables.foreign.checkpoint import import_tensors
from trainables.graphs import graph_parents, hierarchical, hierarchy
from trainables.layouts import load_layout
from trainables.models.backbone import NetworkSpec
from trainables.models.backbones.hd_gcn import (
    HDGCN,
    EdgeConv,
    HierarchicalGraphConv,
    HierarchyAttention,
    peaks,
)
from trainables.models.build import build_backbone
from trainables.reparam.fusible import FULL, RELEASED

TEMPORAL = ("conv", "rep_tcn", "ms_tcn", "ms_tcn6", "dg_ms_tcn")
PARENTS = (1, 1, 1, 2, 2, 4)
"""A small tree: joint 1 is the root with 0 and 2, which has 3 and 4, on which 5 hangs."""

LEVELS = [[1], [0, 2], [3, 4], [5]]


def disturbed(module: nn.Module) -> nn.Module:
    """Every parameter somewhere else than where it starts; scales of both signs, as a maximum must
    not care.
    """
    generator = torch.Generator().manual_seed(4)
    module = module.double().eval()
    naive_models.randomise_batch_norm(module, generator)
    for parameter in module.parameters():
        parameter.data.add_(
            0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        )
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data[::2] *= -1
    return module


def batch_norm_of(rows: Tensor, norm: nn.BatchNorm2d, first: int) -> Tensor:
    """rows (C,), the channels of `norm` from `first` on."""
    part = slice(first, first + len(rows))
    return (
        norm.weight[part]
        * (rows - norm.running_mean[part])
        / (norm.running_var[part] + norm.eps).sqrt()
        + norm.bias[part]
    )


def naive_edge_conv(
    points: Tensor, kernel: Tensor, norm: nn.BatchNorm2d, first: int, neighbours: int
) -> Tensor:
    """points (C, P) -> (C, P), pair by pair; kernel (C, 2 C)."""
    out = torch.zeros_like(points)
    for v in range(points.shape[1]):
        order = sorted(
            range(points.shape[1]),
            key=lambda u, v=v: float(((points[:, u] - points[:, v]) ** 2).sum()),
        )
        candidates = []
        for u in order[:neighbours]:
            value = batch_norm_of(
                kernel @ torch.cat([points[:, u] - points[:, v], points[:, v]]), norm, first
            )
            candidates.append(torch.where(value > 0, value, 0.2 * value))
        out[:, v] = torch.stack(candidates).max(dim=0).values
    return out


def naive_attention(layer: HierarchyAttention, y: Tensor) -> Tensor:
    """y (L, C, V) of one sample -> (L, C)."""
    means = []
    for number, inner, outer in zip(range(len(y)), LEVELS[:-1], LEVELS[1:], strict=True):
        joints = []
        for v in [*inner, *outer]:
            reduced = (
                layer.reduce.conv.weight[:, :, 0, 0] @ y[number, :, v] + layer.reduce.conv.bias
            )
            joints.append(batch_norm_of(reduced, layer.reduce.bn, 0).clamp(min=0))
        means.append(torch.stack(joints).mean(dim=0))
    related = naive_edge_conv(
        torch.stack(means, dim=1), layer.edge.conv.weight[:, :, 0, 0], layer.edge.bn, 0, 3
    )
    return torch.stack(
        [
            torch.sigmoid(layer.expand.weight[:, :, 0] @ column + layer.expand.bias)
            for column in related.T
        ]
    )


def naive_graph_conv(layer: HierarchicalGraphConv, x: Tensor) -> Tensor:
    """Sample by sample, layer by layer, subset by subset."""
    samples, _, frames, joints = x.shape
    layers, width = layer.layers, layer.bn.num_features // 4
    out = torch.zeros(samples, 4 * width, frames, joints, dtype=x.dtype)
    for n in range(samples):
        stacked = []
        for number in range(layers):
            rows = slice(number * width, (number + 1) * width)
            z = (
                torch.einsum("oi,itv->otv", layer.reduce.conv.weight[rows, :, 0, 0], x[n])
                + layer.reduce.conv.bias[rows, None, None]
            )
            for t in range(frames):
                for v in range(joints):
                    z[:, t, v] = batch_norm_of(
                        z[:, t, v].clone(), layer.reduce.bn, number * width
                    ).clamp(min=0)
            parts = []
            for subset in range(3):
                first = (3 * number + subset) * width
                part = torch.zeros(width, frames, joints, dtype=x.dtype)
                for t in range(frames):
                    for v in range(joints):
                        mixed = sum(
                            layer.adjacency[number, subset, v, u] * z[:, t, u]
                            for u in range(joints)
                        )
                        value = (
                            layer.embed.weight[first : first + width, :, 0, 0] @ mixed
                            + layer.embed.bias[first : first + width]
                        )
                        part[:, t, v] = batch_norm_of(value, layer.embed_bn, first)
                parts.append(part)
            edge = naive_edge_conv(
                z.mean(dim=1),
                layer.edge.conv.weight[rows, :, 0, 0],
                layer.edge.bn,
                number * width,
                5,
            )
            parts.append(torch.stack([edge] * frames, dim=1))
            stacked.append(torch.cat(parts))
        y = torch.stack(stacked)  # (L, C, T, V)
        if layer.attention is None:
            out[n] = y.sum(dim=0)
        else:
            weights = naive_attention(layer.attention, y.max(dim=2).values)
            out[n] = sum(weights[number][:, None, None] * y[number] for number in range(layers))
    residual = x if isinstance(layer.residual, nn.Identity) else layer.residual(x)
    return (naive_models.batch_norm(out, layer.bn) + residual).clamp(min=0)


@pytest.mark.parametrize(
    ("points", "neighbours", "groups"), [(7, 5, 2), (3, 5, 1), (6, 3, 3), (4, 1, 1)]
)
def test_edge_conv_matches_naive(points, neighbours, groups):
    layer, x = (
        disturbed(EdgeConv(4, neighbours, groups=groups)),
        naive_models.random_clips(2, groups, 4, points),
    )
    kernels = layer.conv.weight[:, :, 0, 0].view(groups, 4, 8)
    with torch.no_grad():
        expected = torch.stack(
            [
                torch.stack(
                    [
                        naive_edge_conv(x[n, g], kernels[g], layer.bn, 4 * g, neighbours)
                        for g in range(groups)
                    ]
                )
                for n in range(2)
            ]
        )
        for form in (layer, layer.deployed(FULL), layer.deployed(RELEASED)):
            torch.testing.assert_close(form(x), expected, rtol=0.0, atol=1e-12)


def test_edge_conv_learns_like_one_made_of_pairs():
    """In training mode BatchNorm's statistics are those of all pairs."""
    layer, x = (
        disturbed(EdgeConv(4, 3)).train(),
        naive_models.random_clips(2, 1, 4, 6).requires_grad_(),
    )
    loss = layer(x).square().sum()
    found = torch.autograd.grad(loss, [x, layer.conv.weight, layer.bn.weight])
    order = torch.cdist(x[:, 0].mT, x[:, 0].mT).argsort(dim=-1)[..., :3]  # (N, P, k)
    pairs = torch.stack(
        [
            torch.stack([_pairs(sample[0], v, near) for v, near in enumerate(numbers)], 1)
            for sample, numbers in zip(x, order, strict=True)
        ]
    )
    products = torch.einsum("oi,nivk->novk", layer.conv.weight[:, :, 0, 0], pairs)
    normalised = nn.functional.batch_norm(
        products, None, None, layer.bn.weight, layer.bn.bias, training=True
    )
    loss = nn.functional.leaky_relu(normalised, 0.2).max(dim=3).values.square().sum()
    expected = torch.autograd.grad(loss, [x, layer.conv.weight, layer.bn.weight])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def _pairs(points: Tensor, v: int, near: Tensor) -> Tensor:
    """[x_u - x_v; x_v] of every neighbour u: (2 C, k)."""
    own = points[:, [v] * len(near)]
    return torch.cat([points[:, near] - own, own])


@pytest.mark.parametrize("frames", range(1, 10))
def test_peaks_are_maxima(frames):
    x = naive_models.random_clips(2, 2, 3, frames, 4)
    expected = torch.stack([x[:, :, :, t] for t in range(frames)]).max(dim=0).values
    assert torch.equal(peaks(x), expected)
    assert torch.equal(peaks(x.requires_grad_()), expected)


def graph_conv(inside: int, outside: int, *, attention: bool) -> HierarchicalGraphConv:
    model = ModelConfig(backbone="hd_gcn", input_block="conv")
    spec = NetworkSpec(model=model, parents=PARENTS, classes=3, persons=1)
    return disturbed(HierarchicalGraphConv(spec, inside, outside, attention=attention))


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(
    ("inside", "outside", "attention"), [(3, 8, False), (8, 8, True), (8, 16, True), (8, 8, False)]
)
def test_graph_conv_matches_naive(inside, outside, attention, rows):
    layer, x = (
        graph_conv(inside, outside, attention=attention),
        naive_models.random_clips(2, inside, 3, len(PARENTS)),
    )
    assert hierarchy(PARENTS, 1) == LEVELS
    with torch.no_grad():
        expected = naive_graph_conv(layer, x)
        assert (expected > 0).any()
        if rows:
            x = x.contiguous(memory_format=torch.channels_last)
        for form in (layer, layer.deployed(FULL), layer.deployed(RELEASED)):
            torch.testing.assert_close(form(x), expected, rtol=0.0, atol=1e-11)


def built(**model) -> HDGCN:
    config = ModelConfig(**({"backbone": "hd_gcn", "stages": (1, 1)} | model))
    return build_backbone(
        config, load_layout("ntu25"), classes=12, persons=1, stream=StreamConfig(), seed=1
    )


def deviation(weight: Tensor) -> float:
    return weight.detach().std(correction=0).item()


def test_initial_weights():
    network = built()
    graph = network.blocks[1].graph
    # fan out of one layer's convolution
    assert deviation(graph.reduce.conv.weight) == pytest.approx(math.sqrt(2 / 32), rel=0.05)
    assert deviation(graph.embed.weight) == pytest.approx(math.sqrt(2 / 32), rel=0.05)
    assert deviation(graph.edge.conv.weight) == pytest.approx(math.sqrt(2 / 32), rel=0.05)
    assert deviation(graph.attention.reduce.conv.weight) == pytest.approx(
        math.sqrt(2 / 32), rel=0.05
    )
    assert deviation(graph.residual.conv.weight) == pytest.approx(math.sqrt(2 / 128), rel=0.05)
    assert deviation(network.blocks[1].residual.conv.weight) == pytest.approx(
        math.sqrt(2 / 128), rel=0.05
    )
    assert deviation(built(temporal="conv").blocks[1].temporal.conv.weight) == pytest.approx(
        math.sqrt(2 / 640), rel=0.05
    )
    assert not graph.reduce.conv.bias.any()
    assert not graph.embed.bias.any()
    assert torch.equal(graph.bn.weight, torch.full((128,), 1e-6))
    assert network.blocks[0].graph.attention is None


@pytest.mark.parametrize("centre", [1, 2, 21])
def test_graph_and_attention_follow_the_centre(centre):
    parents = graph_parents(ModelConfig(backbone="hd_gcn"), load_layout("ntu25"))
    graph, levels = built(centre=centre).blocks[1].graph, hierarchy(parents, centre - 1)
    torch.testing.assert_close(
        graph.adjacency.detach().double(),
        torch.tensor(hierarchical(parents, centre - 1)),
        rtol=0.0,
        atol=1e-6,
    )
    joints = [row.nonzero().flatten().tolist() for row in graph.attention.joints]
    assert joints == [sorted([*inner, *outer]) for inner, outer in pairwise(levels)]
    assert levels[0] == [centre - 1]


def test_another_centre_gives_other_logits():
    """The matrices come with the checkpoint; whose joints a layer's weight is made of does not."""
    name, layout = "hd_gcn_com21", load_layout("ntu25")
    expected = naive_networks.logits(name)
    for centre, same in (("root", True), (2, False)):  # 21 is held to the logits elsewhere
        network = import_tensors(
            naive_networks.checkpoint(name), "hd_gcn", layout, options={"centre": centre}
        ).network.eval()
        with torch.no_grad():
            difference = (
                network(naive_networks.clips(name)) - expected
            ).abs().max() / expected.abs().max()
        assert (difference < 1e-9) == same


def test_last_layer_is_taken_from_its_second_name():
    theirs = naive_networks.checkpoint("hd_gcn_com21")
    imported = import_tensors(theirs, "hd_gcn", load_layout("ntu25"))
    embed = imported.network.blocks[3].graph.embed
    assert torch.equal(embed.weight[-16:], theirs["l4.gcn1.conv_d.2.0.weight"])
    assert not torch.equal(embed.weight[-16:], theirs["l4.gcn1.conv.5.2.0.weight"])
    assert torch.equal(embed.weight[16:32], theirs["l4.gcn1.conv.0.1.0.weight"])
    assert torch.equal(
        imported.network.blocks[3].temporal.dilated[1].conv.bias,
        theirs["l4.tcn1.branches.1.3.bias"].flatten(),
    )
    assert all(name.endswith("attention.joints") for name in imported.constructed)


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize(
    ("layout", "persons", "frames"), [("ntu25", 2, 7), ("ucla20", 1, 8), ("coco17", 2, 10)]
)
def test_deploy_form_with_every_temporal_module(temporal, layout, persons, frames):
    network = naive_models.narrow_backbone(
        "hd_gcn", layout=layout, persons=persons, temporal=temporal
    ).eval()
    check_foldings(network, frames)


@pytest.mark.parametrize(
    ("temporal", "centre"), [*((temporal, "root") for temporal in TEMPORAL), (TEMPORAL[0], 4)]
)
def test_counted_equals_built_with_every_temporal_module(temporal, centre):
    config = ModelConfig(
        backbone="hd_gcn", channels=16, stages=(1, 1), temporal=temporal, centre=centre
    )
    check_counts(config, persons=2, frames=13, work=True)


def test_trains_in_bfloat16():
    network = naive_models.narrow_backbone("hd_gcn", classes=3).float().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = network.objective(
            naive_models.random_clips(2, 3, 8, 25, 1).float(), torch.tensor([0, 2])
        )
    loss.backward()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all()
        for parameter in network.parameters()
    )
    assert network.blocks[1].graph.edge.conv.weight.grad.any()


def test_deploy_form_has_no_normalisation():
    names = " ".join(
        deploy(naive_models.narrow_backbone("hd_gcn", temporal="conv"), FULL).state_dict()
    )
    assert not any(part in names for part in ("bn", "running"))
