"""InfoGCN: naive twins of its layers and its objective, how it
starts, what its deploy form keeps.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests import naive_models, naive_networks
from tests.trainables.models.counts import check_counts, check_foldings
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.deploy.form import deploy
from trainables.foreign.checkpoint import import_tensors
from trainables.layouts import load_layout
from trainables.models.backbones.info_gcn import (
    InfoGCN,
    JointEmbedding,
    LatentClassifier,
    SelfAttentionGraphConv,
    class_distance,
)
from trainables.models.build import build_backbone
from trainables.reparam.fusible import FULL, RELEASED

TEMPORAL = ("conv", "rep_tcn", "ms_tcn", "ms_tcn6", "dg_ms_tcn")


def disturbed(module: nn.Module) -> nn.Module:
    """Every parameter somewhere else than where it starts, BatchNorm with statistics."""
    generator = torch.Generator().manual_seed(4)
    module = module.double().eval()
    naive_models.randomise_batch_norm(module, generator)
    for name, parameter in module.named_parameters():
        if "bn" not in name:
            parameter.data.add_(
                0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
    return module


def batch_norm_at(value: float, norm: nn.Module, feature: int) -> float:
    scale = norm.weight[feature] / math.sqrt(norm.running_var[feature] + norm.eps)
    return float(scale * (value - norm.running_mean[feature]) + norm.bias[feature])


def naive_embedding(layer: JointEmbedding, clips: Tensor) -> Tensor:
    """Persons slowest, then joints, then channels."""
    samples, _, frames, joints, persons = clips.shape
    channels = layer.linear.out_features
    out = torch.zeros(samples * persons, channels, frames, joints, dtype=clips.dtype)
    for n in range(samples):
        for m in range(persons):
            for v in range(joints):
                for t in range(frames):
                    for c in range(channels):
                        value = layer.linear.bias[c] + layer.position[0, v, c]
                        for coordinate in range(3):
                            value = (
                                value
                                + layer.linear.weight[c, coordinate] * clips[n, coordinate, t, v, m]
                            )
                        out[n * persons + m, c, t, v] = batch_norm_at(
                            float(value), layer.bn, (m * joints + v) * channels + c
                        )
    return out


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """One vector."""
    deviation = math.sqrt(float(((x - x.mean()) ** 2).mean()) + norm.eps)
    return norm.weight * (x - x.mean()) / deviation + norm.bias


def naive_graph_conv(layer: SelfAttentionGraphConv, x: Tensor) -> Tensor:
    """Frame by frame, head by head, joint by joint."""
    heads, joints, _ = layer.topology.shape
    samples, inside, frames, _ = x.shape
    features = inside // 8
    out = torch.zeros(samples, layer.bn.num_features, frames, joints, dtype=x.dtype)
    for n in range(samples):
        for t in range(frames):
            compared = [
                layer.compare.weight @ layer_norm(x[n, :, t, v], layer.norm) + layer.compare.bias
                for v in range(joints)
            ]
            for h in range(heads):
                queries = [part[h * features : (h + 1) * features] for part in compared]
                keys = [
                    part[(heads + h) * features : (heads + h + 1) * features] for part in compared
                ]
                conv = layer.project[h]
                for u in range(joints):
                    scores = [
                        math.exp(float(queries[u] @ keys[v]) / math.sqrt(features))
                        for v in range(joints)
                    ]
                    mixed = sum(
                        layer.topology[h, u, v] * scores[v] / sum(scores) * x[n, :, t, v]
                        for v in range(joints)
                    )
                    out[n, :, t, u] += conv.weight[:, :, 0, 0] @ mixed + conv.bias
    residual = x if isinstance(layer.residual, nn.Identity) else layer.residual(x)
    return (naive_models.batch_norm(out, layer.bn) + residual).clamp(min=0)


@pytest.mark.parametrize("persons", [1, 2])
def test_embedding_matches_naive(persons):
    layer, clips = (
        disturbed(JointEmbedding(persons, 4, 8)),
        naive_models.random_clips(2, 3, 3, 4, persons),
    )
    with torch.no_grad():
        expected = naive_embedding(layer, clips)
        for form in (layer, layer.deployed(FULL), layer.deployed(RELEASED)):
            torch.testing.assert_close(form(clips), expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(("inside", "outside", "heads"), [(8, 8, 3), (16, 8, 2), (8, 16, 1)])
def test_graph_conv_matches_naive(inside, outside, heads, rows):
    layer, x = (
        disturbed(SelfAttentionGraphConv(heads, 4, inside, outside)),
        naive_models.random_clips(2, inside, 3, 4),
    )
    with torch.no_grad():
        expected = naive_graph_conv(layer, x)
        if rows:
            x = x.contiguous(memory_format=torch.channels_last)
        for form in (layer, layer.deployed(FULL), layer.deployed(RELEASED)):
            torch.testing.assert_close(form(x), expected, rtol=0.0, atol=1e-12)


def test_code_is_noisy_in_training_alone():
    head, x = LatentClassifier(6, 3, 0.0).double(), naive_models.random_clips(5, 6)
    with torch.no_grad():
        # exp(15) is cut to 100
        head.logvar.bias[:] = torch.tensor([-3.0, 0.0, 1.0, 2.0, 9.0, 30.0])
        hidden = (x @ head.hidden.weight.T + head.hidden.bias).clamp(min=0)
        mu = hidden @ head.mu.weight.T + head.mu.bias
        deviation = torch.exp(0.5 * (hidden @ head.logvar.weight.T + head.logvar.bias))
        assert (deviation > 100).any()
        torch.manual_seed(2)
        noise = torch.randn(5, 6, dtype=torch.float64)
        torch.manual_seed(2)
        torch.testing.assert_close(
            head.train().code(x), mu + noise * deviation.clamp(max=100.0), rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(head.eval().code(x), mu, rtol=0.0, atol=1e-12)


def naive_class_distance(z: Tensor, labels: list[int], priors: Tensor) -> float:
    differences = []
    for label in sorted(set(labels)):
        mean = torch.stack(
            [code for code, own in zip(z, labels, strict=True) if own == label]
        ).mean(dim=0)
        differences += [float(difference) ** 2 for difference in mean - priors[label]]
    return sum(differences) / len(differences)


@pytest.mark.parametrize("labels", [[0, 2, 2, 5, 0, 2], [3, 3, 3, 3, 3, 3], [0, 1, 2, 3, 4, 5]])
def test_class_distance_matches_naive(labels):
    z, priors = naive_models.random_clips(6, 4), naive_models.random_clips(7, 4, seed=6)
    found = class_distance(z, torch.tensor(labels), priors)
    assert found.item() == pytest.approx(naive_class_distance(z, labels, priors), rel=1e-12)


def test_objective_is_the_information_bottleneck():
    """lambda_2 distance to the priors + lambda_1 length of the batch's mean code + cross entropy
    with 0.1 of the label spread evenly.
    """
    network = naive_models.narrow_backbone("info_gcn", classes=5).eval()
    clips, labels = naive_models.random_clips(4, 3, 6, 25, 1), [1, 4, 1, 2]
    with torch.no_grad():
        loss, logits = network.objective(clips, torch.tensor(labels))
        code = network.head.code(network.features(clips))
        torch.testing.assert_close(logits, network(clips))
    expected = 0.0
    for row, label in zip(logits.log_softmax(dim=1), labels, strict=True):
        for k in range(5):
            expected -= float(row[k]) * (0.1 / 5 + 0.9 * (k == label)) / 4
    expected += 0.1 * naive_class_distance(code, labels, network.priors)
    expected += 1e-4 * math.sqrt(sum(float(value) ** 2 for value in code.mean(dim=0)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)  # computed in single precision


def test_objective_reaches_the_variance():
    network = naive_models.narrow_backbone("info_gcn", classes=5).train()
    torch.manual_seed(0)
    network.objective(naive_models.random_clips(4, 3, 6, 25, 1), torch.tensor([1, 4, 1, 2]))[
        0
    ].backward()
    assert network.head.logvar.weight.grad.abs().max() > 0


def built(classes=12, **model) -> InfoGCN:
    config = ModelConfig(**({"backbone": "info_gcn", "stages": (1, 1)} | model))
    return build_backbone(
        config, load_layout("ntu25"), classes=classes, persons=1, stream=StreamConfig(), seed=1
    )


def deviation(weight: Tensor) -> float:
    return weight.detach().std(correction=0).item()


def test_initial_weights():
    network = built()
    graph = network.blocks[1].graph
    assert torch.equal(graph.topology, torch.eye(25).repeat(3, 1, 1))
    assert deviation(network.data_norm.position) == pytest.approx(1.0, rel=0.05)
    assert deviation(graph.compare.weight) == pytest.approx(1.0, rel=0.05)
    assert torch.equal(graph.bn.weight, torch.full((128,), 1e-6))
    for conv in graph.project:
        assert deviation(conv.weight) == pytest.approx((2 / (128 * 64 * 3)) ** 0.5, rel=0.05)
        assert not conv.bias.any()
    assert deviation(graph.residual.conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert deviation(network.blocks[1].residual.conv.weight) == pytest.approx(
        (2 / 128) ** 0.5, rel=0.05
    )
    assert deviation(network.head.mu.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert deviation(network.head.decoder.weight) == pytest.approx((2 / 12) ** 0.5, rel=0.1)
    assert deviation(built(temporal="conv").blocks[1].temporal.conv.weight) == pytest.approx(
        (2 / 640) ** 0.5, rel=0.05
    )


@pytest.mark.parametrize("classes", [12, 200])
def test_priors_are_orthogonal_of_length_three(classes):
    """With more classes than latent dimensions the dimensions are orthogonal instead."""
    priors = built(classes).priors.double()
    products = priors @ priors.T if classes < 128 else priors.T @ priors
    torch.testing.assert_close(
        products, 9 * torch.eye(min(classes, 128), dtype=torch.float64), rtol=0.0, atol=1e-4
    )


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize(
    ("layout", "persons", "frames"), [("ntu25", 2, 7), ("ucla20", 1, 8), ("coco17", 2, 10)]
)
def test_deploy_form_with_every_temporal_module(temporal, layout, persons, frames):
    network = naive_models.narrow_backbone(
        "info_gcn", layout=layout, persons=persons, temporal=temporal, subsets=2
    ).eval()
    check_foldings(network, frames)


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_counted_equals_built_with_every_temporal_module(temporal):
    config = ModelConfig(
        backbone="info_gcn", channels=16, stages=(1, 1), temporal=temporal, subsets=2
    )
    check_counts(config, persons=2, frames=13, work=True)


def test_deploy_form_has_neither_variance_nor_normalisation():
    network = naive_models.narrow_backbone("info_gcn", temporal="conv")
    names = " ".join(deploy(network, FULL).state_dict())
    assert not any(part in names for part in ("logvar", "bn", ".norm.", "running"))
    assert "logvar" not in " ".join(deploy(network, RELEASED).state_dict())


def test_only_the_priors_are_not_in_a_released_checkpoint():
    imported = import_tensors(
        naive_networks.checkpoint("info_gcn_k_1"), "info_gcn", load_layout("ntu25")
    )
    assert imported.constructed == ("priors",)
    assert imported.unused == {}
