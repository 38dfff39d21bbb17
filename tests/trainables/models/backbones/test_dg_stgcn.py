"""DG-STGCN: naive twins of its graph convolution, initial weights, and the deploy form with every
temporal module.
"""

from __future__ import annotations

import math
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
from trainables.models.build import build_backbone


def pointwise(x: Tensor, conv: nn.Module) -> Tensor:
    return naive_models.temporal_conv(x, conv.weight, 1, 1) + conv.bias[:, None, None]


def naive_matrix(p: Tensor, q: Tensor, learned: Tensor, alpha: float, beta: float) -> Tensor:
    """A'[c, u, v] of one subset of one sample, entry by entry; p, q: (m, V)."""
    middle, joints = p.shape
    out = torch.zeros(middle, joints, joints, dtype=p.dtype)
    products = [
        [sum(float(p[c, u] * q[c, v]) for c in range(middle)) for v in range(joints)]
        for u in range(joints)
    ]
    for v in range(joints):
        weights = [math.exp(products[u][v]) for u in range(joints)]
        for u in range(joints):
            for c in range(middle):
                out[c, u, v] = (
                    learned[u, v]
                    + alpha * math.tanh(float(p[c, u] - q[c, v]))
                    + beta * weights[u] / sum(weights)
                )
    return out


def naive_graph_conv(graph: nn.Module, x: Tensor) -> Tensor:
    """Sample after sample, subset after subset, in evaluation mode."""
    subsets = len(graph.adjacency)
    pre = naive_models.batch_norm(pointwise(x, graph.pre.conv), graph.pre.bn).clamp(min=0)
    # convolved at every frame, then the mean
    p, q = (pointwise(x, conv).mean(2) for conv in (graph.source, graph.target))
    middle = pre.shape[1] // subsets
    mixed = torch.zeros_like(pre)
    for n in range(len(x)):
        for k in range(subsets):
            rows = slice(k * middle, (k + 1) * middle)
            matrices = naive_matrix(
                p[n, rows],
                q[n, rows],
                graph.adjacency[k],
                float(graph.alpha[0]),
                float(graph.beta[0]),
            )
            mixed[n, rows] = naive_models.joint_mixing(pre[n : n + 1, rows], matrices.mT)[0]
    out = naive_models.batch_norm(pointwise(mixed, graph.post.conv), graph.post.bn)
    if isinstance(graph.residual, nn.Identity):
        return (out + x).clamp(min=0)
    return (
        out + naive_models.batch_norm(pointwise(x, graph.residual.conv), graph.residual.bn)
    ).clamp(min=0)


def narrow(**options) -> nn.Module:
    """In evaluation mode, every dynamic matrix with a say."""
    network = naive_models.narrow_backbone("dg_stgcn", **options).eval()
    for block in network.blocks:
        block.graph.alpha.data[0] = 0.3
        block.graph.beta.data[0] = -0.4
    return network


@pytest.mark.parametrize(("number", "layout", "subsets"), [(0, "coco17", 8), (1, "ucla20", 3)])
def test_graph_conv_matches_naive(number, layout, subsets):
    """Channels 16: two per subset, so that subsets and channels cannot be confused."""
    network = narrow(layout=layout, channels=16, stages=(2,), subsets=subsets)
    graph = network.blocks[number].graph
    x = naive_models.random_clips(2, (3, 16)[number], 5, network.spec.joints)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), naive_graph_conv(graph, x), rtol=1e-10, atol=1e-10)


def test_only_the_first_coefficients_are_used():
    network = narrow()
    clips = naive_models.random_clips(2, 3, 8, 25, 1)
    graph = network.blocks[1].graph
    with torch.no_grad():
        before = network(clips)
        for coefficients in (graph.alpha, graph.beta):
            coefficients[1:] += 1
            assert torch.equal(network(clips), before)
            coefficients[0] += 1
            changed = network(clips)
            assert (changed - before).abs().max() > 1e-6
            before = changed


@pytest.mark.parametrize("subsets", [8, 3])
@pytest.mark.parametrize("temporal", get_args(Temporal))
@pytest.mark.parametrize(("layout", "persons", "frames"), [("ntu25", 2, 9), ("ucla20", 1, 8)])
def test_deploy_form_of_every_temporal_module(temporal, subsets, layout, persons, frames):
    network = narrow(layout=layout, persons=persons, temporal=temporal, subsets=subsets)
    check_deploy_form(network, frames, convolutions=4)  # pre, p and q, post, residual


def built(**options):
    config = ModelConfig(backbone="dg_stgcn", **({"channels": 64, "stages": (2, 1)} | options))
    return build_backbone(
        config, load_layout("ntu25"), classes=60, persons=2, stream=STREAMS["joint"], seed=0
    )


def deviation(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


def test_initial_weights():
    network = built()
    graph = network.blocks[2].graph  # 64 to 128 channels
    for coefficients in (graph.alpha, graph.beta):
        assert torch.equal(coefficients, torch.zeros(8))
    for conv in (graph.pre.conv, graph.source, graph.target, graph.residual.conv):
        # torch's own: U(+-1 / sqrt(fan in))
        assert deviation(conv.weight) == pytest.approx((1 / 64 / 3) ** 0.5, rel=0.05)
        assert conv.bias.any()
    assert deviation(graph.post.conv.weight) == pytest.approx((1 / 128 / 3) ** 0.5, rel=0.05)
    assert torch.equal(graph.post.bn.weight, torch.ones(128))
    assert deviation(network.head.fc.weight) == pytest.approx(0.01, rel=0.05)
    assert not network.head.fc.bias.any()


def test_adjacency_starts_from_the_graph_that_is_named():
    parents = load_layout("ntu25").graph_parents
    for graph, matrices in (
        ("spatial", spatial(parents)),
        ("stgcn_spatial", stgcn_spatial(parents)),
    ):
        for block in built(graph=graph, subsets=3).blocks:
            torch.testing.assert_close(
                block.graph.adjacency.detach(), torch.tensor(matrices, dtype=torch.float32)
            )
    for block in built().blocks:
        assert block.graph.adjacency.shape == (8, 25, 25)
        assert float(block.graph.adjacency.detach().mean()) == pytest.approx(0.04, abs=0.001)
        assert float(block.graph.adjacency.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_persons_share_the_normalisation_and_the_first_block_has_no_residual_of_its_own():
    network = built()
    assert network.data_norm.num_features == 75
    assert [type(block.residual).__name__ for block in network.blocks] == [
        "NoneType",
        "Identity",
        "ConvBN",
    ]
