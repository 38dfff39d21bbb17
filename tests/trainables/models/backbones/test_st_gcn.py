"""ST-GCN and ST-GCN++: a naive twin of the graph convolution, initialisation, sizes of the released
networks, all temporal modules.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import naive_models, naive_networks
from trainables.contract.config import STREAMS, ModelConfig
from trainables.contract.model import Temporal
from trainables.cost.counting.count import count
from trainables.deploy.form import deploy
from trainables.foreign.checkpoint import import_tensors
from trainables.graphs import graph_parents, spatial, stgcn_spatial
from trainables.layouts import load_layout
from trainables.models.backbones.st_gcn import SubsetGraphConv, SubsetMixing
from trainables.models.build import Backbone, build_backbone
from trainables.models.layers import residual_path
from trainables.reparam.fusible import FULL, RELEASED, deployed

TEMPORALS: tuple[Temporal, ...] = ("conv", "rep_tcn", "ms_tcn", "ms_tcn6", "dg_ms_tcn")


def built(name: str = "st_gcn", layout: str = "ntu25", **model) -> Backbone:
    config = ModelConfig(**({"backbone": name, "stages": (1, 1)} | model))
    return build_backbone(
        config, load_layout(layout), classes=8, persons=1, stream=STREAMS["joint"], seed=1
    )


def naive_graph_conv(module: SubsetGraphConv, x: Tensor) -> Tensor:
    """As the paper writes it: convolve every subset, mix its joints, add; then BatchNorm, residual,
    ReLU.
    """
    adjacency = (
        module.mixing.matrices
        if module.mixing.factors is None
        else module.mixing.matrices * module.mixing.factors
    )
    subsets, joints, _ = adjacency.shape
    outside = module.conv.weight.shape[0] // subsets
    out = torch.zeros(x.shape[0], outside, x.shape[2], joints, dtype=x.dtype)
    for k in range(subsets):
        for c in range(outside):
            row = k * outside + c
            # (N, T, V)
            filtered = (module.conv.weight[row, :, 0, 0, None, None] * x).sum(
                dim=1
            ) + module.conv.bias[row]
            for v in range(joints):
                for w in range(joints):
                    out[:, c, :, w] += filtered[:, :, v] * adjacency[k, v, w]
    out = naive_models.batch_norm(out, module.bn)
    if isinstance(module.residual, nn.Identity):
        out = out + x
    elif module.residual is not None:
        conv = module.residual.conv
        through = (
            torch.einsum("oi,nitv->notv", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]
        )
        out = out + naive_models.batch_norm(through, module.residual.bn)
    return out.clamp(min=0)


@pytest.mark.parametrize("adjacency", ["learned", "scaled", "fixed"])
@pytest.mark.parametrize(
    ("inside", "outside", "residual"), [(3, 4, False), (3, 4, True), (4, 4, True)]
)
def test_graph_convolution_matches_naive_in_every_form(adjacency, inside, outside, residual):
    torch.manual_seed(6)
    mixing = SubsetMixing(torch.randn(2, 5, 5), adjacency)
    module = (
        SubsetGraphConv(
            mixing, inside, outside, residual_path(inside, outside, 1) if residual else None
        )
        .double()
        .eval()
    )
    naive_models.randomise_batch_norm(module, torch.Generator().manual_seed(3))
    if mixing.factors is not None:
        mixing.factors.data.normal_()
    x = naive_models.random_clips(2, inside, 3, 5)
    with torch.no_grad():
        expected = naive_graph_conv(module, x)
        for form in (module, deployed(module, RELEASED), deployed(module, FULL)):
            torch.testing.assert_close(form(x), expected, rtol=0.0, atol=1e-12)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in deployed(module, FULL).modules())


def test_graph_convolution_has_the_gradients_of_the_naive_one():
    """The convolution's weight is rearranged on the way: each entry must get its own gradient."""
    torch.manual_seed(6)
    module = (
        SubsetGraphConv(SubsetMixing(torch.randn(2, 4, 4), "scaled"), 3, 5, None).double().eval()
    )
    x, toward = naive_models.random_clips(2, 3, 3, 4), naive_models.random_clips(2, 5, 3, 4, seed=8)
    gradients = [
        torch.autograd.grad((form(x) * toward).sum(), list(module.parameters()))
        for form in (module, lambda x: naive_graph_conv(module, x))
    ]
    assert all(gradient.any() for gradient in gradients[0])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("temporal", TEMPORALS)
@pytest.mark.parametrize(
    ("name", "layout", "persons", "frames", "changes"),
    [
        ("st_gcn", "ntu25", 1, 8, {"subsets": 2}),
        ("st_gcn", "ucla20", 2, 7, {"adjacency": "scaled"}),
        ("st_gcn", "coco17", 1, 7, {"adjacency": "fixed", "graph": "spatial"}),
        ("st_gcn_pp", "ntu25", 2, 7, {}),
        ("st_gcn_pp", "coco17", 1, 8, {"adjacency": "scaled", "graph": "stgcn_spatial"}),
    ],
)
def test_deploy_form_gives_the_same_logits(temporal, name, layout, persons, frames, changes):
    network = naive_models.narrow_backbone(
        name, layout=layout, persons=persons, temporal=temporal, **changes
    ).eval()
    clips = naive_models.random_clips(2, 3, frames, network.spec.joints, persons)
    with torch.no_grad():
        expected = network(clips)
        assert expected.abs().max() > 0.1
        for folding in (FULL, RELEASED):
            logits = deploy(network, folding, frames=frames)(clips)
            assert (logits - expected).abs().max() <= 1e-9 * max(1.0, expected.abs().max())
    form = deploy(network, FULL)
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in form.modules())
    config = network.spec.model
    counted = count(
        config,
        load_layout(layout),
        classes=5,
        persons=persons,
        frames=frames,
        stream=STREAMS["joint"],
    )
    assert counted.training.params == sum(parameter.numel() for parameter in network.parameters())
    assert counted.deploy.params == sum(parameter.numel() for parameter in form.parameters())


def test_only_the_first_block_is_without_a_residual_and_only_pp_has_one_inside():
    for name, inside in (
        ("st_gcn", [type(None)] * 3),
        ("st_gcn_pp", ["ConvBN", "ConvBN", "Identity"]),
    ):
        blocks = built(name, channels=8, stages=(1, 2)).blocks
        assert [type(block.residual).__name__ for block in blocks] == [
            "NoneType",
            "ConvBN",
            "Identity",
        ]
        found = [type(block.graph.residual) for block in blocks]
        assert found == inside or [kind.__name__ for kind in found] == inside


def test_data_norm_takes_persons_as_samples():
    network = naive_models.narrow_backbone("st_gcn", persons=2)
    assert network.data_norm.num_features == 75


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("st_gcn_pp", {}, spatial),
        ("st_gcn", {"graph": "spatial"}, spatial),
        ("st_gcn", {"adjacency": "scaled"}, stgcn_spatial),
        ("st_gcn", {"adjacency": "fixed"}, stgcn_spatial),
    ],
)
@pytest.mark.parametrize("layout", ["ntu25", "coco17"])
def test_adjacency_starts_at_the_graph(name, changes, expected, layout):
    network = built(name, layout, channels=8, **changes)
    graph = expected(graph_parents(network.spec.model, load_layout(layout)))
    adjacency = network.spec.model.adjacency
    for block in network.blocks:
        mixing = block.graph.mixing
        np.testing.assert_array_equal(mixing.adjacency().detach().numpy(), graph.astype(np.float32))
        assert isinstance(mixing.matrices, nn.Parameter) == (adjacency == "learned")
        assert (mixing.factors is not None) == (adjacency == "scaled")
        assert "matrices" in mixing.state_dict()
    first, second = (block.graph.mixing.matrices for block in network.blocks)
    assert first.data_ptr() != second.data_ptr()


def test_random_adjacency_and_other_initial_weights():
    network = built("st_gcn", channels=64, subsets=8, dropout=0.0)
    first, second = (block.graph.mixing.matrices.detach() for block in network.blocks)
    assert first.shape == (8, 25, 25)
    assert not torch.equal(first, second)
    for matrices in (first, second):
        assert matrices.mean().item() == pytest.approx(0.04, abs=0.002)
        assert matrices.std().item() == pytest.approx(0.02, rel=0.05)
    block = network.blocks[1]
    for conv, fan_in in (
        (block.graph.conv, 64),
        (block.temporal.conv, 128 * 9),
        (block.residual.conv, 64),
    ):
        for tensor in (conv.weight, conv.bias):
            assert 0.9 * fan_in**-0.5 < tensor.abs().max() <= fan_in**-0.5
    assert network.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not network.head.fc.bias.any()
    assert torch.equal(block.graph.bn.weight, torch.ones(128))


@pytest.mark.parametrize(
    ("name", "changes", "classes", "frames", "params", "gmacs"),
    [  # measured on the released code, 25 joints, 2 persons
        ("st_gcn", {}, 60, 64, 3_098_832, 3.647),
        ("st_gcn", {"adjacency": "scaled"}, 60, 100, 3_098_832, 5.698),
        ("st_gcn", {}, 120, 64, 3_114_252, 3.647),
        ("st_gcn_pp", {}, 60, 64, 1_403_144, 1.872),
        ("st_gcn_pp", {}, 120, 64, 1_418_564, 1.872),
    ],
)
def test_published_sizes_and_work(name, changes, classes, frames, params, gmacs):
    config, layout = ModelConfig(backbone=name, **changes), load_layout("ntu25")
    counted = count(
        config, layout, classes=classes, persons=2, frames=frames, stream=STREAMS["joint"]
    )
    assert counted.released.params == counted.training.params == params
    # 3.64648 stands as 3.647 in the measurements
    assert counted.released.gmacs == pytest.approx(gmacs, abs=6e-4)
    assert counted.deploy.gmacs < counted.released.gmacs
    with torch.device("meta"):
        network = build_backbone(
            config, layout, classes=classes, persons=2, stream=STREAMS["joint"], seed=0
        )
    assert sum(parameter.numel() for parameter in network.parameters()) == params


def test_published_maskable_weights_of_each_block():
    counted = count(
        ModelConfig(backbone="st_gcn"),
        load_layout("ntu25"),
        classes=60,
        persons=2,
        frames=64,
        stream=STREAMS["joint"],
    )
    assert [sum(block) for block in counted.maskable] == [
        37_440,
        *[49_152] * 3,
        180_224,
        *[196_608] * 2,
        720_896,
        *[786_432] * 2,
    ]
    assert counted.maskable_params == 3_052_096
    assert sum(map(len, counted.maskable)) == 22


def test_import_takes_the_fixed_graph_from_the_checkpoint_and_not_the_shared_one():
    theirs = naive_networks.checkpoint("st_gcn_pyskl") | {
        "backbone.A": torch.ones(3, 25, 25, dtype=torch.float64)
    }
    imported = import_tensors(
        theirs, "st_gcn", load_layout("ntu25"), options={"adjacency": "scaled"}
    )
    assert list(imported.unused) == ["backbone.A"]
    mixing = imported.network.blocks[4].graph.mixing
    assert torch.equal(mixing.matrices, theirs["backbone.gcn.4.gcn.A"])
    assert torch.equal(mixing.factors, theirs["backbone.gcn.4.gcn.PA"])
    assert imported.constructed == ()
