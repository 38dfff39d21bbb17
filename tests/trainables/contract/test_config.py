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


def test_defaults_never_change() -> None:
    """They take no part in a trial's name: another default would give an old trial another
    meaning.
    """
    config = TrialConfig.model_validate({"data": DATA})
    assert config.model_dump(mode="json", include={"data", "train", "seed"}) == {
        "data": {
            **DATA,
            "selection": {"kind": "subject", "fraction": 0.1, "seed": 7},
            "stream": "joint",
            "frames": 64,
            "pipeline": "auto",
            "rotation": None,
            "align_spine": None,
            "align_persons": False,
            "views": None,
            "repeat": 1,
            "residence": "auto",
        },
        "train": {
            "epochs": 110,
            "batch_size": 128,
            "eval_batch_size": 256,
            "optimizer": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 4e-4,
            "schedule": "step",
            "warmup_epochs": 5,
            "milestones": [90, 100],
            "lr_decay": 0.1,
            "clip_norm": None,
            "precision": "auto",
            "keep": "best",
            "fast": "auto",
            "sparse_kernels": "auto",
        },
        "seed": 0,
    }
    assert len(config.digest()) == 8


@pytest.mark.parametrize(
    ("place", "fits", "does_not"),
    [
        ("data.frames", 2, 1),
        ("data.frames", 10_000, 10_001),
        ("data.views", 1, 0),
        ("data.views", 1000, 1001),
        ("data.repeat", 1, 0),
        ("data.repeat", 10_000, 10_001),
        ("data.rotation", 0.0, -0.1),
        ("data.selection.fraction", 0.99, 1.0),
        ("data.selection.fraction", 0.01, 0.0),
        ("data.selection.seed", 0, -1),
        ("train.epochs", 1, 0),
        ("train.epochs", 100_000, 100_001),
        ("train.batch_size", 1, 0),
        ("train.batch_size", 100_000, 100_001),
        ("train.eval_batch_size", 1, 0),
        ("train.eval_batch_size", 100_000, 100_001),
        ("train.lr", 1e-9, 0.0),
        ("train.momentum", 0.99, 1.0),
        ("train.momentum", 0.01, -0.1),
        ("train.weight_decay", 0.0, -1e-9),
        ("train.warmup_epochs", 0, -1),
        ("train.milestones", [1], [0]),
        ("train.lr_decay", 1.0, 1.1),
        ("train.lr_decay", 0.01, 0.0),
        ("train.clip_norm", 0.01, 0.0),
        ("seed", 0, -1),
    ],
)
def test_numbers_have_bounds(place: str, fits: object, does_not: object) -> None:
    def config(value: object) -> TrialConfig:
        *sections, name = place.split(".")
        content: dict[str, object] = {"data": dict(DATA)}
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})  # type: ignore[assignment]
        inner[name] = value
        return TrialConfig.model_validate(content)

    config(fits)
    with pytest.raises(ValidationError):
        config(does_not)


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        ("bone_motion", "bone_motion"),
        ({"bone": True}, "bone"),
        ({"bone": False, "motion": True}, "joint_motion"),
        ({"hops": 5, "orientation": "parent_children"}, "joint_hop5_parent_children"),
        (
            {"hops": 6, "orientation": "infogcn", "bone": True, "motion": True},
            "bone_hop6_infogcn_motion",
        ),
    ],
)
def test_streams_have_short_names(stream: object, name: str) -> None:
    config = TrialConfig.model_validate({"data": {**DATA, "stream": stream}})
    assert config.data.stream_name == name


def test_a_stream_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"must be one of joint, bone, .* got 'bones'"):
        TrialConfig.model_validate({"data": {**DATA, "stream": "bones"}})


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValidationError, match=r"nesterov needs momentum > 0, got momentum=0\.0"):
        TrainConfig(momentum=0.0)
    assert TrainConfig(momentum=0.0, nesterov=False).momentum == 0.0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"temporal": "rep_tcn"}, None),
        ({"temporal": "conv"}, "branches needs model.temporal rep_tcn, .* got conv"),
        (
            {"temporal": "rep_tcn", "branches": ["pointwise", "average"]},
            r"a branch whose kernel can have any mask .* branches=\['pointwise', 'average'\]",
        ),
        ({"temporal": "rep_tcn", "branches": ["pointwise"]}, None),
        ({"temporal": "rep_tcn", "branches": ["pointwise", "average", 5]}, None),
    ],
)
def test_masks_are_shared_by_branches_that_can_have_them(
    model: dict[str, object], message: str | None
) -> None:
    sparsity = {"level": 0.8, "sharing": "branches", "generator": "magnitude_at_init"}
    content = {"data": DATA, "model": model, "sparsity": sparsity}
    if message is None:
        TrialConfig.model_validate(content)
    else:
        with pytest.raises(ValidationError, match=message):
            TrialConfig.model_validate(content)


def test_the_epoch_to_rewind_to_is_before_the_last() -> None:
    def config(epoch: int) -> TrialConfig:
        sparsity = {"level": 0.8, "generator": "rewinding", "rewind_epoch": epoch, "rounds": 2}
        return TrialConfig.model_validate(
            {"data": DATA, "sparsity": sparsity, "train": {"epochs": 10}}
        )

    assert config(9).total_epochs == 10 + 2 * 1
    assert config(9).first_kept_epoch == 11
    with pytest.raises(
        ValidationError, match=r"rewind_epoch must be less than train\.epochs, got 10"
    ):
        config(10)


def test_where_joints_are_kept_names_no_other_trial() -> None:
    here, there = (
        TrialConfig.model_validate({"data": {**DATA, "residence": residence}, "seed": seed})
        for residence, seed in (("host", 0), ("mmap", 0))
    )
    assert here.digest() == there.digest()
    assert here.digest() != TrialConfig.model_validate({"data": DATA, "seed": 1}).digest()


def test_how_a_step_is_computed_names_no_other_trial() -> None:
    fast, plain = (
        TrialConfig.model_validate({"data": DATA, "train": train})
        for train in ({}, {"fast": "off", "sparse_kernels": "off"})
    )
    assert fast.digest() == plain.digest()


@pytest.mark.parametrize(
    "sparsity", [{"level": 0.8, "sharing": "none"}, {"level": 0.0, "sharing": "branches"}]
)
def test_masks_that_nobody_shares_ask_for_nothing(sparsity: dict[str, object]) -> None:
    model = {"backbone": "st_gcn", "temporal": "conv"}
    TrialConfig.model_validate({"data": DATA, "model": model, "sparsity": sparsity})


@pytest.mark.parametrize(
    ("clips", "persons", "model", "fast", "deployed"),
    [
        (64, 2, {"backbone": "ctr_gcn"}, "auto", True),
        (63, 2, {"backbone": "ctr_gcn"}, "auto", False),
        (64, 1, {"backbone": "hpi_gcn_rp"}, "auto", True),
        (64, 1, {"backbone": "ctr_gcn"}, "auto", False),
        (512, 1, {"backbone": "ctr_gcn"}, "auto", True),
        (512, 2, {"backbone": "hpi_gcn_rp"}, "off", False),
        (512, 2, {"backbone": "hd_gcn"}, "auto", False),
    ],
)
def test_which_evaluations_pay_for_the_deploy_form(
    clips: int, persons: int, model: dict[str, object], fast: str, deployed: bool
) -> None:
    config = TrialConfig.model_validate({"data": DATA, "model": model, "train": {"fast": fast}})
    assert config.evaluates_deployed(clips, persons) is deployed


@pytest.mark.parametrize(
    ("sparsity", "train", "kept"),
    [
        ({"level": 0.8}, {}, True),
        ({"level": 0.0}, {}, False),
        ({"level": 0.8}, {"sparse_kernels": "off"}, False),
        ({"level": 0.8}, {"precision": "bf16"}, False),
        ({"level": 0.8}, {"precision": "fp32"}, True),
        ({"level": "learned", "target": 0.9}, {}, False),  # what is removed may come back
        ({"level": 0.8, "generator": "supermask"}, {}, False),
    ],
)
def test_where_steps_may_compute_with_kept_weights_alone(
    sparsity: dict[str, object], train: dict[str, object], kept: bool
) -> None:
    config = TrialConfig.model_validate({"data": DATA, "sparsity": sparsity, "train": train})
    assert config.trains_kept_weights is kept


@pytest.mark.parametrize(
    ("persons", "fast", "collapses"), [(2, "auto", True), (1, "auto", False), (2, "off", False)]
)
def test_where_absent_persons_are_run_once(persons: int, fast: str, collapses: bool) -> None:
    model = {"backbone": "st_gcn"}
    config = TrialConfig.model_validate({"data": DATA, "model": model, "train": {"fast": fast}})
    assert config.collapses_persons(persons) is collapses


@pytest.mark.parametrize(
    ("model", "fused"),
    [
        ({"backbone": "st_gcn", "temporal": "conv"}, False),
        ({"backbone": "st_gcn", "temporal": "rep_tcn"}, True),
        ({"backbone": "hpi_gcn_rp", "temporal": "conv"}, True),
    ],
)
def test_masks_are_shared_by_kernels_that_the_deploy_form_fuses(
    model: dict[str, object], fused: bool
) -> None:
    sparsity = {"level": 0.8, "sharing": "fused", "generator": "magnitude_at_init"}
    content = {"data": DATA, "model": model, "sparsity": sparsity}
    if fused:
        TrialConfig.model_validate(content)
        return
    with pytest.raises(ValidationError, match=r"one of the backbones hd_gcn, .* got st_gcn"):
        TrialConfig.model_validate(content)
