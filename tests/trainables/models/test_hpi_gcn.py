"""HPI-GCN: the released networks' logits, naive twins of its layers, initialisation, and the law of parallel adjacencies."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import naive_models
from trainables.contract.config import STREAMS, ModelConfig
from trainables.layouts import load_layout
from trainables.models.backbone import TRAINING, Backbone, NetworkSpec
from trainables.models.build import build_backbone, build_form
from trainables.models.deploy import deploy
from trainables.models.layers import ExplicitMotion, GroupedJointMixing, JointMixing, MeanClassifier, ParallelJointMixing, displacement

RELEASED = {model["name"]: model for model in naive_models.load_golden("hpi_gcn.json")["models"]}
PRINTED = {"rtol": 1e-10, "atol": 1e-10}  # logits are printed to 12 digits

RENAMES = [  # the released code's names -> ours, first match wins
    (r"^data_bn\.", "data_norm."),
    (r"^fc\.", "head.fc."),
    (r"^l1\.TCN_origin\.", "stem."),
    (r"^l(\d+)\.gcn\.(conv0|space_att\.to_v)\.", r"blocks.\1.graph.embed."),
    (r"^l(\d+)\.gcn\.space_att\.PA$", r"blocks.\1.graph.mixing.matrices"),
    (r"^l(\d+)\.gcn\.conv_bn1\.TCN_origin\.", r"blocks.\1.graph.expand."),
    (r"^l(\d+)\.gcn\.space_att\.to_out\.", r"blocks.\1.graph.expand.conv."),
    (r"^l(\d+)\.gcn\.norm\.", r"blocks.\1.graph.expand.bn."),
    (r"^l(\d+)\.gcn\.residual\.TCN_origin\.", r"blocks.\1.graph.residual."),
    (r"^l(\d+)\.tcn1\.TCN_origin\.", r"blocks.\1.temporal.origin."),
    (r"^l(\d+)\.tcn1\.TCN_1x1\.", r"blocks.\1.temporal.pointwise."),
    (r"^l(\d+)\.tcn1\.TCN_avg\.conv\.", r"blocks.\1.temporal.average.pointwise."),
    (r"^l(\d+)\.tcn1\.TCN_avg\.bn\.bn\.", r"blocks.\1.temporal.average.pad_bn."),
    (r"^l(\d+)\.tcn1\.TCN_avg\.avgbn\.", r"blocks.\1.temporal.average.bn."),
    (r"^l(\d+)\.tcn1\.TCN_1x1_kxk\.", r"blocks.\1.temporal.padded.0."),
    (r"^l(\d+)\.tcn1\.TCN_1x1_7x7\.", r"blocks.\1.temporal.padded.1."),
    (r"^l(\d+)\.bn\.", r"blocks.\1.bn."),
    (r"^l(\d+)\.residual\.TCN_origin\.", r"blocks.\1.residual."),
]
PADDED = [(".conv1.", ".pointwise."), (".bn1.bn.", ".pad_bn."), (".conv2.", ".conv."), (".bn2.", ".bn.")]


def ours(name: str) -> str:
    for pattern, replacement in RENAMES:
        renamed, hits = re.subn(pattern, replacement, name)
        if hits:
            for theirs, own in PADDED if ".padded." in renamed else []:
                renamed = renamed.replace(theirs, own)
            return re.sub(r"^blocks\.(\d+)", lambda match: f"blocks.{int(match[1]) - 2}", renamed)
    raise AssertionError(f"no name for {name}")


def filled(shape: list[int], offset: float, scale: float, seed: int) -> Tensor:
    numbers = np.random.RandomState(seed).uniform(-1, 1, size=int(np.prod(shape)))
    return torch.from_numpy(offset + scale * numbers.reshape(shape))


def released_state(entries: list[list]) -> dict[str, Tensor]:
    """Our state dict; the five input branches are one convolution and one BatchNorm in ours, in the order of concatenation."""
    state: dict[str, Tensor] = {}
    stem: dict[str, list[Tensor]] = {}
    for name, shape, *rule in entries:
        branch = re.match(r"(input_map|diff_map\d)\.(0|1)\.(.*)", name)
        if branch:
            stem.setdefault(f"stem.{'conv' if branch[2] == '0' else 'bn'}.{branch[3]}", []).append(filled(shape, *rule))
        else:
            state[ours(name)] = filled(shape, *rule)
    return state | {name: torch.cat(parts) for name, parts in stem.items()}


@cache
def released(name: str) -> tuple[Backbone, Tensor]:
    """The network and its input; dropout off, so that its training mode is a function."""
    vectors = RELEASED[name]
    config = ModelConfig(
        backbone="hpi_gcn_rp" if "_rp" in name else "hpi_gcn_op",
        kernel_size=9 if "K9" in name else 5,
        input_block="conv" if "bone" in name else "emm",
        dropout=0.0,
    )
    with torch.device("meta"):
        network = build_form(NetworkSpec(model=config, joints=25, classes=12, persons=2), TRAINING)
    state = released_state(vectors["state"])
    state |= {name: torch.zeros((), dtype=torch.int64) for name in network.state_dict() if name.endswith("num_batches_tracked")}
    network.load_state_dict(state, assign=True)
    rule = vectors["input"]
    return network, filled(rule["shape"], rule["off"], rule["scale"], rule["seed"])


def vector(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_released_logits_and_those_of_the_deploy_form(name):
    network, clips = released(name)
    expected = vector(RELEASED[name]["logits"])
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(clips), expected, **PRINTED)
        torch.testing.assert_close(deploy(network)(clips), expected, **PRINTED)


@pytest.mark.parametrize("name", sorted(name for name, vectors in RELEASED.items() if "logits_train_mode" in vectors))
def test_released_logits_in_training_mode(name):
    network, clips = released(name)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.no_grad():
        logits = network.train()(clips)
    network.load_state_dict(before)  # the statistics moved
    torch.testing.assert_close(logits, vector(RELEASED[name]["logits_train_mode"]), **PRINTED)


def random_matrices(*shape: int) -> Tensor:
    return naive_models.random_clips(*shape, seed=9)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_joint_mixing_matches_naive(groups):
    layer, x = GroupedJointMixing(groups, 5).double(), naive_models.random_clips(2, 8, 3, 5)
    layer.matrices.data.copy_(random_matrices(groups, 5, 5))
    torch.testing.assert_close(layer(x), naive_models.joint_mixing(x, layer.matrices), rtol=0.0, atol=1e-12)


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


def test_classifier_averages_frames_joints_and_persons():
    head, x = MeanClassifier(4, classes=3, persons=2, dropout=0.5).double().eval(), naive_models.random_clips(6, 4, 3, 5)
    pooled = torch.stack([(x[2 * clip].mean(dim=(1, 2)) + x[2 * clip + 1].mean(dim=(1, 2))) / 2 for clip in range(3)])
    torch.testing.assert_close(head(x), pooled @ head.fc.weight.T + head.fc.bias, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_parallel_adjacencies_train_like_their_sum_under_n_times_the_gradient(nesterov):
    """All n matrices see the same gradient, so under SGD with momentum and weight decay their sum moves as one matrix would."""
    many, one = ParallelJointMixing(5, 4).double(), JointMixing(4).double()
    many.matrices.data.copy_(random_matrices(5, 4, 4))
    one.matrix.data.copy_(many.matrices.data.sum(dim=0))
    start = one.matrix.detach().clone()
    settings = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01}
    optimizers = torch.optim.SGD(many.parameters(), **settings), torch.optim.SGD(one.parameters(), **settings)
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
    return build_backbone(config, load_layout("ntu25"), classes=8, persons=1, stream=STREAMS["joint"], seed=1)


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
    assert deviation(graph.expand.conv.weight) == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert not graph.expand.conv.bias.any()
    assert deviation(graph.residual.conv.weight) == pytest.approx((1 / 64 / 3) ** 0.5, rel=0.05)  # torch's own: U(+-1 / sqrt(fan in))


def test_only_the_temporal_half_of_a_block_is_strided():
    network = naive_models.narrow_backbone(stages=(1, 2, 1)).eval()
    x, lengths = torch.zeros(1, 8, 9, 25, dtype=torch.float64), []
    for block in network.blocks:
        x = block(x)
        lengths.append(tuple(x.shape[1:3]))
    assert lengths == [(8, 9), (16, 5), (16, 5), (32, 3)]
    strided = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and module.stride != (1, 1)]
    assert strided
    assert not any(".graph." in name for name in strided)
