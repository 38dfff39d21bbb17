"""The contract refuses what would be ignored or would ship an untrained network; its derived
defaults.
"""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainables.contract.config import SelectionConfig, StreamConfig, TrainConfig, TrialConfig

DATA = {"store": "s", "protocol": "p"}


def trial(epochs: int, warmup: float, level: float = 0.8) -> TrialConfig:
    return TrialConfig.model_validate(
        {"data": DATA, "sparsity": {"level": level, "warmup": warmup}, "train": {"epochs": epochs}}
    )


@pytest.mark.parametrize(("epochs", "warmup"), [(10, 0.96), (2, 0.9), (1, 0.6)])
def test_a_sparse_trial_trains_the_kept_weights(epochs: int, warmup: float) -> None:
    said = (
        f"sparsity.warmup must leave at least one of train.epochs .* got {warmup} of {epochs},"
        f" which rounds to {epochs} epochs"
    )
    with pytest.raises(ValidationError, match=said):
        trial(epochs, warmup)
    assert trial(epochs, warmup, level=0.0).warmup_epochs == 0
    assert trial(epochs, 0.4).warmup_epochs < epochs


def test_a_level_is_learned_in_at_least_one_epoch_and_towards_one_thing() -> None:
    def learning(**sparsity: object) -> TrialConfig:
        return TrialConfig.model_validate(
            {"data": DATA, "sparsity": {"level": "learned", **sparsity}, "train": {"epochs": 3}}
        )

    assert learning(target=0.9, warmup=1).warmup_epochs == 1
    assert learning(price=0.5).sparsity.expected_level == 0.0
    for warmup in (0, 0.1):
        with pytest.raises(
            ValidationError,
            match=(
                f"sparsity.warmup must give at least one .* to learn the level in, got {warmup}"
                " of 3"
            ),
        ):
            learning(target=0.9, warmup=warmup)
    for given, said in (({}, "neither"), ({"target": 0.9, "price": 0.5}, "both")):
        with pytest.raises(
            ValidationError, match=f"level learned needs either target or price, got {said}"
        ):
            learning(**given)


@pytest.mark.parametrize(
    ("epochs", "warmup", "milestones"),
    [
        (110, 5, (90, 100)),
        (65, 5, (53, 59)),
        (30, 5, (24, 27)),
        (5, 4, (4,)),
        (3, 2, (2,)),
        (2, 1, (1,)),
        (1, 0, ()),
    ],
)
def test_defaults_follow_the_number_of_epochs(
    epochs: int, warmup: int, milestones: tuple[int, ...]
) -> None:
    config = TrainConfig(epochs=epochs)
    assert (config.warmup_epochs, config.milestones) == (warmup, milestones)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_milestones_of_a_schedule_without_steps_are_always_the_same() -> None:
    assert TrainConfig(epochs=7, schedule="cosine").milestones == (90, 100)


def test_milestones_and_warm_up_end_before_the_training() -> None:
    with pytest.raises(
        ValidationError,
        match="milestones must be less than epochs, got milestone 30, 100 and epochs=30",
    ):
        TrainConfig(epochs=30, milestones=(29, 30, 100))
    with pytest.raises(
        ValidationError,
        match="warmup_epochs must be less than epochs, got warmup_epochs=3 and epochs=3",
    ):
        TrainConfig(epochs=3, warmup_epochs=3)


@pytest.mark.parametrize("kind", ["none", "protocol"])
@pytest.mark.parametrize("setting", [{"fraction": 0.2}, {"seed": 1}])
def test_a_draw_that_is_not_made_has_no_settings(kind: str, setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=f"has no effect where kind is {kind}"):
        SelectionConfig.model_validate({"kind": kind, **setting})
    config = SelectionConfig.model_validate({"kind": kind})
    assert SelectionConfig.model_validate_json(config.model_dump_json()) == config


def test_an_orientation_needs_hops() -> None:
    with pytest.raises(ValidationError, match="has no effect at hops 0, got 'child_parent'"):
        StreamConfig(bone=True, orientation="child_parent")
    assert StreamConfig(hops=1, orientation="child_parent").hops == 1
