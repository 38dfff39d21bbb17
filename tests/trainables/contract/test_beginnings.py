"""Which trials share a beginning: by its digest, of every generator."""

import pytest
from pydantic import ValidationError

from trainables.contract.config import TrialConfig
from trainables.contract.generators import GENERATORS

DATA = {"store": "s", "protocol": "xsub"}
NONE = {"penalty": "none"}
MASKS = {"mask": "m.npz"}


def config(sparsity, **parts):
    return TrialConfig.model_validate({"data": DATA, "sparsity": sparsity, **parts})


def at(level, **sparsity):
    return config({"level": level, **sparsity})


@pytest.mark.parametrize(
    ("sparsity", "epochs"),
    [
        # of 110 epochs, 66 are dense
        ({"generator": "fixed_random"}, 0),
        ({"generator": "fixed_random", "penalty": "detached"}, 0),
        ({"generator": "fixed_random", "penalty_weight": 0.5}, 0),
        ({"generator": "fixed_random", "penalty_weight": 0.0}, 66),
        ({"generator": "fixed_random", **NONE}, 66),
        ({"generator": "fixed_random", **NONE, "sharing": "channels"}, 66),
        ({"generator": "fixed_random", **NONE, "warmup": 0.0}, 0),
        ({"generator": "fixed_random", **NONE, "warmup": 20}, 20),
        ({"generator": "magnitude_at_init", **NONE}, 66),
        ({"generator": "predefined", **MASKS, **NONE}, 66),
        ({"generator": "score_trainable", **NONE}, 0),
        ({"generator": "supermask"}, 0),
        ({"generator": "supermask", "from": "dense"}, 0),
        ({"generator": "rewinding"}, 110),
        ({"generator": "rewinding", "rewind_epoch": 3}, 110),
        ({"generator": "rigl"}, 0),
        ({"generator": "set"}, 0),
    ],
)
def test_what_levels_share(sparsity, epochs):
    assert at(0.8, **sparsity).branch_epoch == epochs
    assert at(0.8, **sparsity, branch_at="off").branch_epoch == 0
    low, high = at(0.6, **sparsity), at(0.95, **sparsity)
    if epochs:
        assert low.beginning_digest(epochs) == high.beginning_digest(epochs)
        assert at(0.8, **sparsity, branch_at=7).branch_epoch == 7
        with pytest.raises(ValidationError, match=f"branch_at must be at most {epochs}"):
            at(0.8, **sparsity, branch_at=epochs + 1)
    else:
        with pytest.raises(ValidationError, match="branch_at 7 needs a beginning that is the same"):
            at(0.8, **sparsity, branch_at=7)


def test_the_table_above_has_every_generator():
    shares = {name: GENERATORS.find(name).dense_until for name in GENERATORS.own}
    assert {name for name, until in shares.items() if until == "start"} == {
        "score_trainable",
        "supermask",
        "rigl",
        "set",
    }


def test_levels_that_are_learned_or_several_share_nothing():
    assert at("learned", target=0.9).branch_epoch == 0
    assert config({"network": "experts", "levels": [0.6, 0.8], **NONE}).branch_epoch == 0


def test_a_dense_trial_begins_as_the_others_do_and_branches_from_none():
    dense = config({})
    assert dense.branch_epoch == 0
    assert dense.sparsity.dense_start(110) == 110
    assert dense.beginning_digest(66) == at(0.8, **NONE).beginning_digest(66)
    rewound = at(0.8, generator="rewinding")
    assert dense.beginning_digest(110) == rewound.beginning_digest(110)
    assert dense.beginning_digest(66) != dense.beginning_digest(110)


@pytest.mark.parametrize(
    "other",
    [
        {"scope": "global"},
        {"generator": "magnitude_at_init"},
        {"generator": "predefined", **MASKS},
        {"structure": "4x4"},
        {"warmup": 0.7, "branch_at": 66},
    ],
)
def test_what_acts_later_takes_no_part(other):
    assert at(0.8, **NONE).beginning_digest(66) == at(0.8, **NONE, **other).beginning_digest(66)
    for later in ({"keep": "last"}, {"sparse_kernels": "off"}):
        other = config({"level": 0.8, **NONE}, train=later)
        assert other.beginning_digest(66) == at(0.8, **NONE).beginning_digest(66)
    moved = TrialConfig.model_validate({"data": {**DATA, "residence": "host"}})
    assert moved.beginning_digest(66) == config({}).beginning_digest(66)


@pytest.mark.parametrize(
    ("sparsity", "parts"),
    [
        ({}, {"seed": 1}),
        ({}, {"train": {"lr": 0.2}}),
        ({}, {"train": {"epochs": 120}}),
        ({}, {"train": {"fast": "off"}}),
        ({}, {"train": {"eval_batch_size": 7}}),
        ({}, {"model": {"channels": 8}}),
        ({"from": "dense"}, {}),
        ({"generator": "rewinding", "rewind_epoch": 2}, {}),
    ],
)
def test_what_acts_from_the_first_step_makes_another_beginning(sparsity, parts):
    other = config({"level": 0.8, **NONE, **sparsity}, **parts)
    assert other.beginning_digest(66) != at(0.8, **NONE).beginning_digest(66)


def test_networks_that_go_back_to_different_epochs_keep_different_beginnings():
    at_two, at_three = (
        at(0.8, **NONE, generator="rewinding", rewind_epoch=epoch).beginning_digest(66)
        for epoch in (2, 3)
    )
    assert at_two != at_three


def test_where_a_trial_branches_names_no_other_trial():
    assert at(0.8, **NONE).digest() == at(0.8, **NONE, branch_at=7).digest()
    assert config({"branch_at": "off"}).digest() == config({}).digest()
