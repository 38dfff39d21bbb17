"""Counted costs equal the released code's figures and the built modules, for any width, depth, layout and length."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.contract.config import STREAMS, ModelConfig
from trainables.counting import COUNTERS, count
from trainables.layouts import load_layout
from trainables.models.backbone import DEPLOY, TRAINING, NetworkSpec
from trainables.models.build import BACKBONES, build_form
from trainables.models.layers import GroupedJointMixing, JointMixing, ParallelJointMixing

RP, OP = "hpi_gcn_rp", "hpi_gcn_op"


def network(config, form, *, stream, layout="ntu25", classes=120, persons=2):
    """Without memory: only shapes are needed."""
    model = config.model_copy(update={"input_block": config.input_block_for(STREAMS[stream])})
    spec = NetworkSpec(model=model, joints=load_layout(layout).size, classes=classes, persons=persons)
    with torch.device("meta"):
        return build_form(spec, form).eval()


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def adjacency_parameters(module):
    mixings = (JointMixing, ParallelJointMixing, GroupedJointMixing)
    return sum(parameters(part) for part in module.modules() if isinstance(part, mixings))


def measured_gmacs(module, frames):
    clip = torch.empty(1, 3, frames, module.spec.joints, module.spec.persons, device="meta")
    with FlopCounterMode(display=False) as counter:
        module(clip)
    operations = counter.get_flop_counts()["Global"]
    leaf = sum(number for operation, number in operations.items() if str(operation) in ("aten.convolution", "aten.addmm"))
    return sum(operations.values()) / 2e9, leaf / 2e9


@pytest.mark.parametrize(
    ("backbone", "adjacencies", "kernel_size", "stream", "train", "shipped", "leaf"),
    [  # measured on the released code, 120 classes, 25 joints, 2 persons; its frozen, unused matrices left out
        (RP, 1, 5, "joint", 3_911_581, 1_830_301, 1_824_676),
        (RP, 3, 5, "joint", 3_922_831, 1_830_301, 1_824_676),
        (RP, 5, 5, "joint", 3_934_081, 1_830_301, 1_824_676),
        (RP, 5, 9, "joint", 7_036_033, 2_862_493, None),
        (OP, 5, 5, "joint", 3_952_300, 1_872_364, 1_827_364),
        (OP, 5, 9, "joint", 7_054_252, 2_904_556, 2_859_556),
        (RP, 5, 5, "bone", 3_934_017, 1_830_173, None),
        (OP, 5, 5, "bone", 3_952_236, 1_872_236, None),
        (OP, 5, 9, "bone", 7_054_188, 2_904_428, None),
    ],
)
@pytest.mark.parametrize("classes", [120, 60])
def test_published_sizes(backbone, adjacencies, kernel_size, stream, train, shipped, leaf, classes):
    config = ModelConfig(backbone=backbone, adjacencies=adjacencies, kernel_size=kernel_size)
    fewer = (120 - classes) * 257
    counted = count(config, load_layout("ntu25"), classes=classes, persons=2, frames=64, stream=STREAMS[stream])
    assert (counted.params, counted.deploy_params) == (train - fewer, shipped - fewer)
    assert parameters(network(config, TRAINING, stream=stream, classes=classes)) == train - fewer
    assert parameters(network(config, DEPLOY, stream=stream, classes=classes)) == shipped - fewer
    if leaf is not None:
        assert counted.deploy_leaf_params == leaf - fewer


@pytest.mark.parametrize(
    ("backbone", "kernel_size", "train", "shipped", "leaf"),
    [(RP, 5, 4.411, 2.052, 2.006), (RP, 9, 7.793, 3.153, None), (OP, 5, 4.411, 2.052, 2.006), (OP, 9, 7.793, 3.153, 3.107)],
)
def test_published_work(backbone, kernel_size, train, shipped, leaf):
    """RP's training form as released makes one product per adjacency; ours makes one in all, as with n = 1."""
    config = ModelConfig(backbone=backbone, kernel_size=kernel_size)
    counted = count(config, load_layout("ntu25"), classes=120, persons=2, frames=64, stream=STREAMS["joint"])
    assert (round(counted.gmacs, 3), round(counted.deploy_gmacs, 3)) == (train, shipped)
    assert leaf is None or round(counted.deploy_leaf_gmacs, 3) == leaf


@pytest.mark.parametrize("stream", ["joint", "bone"])
@pytest.mark.parametrize(
    ("layout", "persons", "frames", "classes", "model"),
    [
        ("ntu25", 2, 64, 120, {}),
        ("ucla20", 1, 52, 10, {"kernel_size": 9, "channels": 32}),
        ("coco17", 3, 33, 7, {"channels": 16, "stages": (2, 1), "adjacencies": 2, "groups": 4}),
        ("openpose18", 1, 5, 3, {"channels": 8, "stages": (1, 1, 2, 1), "groups": 2}),
        ("msr20", 1, 9, 20, {"channels": 24, "stages": (1,), "groups": 3, "kernel_size": 9}),
    ],
)
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_counted_equals_built(backbone, layout, persons, frames, classes, model, stream):
    config = ModelConfig(backbone=backbone, **model)
    counted = count(config, load_layout(layout), classes=classes, persons=persons, frames=frames, stream=STREAMS[stream])
    training, deployed = (network(config, form, stream=stream, layout=layout, classes=classes, persons=persons) for form in (TRAINING, DEPLOY))
    assert counted.params == parameters(training)
    sizes = [sorted(part.weight.numel() for part in block.modules() if isinstance(part, nn.Conv2d)) for block in training.blocks]
    assert [sorted(block) for block in counted.maskable] == sizes
    assert counted.maskable_params == sum(map(sum, sizes))
    assert counted.deploy_params == parameters(deployed)
    assert counted.deploy_leaf_params == parameters(deployed) - adjacency_parameters(deployed)
    assert counted.gmacs == pytest.approx(measured_gmacs(training, frames)[0], rel=1e-12)
    gmacs, leaf_gmacs = measured_gmacs(deployed, frames)
    assert counted.deploy_gmacs == pytest.approx(gmacs, rel=1e-12)
    assert counted.deploy_leaf_gmacs == pytest.approx(leaf_gmacs, rel=1e-12)


def test_every_backbone_is_counted():
    assert set(COUNTERS) == set(BACKBONES)


def test_counting_loads_no_torch():
    code = "import sys, trainables.counting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
