"""Laws every backbone of the table keeps, and what building one does and does not touch."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from tests import naive_models
from trainables.contract.config import STREAMS, ModelConfig
from trainables.contract.errors import UserError
from trainables.layouts import load_layout
from trainables.models.build import BACKBONES, build_backbone
from trainables.models.layers import ExplicitMotion

NARROW = {"channels": 8, "stages": (1, 1), "groups": 2}


def build(name="hpi_gcn_rp", *, stream="joint", seed=0, **model):
    config = ModelConfig(backbone=name, **(NARROW | model))
    return build_backbone(config, load_layout("ntu25"), classes=3, persons=1, stream=STREAMS[stream], seed=seed)


def test_table_holds_every_backbone_a_configuration_can_name():
    assert set(BACKBONES) == set(get_args(ModelConfig.model_fields["backbone"].annotation))


@pytest.mark.parametrize(("layout", "persons", "frames"), [("ntu25", 2, 7), ("ucla20", 1, 8), ("coco17", 3, 5)])
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_logits_have_one_row_per_clip_and_every_parameter_learns(name, layout, persons, frames):
    network = naive_models.narrow_backbone(name, layout=layout, persons=persons, classes=4, dropout=0.0)
    clips = naive_models.random_clips(2, 3, frames, load_layout(layout).size, persons)
    logits = network(clips)
    assert logits.shape == (2, 4)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # A bias or shift right before a BatchNorm in training mode has no effect; the padded ones act through the constant rows alone.
    assert [name for name in silent if not name.endswith("bias")] == []


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_clips_do_not_influence_each_other_in_evaluation_mode(name):
    network = naive_models.narrow_backbone(name, persons=2).eval()
    clips = naive_models.random_clips(3, 3, 6, 25, 2)
    with torch.no_grad():
        together, alone = network(clips), torch.cat([network(clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = build(name, seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    second, other = build(name, seed=5).state_dict(), build(name, seed=6).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.fc.weight"], other["head.fc.weight"])


@pytest.mark.parametrize(
    ("stream", "input_block", "motion"),
    [("joint", "auto", True), ("joint_motion", "auto", True), ("bone", "auto", False), ("bone", "emm", True), ("joint", "conv", False)],
)
def test_input_block_follows_the_stream_unless_it_is_named(stream, input_block, motion):
    assert isinstance(build(stream=stream, input_block=input_block).stem, ExplicitMotion) == motion


def test_layout_of_the_model_must_be_the_stores():
    assert build(layout="ntu25").spec.joints == 25
    with pytest.raises(UserError, match=r"model\.layout must be the store's layout 'ntu25' or 'auto', got 'ucla20'"):
        build(layout="ucla20")


def test_clips_of_another_skeleton_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"must have shape \(N, 3, T, 25, 1\), got \(2, 3, 4, 20, 1\)"):
        build()(torch.zeros(2, 3, 4, 20, 1))
