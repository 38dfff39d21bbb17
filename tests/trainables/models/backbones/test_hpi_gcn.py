"""HPI-GCN: naive twins of its layers, initialisation, what is merged, and the law of parallel
adjacencies.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models
from trainables.contract.config import STREAMS, ModelConfig
from trainables.deploy.form import deploy
from trainables.layouts import load_layout
from trainables.models.backbone import Backbone
from trainables.models.backbones.hpi_gcn import MergedGraphConv
from trainables.models.build import build_backbone
from trainables.models.layers import (
    ExplicitMotion,
    GroupedJointMixing,
    JointMixing,
    ParallelJointMixing,
    displacement,
)
from trainables.reparam.fusible import FULL, RELEASED


def random_matrices(*shape: int) -> Tensor:
    return naive_models.random_clips(*shape, seed=9)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_joint_mixing_matches_naive(groups):
    layer, x = GroupedJointMixing(groups, 5).double(), naive_models.random_clips(2, 8, 3, 5)
    layer.matrices.data.copy_(random_matrices(groups, 5, 5))
    torch.testing.assert_close(
        layer(x), naive_models.joint_mixing(x, layer.matrices), rtol=0.0, atol=1e-12
    )


@pytest.mark.parametrize("matrices", [1, 3, 5])
def test_parallel_joint_mixing_matches_naive(matrices):
    layer, x = ParallelJointMixing(matrices, 5).double(), naive_models.random_clips(2, 4, 3, 5)
    layer.matrices.data.copy_(random_matrices(matrices, 5, 5))
    expected = sum(naive_models.joint_mixing(x, layer.matrices[n : n + 1]) for n in range(matrices))
    torch.testing.assert_close(layer(x), expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("frames", [2, 3, 8])
def test_explicit_motion_matches_five_naive_branches(frames):
    layer, x = ExplicitMotion(16).double().eval(), naive_models.random_clips(2, 3, frames, 5)
    naive_models.randomise_batch_norm(layer, torch.Generator().manual_seed(3))
    expected = naive_models.explicit_motion(x, layer.conv.weight, layer.conv.bias, layer.bn)
    torch.testing.assert_close(layer(x), expected, rtol=0.0, atol=1e-12)


def test_displacement_is_zero_where_the_other_frame_is_missing():
    ramp = torch.tensor([1.0, 3.0, 6.0, 10.0])[None, None, :, None]
    assert displacement(ramp, 1).flatten().tolist() == [0.0, 2.0, 3.0, 4.0]
    assert displacement(ramp, 2).flatten().tolist() == [0.0, 0.0, 5.0, 7.0]
    assert displacement(ramp, -1).flatten().tolist() == [-2.0, -3.0, -4.0, 0.0]
    assert displacement(ramp, -2).flatten().tolist() == [-5.0, -7.0, 0.0, 0.0]


def test_features_are_the_mean_over_frames_joints_and_persons():
    network, clips = (
        naive_models.narrow_backbone(persons=2).eval(),
        naive_models.random_clips(3, 3, 6, 25, 2),
    )
    x = network.stem(network.data_norm(clips))
    for block in network.blocks:
        x = block(x)
    pooled = torch.stack(
        [(x[2 * clip].mean(dim=(1, 2)) + x[2 * clip + 1].mean(dim=(1, 2))) / 2 for clip in range(3)]
    )
    torch.testing.assert_close(network.features(clips), pooled, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(
        network(clips),
        pooled @ network.head.fc.weight.T + network.head.fc.bias,
        rtol=0.0,
        atol=1e-12,
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_parallel_adjacencies_train_like_their_sum_under_n_times_the_gradient(nesterov):
    """All n matrices see the same gradient, so under SGD with momentum and weight decay their sum
    moves as one matrix would.
    """
    many, one = ParallelJointMixing(5, 4).double(), JointMixing(torch.zeros(4, 4)).double()
    many.matrices.data.copy_(random_matrices(5, 4, 4))
    one.matrix.data.copy_(many.matrices.data.sum(dim=0))
    start = one.matrix.detach().clone()
    settings = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01}
    optimizers = (
        torch.optim.SGD(many.parameters(), **settings),
        torch.optim.SGD(one.parameters(), **settings),
    )
    for step in range(6):
        x = naive_models.random_clips(3, 2, 3, 4, seed=step)
        for layer, optimizer in zip((many, one), optimizers, strict=True):
            optimizer.zero_grad()
            layer(x).tanh().square().mean().backward()
        one.matrix.grad *= 5
        for optimizer in optimizers:
            optimizer.step()
    assert not torch.allclose(one.matrix, start, atol=1e-2)
    torch.testing.assert_close(many.matrices.sum(dim=0), one.matrix, rtol=0.0, atol=1e-12)


def built(name: str, **model) -> Backbone:
    config = ModelConfig(backbone=name, stages=(1, 1), **model)
    return build_backbone(
        config, load_layout("ntu25"), classes=8, persons=1, stream=STREAMS["joint"], seed=1
    )


def deviation(weight: Tensor) -> float:
    return weight.detach().std(correction=0).item()


def test_initial_weights_of_rp():
    network = built("hpi_gcn_rp")
    graph = network.blocks[1].graph
    assert graph.mixing.matrices.shape == (5, 25, 25)
    assert 0.9 <= graph.mixing.matrices.min() < 0.905
    assert 1.095 < graph.mixing.matrices.max() < 1.1
    assert deviation(graph.embed.weight) == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert deviation(graph.expand.conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert deviation(graph.residual.conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert not graph.embed.bias.any()
    assert deviation(network.head.fc.weight) == pytest.approx((2 / 8) ** 0.5, rel=0.1)


def test_initial_weights_of_op():
    network = built("hpi_gcn_op")
    graph = network.blocks[1].graph
    assert torch.equal(graph.mixing.matrices, torch.ones(8, 25, 25))
    assert deviation(graph.expand.body.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert not graph.expand.body.bias.any()
    # torch's own: U(+-1 / sqrt(fan in))
    assert deviation(graph.residual.conv.weight) == pytest.approx((1 / 64 / 3) ** 0.5, rel=0.05)


def test_only_the_temporal_half_of_a_block_is_strided():
    network = naive_models.narrow_backbone(stages=(1, 2, 1)).eval()
    x, lengths = torch.zeros(1, 8, 9, 25, dtype=torch.float64), []
    for block in network.blocks:
        x = block(x)
        lengths.append(tuple(x.shape[1:3]))
    assert lengths == [(8, 9), (16, 5), (16, 5), (32, 3)]
    strided = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1)
    ]
    assert strided
    assert not any(".graph." in name for name in strided)


def test_baseline_starts_as_rp_with_one_adjacency_or_as_released():
    graph = built("hpi_gcn_baseline").blocks[1].graph
    assert graph.mixing.matrices.shape == (1, 25, 25)
    assert 0.9 <= graph.mixing.matrices.min() < graph.mixing.matrices.max() < 1.1
    literal = built("hpi_gcn_baseline", normalised=False)
    assert not literal.blocks[1].graph.mixing.matrix.any()
    norms = [
        name
        for name, module in literal.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    assert norms == ["data_norm", "stem.bn", "blocks.0.temporal.bn", "blocks.1.temporal.bn"]


@pytest.mark.parametrize(
    ("name", "merged"), [("hpi_gcn_rp", True), ("hpi_gcn_baseline", True), ("hpi_gcn_op", False)]
)
def test_convolutions_around_one_adjacency_are_merged(name, merged):
    network = naive_models.narrow_backbone(name)
    kinds = [isinstance(block.graph, MergedGraphConv) for block in deploy(network, FULL).blocks]
    assert kinds == [merged, merged]
    assert not any(
        isinstance(block.graph, MergedGraphConv) for block in deploy(network, RELEASED).blocks
    )
