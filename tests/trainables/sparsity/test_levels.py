"""Masks of networks of several levels: nested exactly, as many zeros as asked, the same after any
interruption.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.naive_models import random_clips
from tests.naive_multilevel import narrow_levels
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import SparsityConfig, StreamConfig, TrainConfig
from trainables.contract.errors import Interrupted
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.models.build_levels import build_multi_level
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.levels import attach_levels
from trainables.sparsity.masks import Masked, mask_of, removed_count
from trainables.training.loop import Course, Fit, Outside

LEVELS = (0.5, 0.8, 0.95)
TRAIN = TrainConfig(
    epochs=4, lr=0.02, warmup_epochs=1, milestones=(3,), clip_norm=1.0, precision="fp32"
)


class Clips:
    """Three steps of fixed random clips, dealt again from any of them."""

    def __init__(self, joints: int = 17) -> None:
        self.x = random_clips(3, 6, 3, 8, joints, 1).float()
        self.y = torch.arange(18).view(3, 6) % 5

    def epoch(self, epoch, first_step=0):
        for step in range(first_step, 3):
            yield SimpleNamespace(
                persons=None, x=self.x[step], y=self.y[step], index=torch.arange(6)
            )


def built(
    network: str, backbone: str = "st_gcn", levels=LEVELS, warmup_epochs: int = 2, **settings
):
    """(fresh network in single precision, its schedule)."""
    spec = narrow_levels(network, backbone, levels).spec
    config = SparsityConfig(network=network, levels=levels, **settings)
    model = build_multi_level(spec, seed=3, sparsity=config)
    return model, attach_levels(
        model, config, warmup_epochs, seed=9, clips=torch.ones(1, 3, 8, spec.member.joints, 1)
    )


def fit_of(model, schedule, **changes):
    config = TRAIN.model_copy(update=changes)
    return Fit(
        model,
        config,
        seed=3,
        objective=model.objective,
        course=Course(config.epochs, first_kept_epoch=2),
        schedule=schedule,
    )


def outside(folder, stop_after=None):
    count = iter(range(10**6))
    return Outside(
        folder / "last.pt",
        folder / "best.pt",
        report=lambda _: None,
        should_stop=lambda: next(count) == stop_after,
    )


def masks_of(blocks) -> list[torch.Tensor]:
    """Of convolutions, by layer."""
    layers = [
        module for block in blocks for module in block.modules() if isinstance(module, nn.Conv2d)
    ]
    return [mask for layer in layers if (mask := mask_of(layer)) is not None]


def raw_weights(blocks) -> list[nn.Parameter]:
    convs = (
        module for block in blocks for module in block.modules() if isinstance(module, nn.Conv2d)
    )
    return [conv.parametrizations.weight.original for conv in convs]


def expected_removed(blocks, level) -> int:
    return sum(
        removed_count(sum(w.numel() for w in raw_weights([block])), level) for block in blocks
    )


@pytest.mark.parametrize(
    ("backbone", "scope"), [*((name, "block") for name in BACKBONES.own), ("ctr_gcn", "global")]
)
def test_nested_masks_are_nested_and_remove_what_was_asked(backbone, scope):
    model, _ = built("nested", backbone, scope=scope, levels=(0.95, 0.5, 0.8))  # in any order
    levels = [masks_of(blocks) for blocks in model.level_blocks]
    for lower, higher in pairwise(levels):
        assert all(((low - high) >= 0).all() for low, high in zip(lower, higher, strict=True))
    for masks, level, blocks in zip(levels, LEVELS, model.level_blocks, strict=True):
        removed = sum(int((mask == 0).sum()) for mask in masks)
        total = sum(mask.numel() for mask in masks)
        assert removed == (
            expected_removed(blocks, level) if scope == "block" else removed_count(total, level)
        )


def test_nested_masks_by_first_magnitude_keep_the_largest_weights():
    model, _ = built("nested", generator="magnitude_at_init", scope="global")
    weights = torch.cat([weight.detach().flatten().abs() for weight in raw_weights(model.blocks)])
    for blocks in model.level_blocks:
        mask = torch.cat([mask.flatten() for mask in masks_of(blocks)])
        assert weights[mask == 1].min() > weights[mask == 0].max()


@pytest.mark.parametrize("network", ["experts", "mixture"])
def test_experts_have_masks_of_their_own_of_the_asked_size(network):
    model, _ = built(network)
    for blocks, level in zip(model.level_blocks, LEVELS, strict=True):
        assert sum(int((mask == 0).sum()) for mask in masks_of(blocks)) == expected_removed(
            blocks, level
        )
    kept = [
        torch.cat([mask.flatten() for mask in masks_of(blocks)]) for blocks in model.level_blocks
    ]
    assert ((kept[0] == 0) & (kept[1] == 1)).any()  # not nested
    assert network == "experts" or masks_of([model.gate]) == []


@pytest.mark.parametrize("network", ["experts", "nested", "mixture"])
def test_masks_depend_on_the_seed_alone(network):
    one, same = (
        torch.cat([mask.flatten() for mask in masks_of([built(network)[0]])]) for _ in range(2)
    )
    torch.rand(3)
    assert torch.equal(one, same)


@pytest.mark.parametrize("network", ["experts", "nested", "mixture"])
def test_removed_weights_are_zero_and_stay_zero(network, tmp_path):
    """After training: exactly zero, without gradient, without momentum, as many as asked."""
    model, schedule = built(network)
    fit = fit_of(model, schedule)
    fit.run(Clips(), None, outside(tmp_path))
    lowest = model.level_blocks[:1] if network == "nested" else model.level_blocks
    for blocks, level in zip(lowest, LEVELS, strict=False):
        removed = 0
        for weight, mask in zip(raw_weights(blocks), masks_of(blocks), strict=True):
            gone = mask == 0
            removed += int(gone.sum())
            assert not weight[gone].any()
            momentum = fit.optimizer.state[weight].get("momentum_buffer")
            assert momentum is None or not momentum[gone].any()
            assert weight.grad is None or not weight.grad[gone].any()
            assert weight[~gone].all()
        assert removed == expected_removed(blocks, level)


@pytest.mark.parametrize(
    ("network", "stop_after"),
    [
        ("nested", 2),
        pytest.param("nested", 5, marks=pytest.mark.full),
        ("nested", 6),
        pytest.param("nested", 10, marks=pytest.mark.full),
        ("experts", 6),
        ("mixture", 6),
    ],
)
def test_interrupted_and_continued_equals_uninterrupted(network, stop_after, tmp_path):
    """Step 6 is the first under the lowest level's mask."""
    whole, parts, fresh = (built(network) for _ in range(3))
    fit_of(*whole).run(Clips(), Clips(), outside(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        fit_of(*parts).run(Clips(), Clips(), outside(tmp_path / "parts", stop_after))
    fit_of(*fresh).run(Clips(), Clips(), outside(tmp_path / "parts"))
    for (name, a), (other, b) in zip(
        whole[0].state_dict().items(), fresh[0].state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(a, b), name


def test_a_run_that_was_complete_is_scored_at_its_levels(tmp_path):
    """Killed between the last epoch and the result: nothing is trained again, masks must hold all
    the same.
    """
    trained, again = built("nested"), built("nested")
    fit_of(*trained).run(Clips(), None, outside(tmp_path))
    fit_of(*again).run(Clips(), None, outside(tmp_path))
    clips = Clips().x[0]
    with torch.no_grad():
        assert torch.equal(again[0].eval()(clips), trained[0].eval()(clips))


CHANGES = {"epochs": 2, "milestones": (1,)}


@pytest.mark.parametrize("network", ["experts", "mixture"])
def test_without_penalty_the_warm_up_is_dense_training_bit_for_bit(network, tmp_path):
    model, schedule = built(network, penalty="none", warmup_epochs=2)
    fit_of(model, schedule, **CHANGES).run(Clips(), None, outside(tmp_path / "masked"))
    plain = build_multi_level(model.spec, seed=3)
    fit_of(plain, None, **CHANGES).run(Clips(), None, outside(tmp_path / "plain"))
    masked = {
        name.replace("parametrizations.weight.original", "weight"): tensor
        for name, tensor in model.state_dict().items()
    }
    assert all(torch.equal(tensor, masked[name]) for name, tensor in plain.state_dict().items())


def test_nested_level_zero_without_penalty_is_dense_training_bit_for_bit(tmp_path):
    """With the lowest level trained alone, as a single network without any masks."""
    model, schedule = built("nested", levels=(0.0, 0.9), penalty="none")
    single = build_backbone(
        model.spec.model, load_layout("coco17"), stream=StreamConfig(), seed=3, classes=5, persons=1
    )
    schedule.begin_step = lambda epoch, step: setattr(model, "trained", (0,))
    model.objective = lambda clips, labels: model.members[0].objective(clips, labels)
    fit_of(model, schedule, **CHANGES).run(Clips(), None, outside(tmp_path / "nested"))
    fit_of(single, None, **CHANGES).run(Clips(), None, outside(tmp_path / "single"))
    with torch.no_grad():
        assert torch.equal(model.members[0].eval()(Clips().x[0]), single.eval()(Clips().x[0]))


def test_a_nested_level_is_a_single_network_with_that_mask_and_that_normalisation(tmp_path):
    model, schedule = built("nested")
    fit_of(model, schedule).run(Clips(), None, outside(tmp_path))
    for level, name in zip(model.members, model.level_names, strict=True):
        sizes = {"classes": 5, "persons": 1}
        single = build_backbone(
            model.spec.model, load_layout("coco17"), stream=StreamConfig(), seed=77, **sizes
        )
        state = {
            key.replace("parametrizations.weight.original", "weight"): value
            for key, value in level.state_dict().items()
        }
        single.load_state_dict(
            {key: value for key, value in state.items() if not key.endswith(".mask")}
        )
        for place, module in level.named_modules():
            if (
                isinstance(module, nn.Conv2d | nn.BatchNorm2d)
                and (mask := mask_of(module)) is not None
            ):
                single.get_submodule(place).weight.data *= mask
        clips = Clips().x[0].double()
        with torch.no_grad():
            own = copy.deepcopy(model).double().eval().levels()[name](clips)
            torch.testing.assert_close(own, single.double().eval()(clips), rtol=1e-12, atol=1e-12)


def test_every_level_is_trained_in_turn_beside_the_lowest():
    model, schedule = built("nested", levels=(0.5, 0.6, 0.7, 0.8), warmup_epochs=1)
    seen = []
    for epoch in range(3):
        for step in range(2):  # fewer steps than levels
            schedule.begin_step(epoch, step)
            seen.append(model.trained)
    assert {levels[0] for levels in seen} == {0}
    assert {levels[1] for levels in seen} == {1, 2, 3}


def test_only_the_lowest_level_is_dense_during_the_warm_up():
    model, schedule = built("nested", warmup_epochs=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch, dense in ((0, True), (1, False)):
        schedule.begin_epoch(epoch, optimizer)
        active = [
            {module.active for module in level.modules() if isinstance(module, Masked)}
            for level in model.members
        ]
        assert active == [{not dense}, {True}, {True}]


def test_the_penalty_of_nested_levels_is_that_of_the_lowest():
    model, schedule = built("nested", penalty_weight=1.0)
    schedule.penalty(1).backward()
    for weight, mask in zip(
        raw_weights(model.blocks), masks_of(model.level_blocks[0]), strict=True
    ):
        assert not weight.grad[mask == 1].any()
        assert weight.grad[mask == 0].all()
    assert schedule.penalty(2) is None


def test_the_penalty_of_experts_is_that_of_each_added_up():
    model, schedule = built("experts", penalty_weight=1.0)
    alone = [
        SparseGenerator(blocks, SparsityConfig(level=level, penalty_weight=1.0), 2, seed=0)
        for blocks, level in zip(built_blocks("experts"), LEVELS, strict=True)
    ]
    for generator, blocks in zip(alone, model.level_blocks, strict=True):
        convs = [
            [module for module in block.modules() if isinstance(module, nn.Conv2d)]
            for block in blocks
        ]
        generator._masked = [[conv.parametrizations.weight[0] for conv in row] for row in convs]
    expected = sum(generator.penalty(1) for generator in alone)
    assert schedule.penalty(1).item() == pytest.approx(expected.item(), rel=1e-6)  # float32
    assert schedule.penalty(2) is None
    schedule.penalty(1).backward()
    for blocks in model.level_blocks:
        for weight, mask in zip(raw_weights(blocks), masks_of(blocks), strict=True):
            assert not weight.grad[mask == 1].any()
            assert weight.grad[mask == 0].all()


def built_blocks(network):
    """Blocks of an equal network without masks."""
    return build_multi_level(built(network)[0].spec, seed=3).level_blocks
