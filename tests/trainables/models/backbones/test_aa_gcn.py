"""AA-GCN: naive twins of its layers, initial weights, and the deploy form with every temporal
module.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models
from tests.trainables.models.counts import check_deploy_form
from trainables.contract.config import STREAMS, ModelConfig
from trainables.contract.model import Temporal
from trainables.graphs import spatial, stgcn_spatial
from trainables.layouts import load_layout
from trainables.models.backbones.aa_gcn import STCAttention
from trainables.models.build import build_backbone


def pointwise(x: Tensor, conv: nn.Module, part: slice = slice(None)) -> Tensor:
    out = naive_models.temporal_conv(x, conv.weight[part], 1, 1)
    return out + conv.bias[part, None, None]


def naive_similarity(theta: Tensor, phi: Tensor) -> Tensor:
    """(N, V, V): one entry after the other."""
    clips, channels, frames, joints = theta.shape
    out = torch.zeros(clips, joints, joints, dtype=theta.dtype)
    for n in range(clips):
        for u in range(joints):
            for v in range(joints):
                out[n, u, v] = math.tanh(
                    float((theta[n, :, :, u] * phi[n, :, :, v]).sum()) / (channels * frames)
                )
    return out


def naive_graph_conv(graph: nn.Module, x: Tensor) -> Tensor:
    """Without attention: subset after subset, sample after sample, in evaluation mode."""
    narrow = graph.bn.num_features // 4
    total = torch.zeros((), dtype=x.dtype)
    for subset, project in enumerate(graph.project):
        start = 2 * subset * narrow
        theta = pointwise(x, graph.embed, slice(start, start + narrow))
        phi = pointwise(x, graph.embed, slice(start + narrow, start + 2 * narrow))
        matrices = graph.adjacency[subset] + graph.alpha * naive_similarity(theta, phi)
        mixed = torch.cat(
            [naive_models.joint_mixing(x[n : n + 1], matrices[n].T[None]) for n in range(len(x))]
        )
        total = total + pointwise(mixed, project)
    total = naive_models.batch_norm(total, graph.bn)
    if isinstance(graph.residual, nn.Identity):
        return (total + x).clamp(min=0)
    return (
        total + naive_models.batch_norm(pointwise(x, graph.residual.conv), graph.residual.bn)
    ).clamp(min=0)


def naive_conv1d(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """(N, C, L) -> (N, L), zeros beyond the ends."""
    channels, size = conv.weight.shape[1:]
    out = conv.bias.expand(x.shape[0], x.shape[2]).clone()
    for i in range(x.shape[2]):
        for k in range(size):
            at = i + k - size // 2
            if 0 <= at < x.shape[2]:
                for c in range(channels):
                    out[:, i] += conv.weight[0, c, k] * x[:, c, at]
    return out


def naive_attention(module: STCAttention, y: Tensor) -> Tensor:
    """One scaling after the other, each gate from the scaled features."""
    y = y * (1 + naive_conv1d(y.mean(2), module.joint).sigmoid()[:, None, None, :])
    y = y * (1 + naive_conv1d(y.mean(3), module.frame).sigmoid()[:, None, :, None])
    hidden = (y.mean((2, 3)) @ module.squeeze.weight.T + module.squeeze.bias).clamp(min=0)
    return y * (
        1 + (hidden @ module.excite.weight.T + module.excite.bias).sigmoid()[:, :, None, None]
    )


def narrow(**options) -> nn.Module:
    """In evaluation mode, every similarity with a say."""
    network = naive_models.narrow_backbone("aa_gcn", **options).eval()
    for block in network.blocks:
        block.graph.alpha.data.fill_(0.3)
    return network


@pytest.fixture(params=[(0, "ntu25"), (1, "coco17")], ids=["3 to 8 channels", "8 to 8"])
def graph_and_input(request):
    number, layout = request.param
    network = narrow(layout=layout, stages=(2,), attention=True)
    graph = network.blocks[number].graph
    return graph, naive_models.random_clips(2, (3, 8)[number], 5, network.spec.joints)


def test_graph_conv_matches_naive(graph_and_input):
    graph, x = graph_and_input
    attention, graph.attention = graph.attention, nn.Identity()
    with torch.no_grad():
        out = graph(x)
        torch.testing.assert_close(out, naive_graph_conv(graph, x), rtol=1e-10, atol=1e-10)
        graph.attention = attention
        torch.testing.assert_close(
            graph(x), naive_attention(attention, out), rtol=1e-10, atol=1e-10
        )
    assert (out > 0).any()


@pytest.mark.parametrize(("joints", "size"), [(25, 25), (20, 19), (17, 17)])
@pytest.mark.parametrize("frames", [4, 13])
def test_attention_matches_naive(joints, size, frames):
    module = STCAttention(8, joints).double()
    naive_models.disturb(module, torch.Generator().manual_seed(3))
    assert module.joint.kernel_size == (size,)
    x = naive_models.random_clips(3, 8, frames, joints)
    with torch.no_grad():
        torch.testing.assert_close(module(x), naive_attention(module, x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("temporal", get_args(Temporal))
@pytest.mark.parametrize(("layout", "persons", "frames"), [("ntu25", 2, 9), ("ucla20", 1, 8)])
def test_deploy_form_of_every_temporal_module(temporal, attention, layout, persons, frames):
    network = narrow(layout=layout, persons=persons, temporal=temporal, attention=attention)
    check_deploy_form(network, frames, convolutions=3)  # embedding, projection, residual


def test_similarity_and_attention_matter():
    """What compares forms cannot see a branch that is without effect in both."""
    network = narrow(attention=True)
    clips = naive_models.random_clips(2, 3, 8, 25, 1)
    graph = network.blocks[1].graph
    with torch.no_grad():
        logits = [network(clips)]
        graph.alpha.zero_()
        logits.append(network(clips))
        for layer in (graph.attention.joint, graph.attention.frame, graph.attention.excite):
            layer.weight.zero_()
            logits.append(network(clips))
    assert all((after - before).abs().max() > 1e-6 for before, after in pairwise(logits))


def built(**options):
    config = ModelConfig(backbone="aa_gcn", **({"channels": 64, "stages": (2, 1)} | options))
    return build_backbone(
        config, load_layout("ntu25"), classes=60, persons=2, stream=STREAMS["joint"], seed=0
    )


def deviation(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


def test_initial_weights():
    network = built(attention=True)
    graph, block = network.blocks[2].graph, network.blocks[2]  # 64 to 128 channels, strided
    assert not graph.alpha.any()
    assert torch.equal(graph.bn.weight, torch.full((128,), 1e-6))
    assert torch.equal(block.temporal.bn.weight, torch.ones(128))
    for part in graph.embed.weight.chunk(6):
        assert deviation(part) == pytest.approx((2 / 32) ** 0.5, rel=0.07)
    for project in graph.project:
        assert deviation(project.weight) == pytest.approx((2 / (128 * 64 * 3)) ** 0.5, rel=0.05)
    assert deviation(block.temporal.conv.weight) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    assert deviation(block.residual.conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert deviation(graph.residual.conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert deviation(graph.attention.joint.weight) == pytest.approx(
        (2 / (25 * (128 + 1))) ** 0.5, rel=0.07
    )
    assert deviation(graph.attention.squeeze.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert not graph.attention.frame.weight.any()
    assert not graph.attention.excite.weight.any()
    assert deviation(network.head.fc.weight) == pytest.approx(0.01, rel=0.05)
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    ]
    assert not any(layer.bias.any() for layer in layers)


def test_other_temporal_modules_keep_their_own_start():
    assert (
        built(temporal="rep_tcn").blocks[1].temporal.body.branches["origin"].conv.weight.abs().max()
        <= (1 / (64 * 5)) ** 0.5
    )


def test_adjacency_starts_from_the_graph_that_is_named():
    parents = load_layout("ntu25").graph_parents
    for graph, matrices in (
        ("spatial", spatial(parents)),
        ("stgcn_spatial", stgcn_spatial(parents)),
    ):
        for block in built(graph=graph).blocks:
            torch.testing.assert_close(
                block.graph.adjacency.detach(), torch.tensor(matrices, dtype=torch.float32)
            )
    for block in built(subsets=7).blocks:
        assert block.graph.adjacency.shape == (7, 25, 25)
        assert float(block.graph.adjacency.detach().mean()) == pytest.approx(0.04, abs=0.001)
        assert float(block.graph.adjacency.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_the_first_block_has_no_residual_of_its_own():
    network = built()
    assert [type(block.residual).__name__ for block in network.blocks] == [
        "NoneType",
        "Identity",
        "ConvBN",
    ]
    assert network.data_norm.num_features == 150
