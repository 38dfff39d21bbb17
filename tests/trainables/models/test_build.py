"""What building a network does and does not touch, and how the input block is decided."""

from __future__ import annotations

import pytest
import torch

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import STREAMS, ModelConfig
from trainables.contract.errors import UserError
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.models.layers import ExplicitMotion


def build(name="hpi_gcn_rp", *, stream="joint", seed=0, **model):
    config = ModelConfig(
        **({"backbone": name, "channels": 8, "stages": (1, 1), "groups": 2} | model)
    )
    return build_backbone(
        config, load_layout("ntu25"), classes=3, persons=1, stream=STREAMS[stream], seed=seed
    )


@pytest.mark.parametrize("name", BACKBONES.own)
def test_every_name_of_the_table_is_built_from_its_card(name):
    network = build(name)
    assert network.spec.model.card is BACKBONES.find(name)
    assert type(network) is BACKBONES.find(name).load()


@pytest.mark.parametrize(
    ("stream", "input_block", "motion"),
    [
        ("joint", "auto", True),
        ("joint_motion", "auto", True),
        ("bone", "auto", False),
        ("bone", "emm", True),
        ("joint", "conv", False),
    ],
)
def test_input_block_follows_the_stream_unless_it_is_named(stream, input_block, motion):
    assert isinstance(build(stream=stream, input_block=input_block).stem, ExplicitMotion) == motion


def test_layout_of_the_model_must_be_the_stores():
    assert build(layout="ntu25").spec.joints == 25
    with pytest.raises(
        UserError, match=r"model\.layout must be the store's layout 'ntu25' or 'auto', got 'ucla20'"
    ):
        build(layout="ucla20")


def test_clips_of_another_skeleton_are_refused_with_both_shapes():
    with pytest.raises(
        ValueError, match=r"must have shape \(N, 3, T, 25, 1\), got \(2, 3, 4, 20, 1\)"
    ):
        build()(torch.zeros(2, 3, 4, 20, 1))


def test_architecture_needs_a_decided_input_block():
    spec = build().spec
    with pytest.raises(ValueError, match=r"input_block must be decided"):
        type(spec)(
            model=spec.model.model_copy(update={"input_block": "auto"}),
            parents=spec.parents,
            classes=5,
            persons=1,
        )
