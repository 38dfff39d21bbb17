"""Settings of the space that have an effect, that have none, and that trials wait for."""

from __future__ import annotations

import json

import pytest

from orchestrator.sweep import Sweep
from orchestrator.trials.cells import expand
from orchestrator.trials.space import (
    all_trials,
    build_config,
    check_space,
    grid,
    trials,
)
from tests.orchestrator.sweep_files import SMALL, loaded
from tests.orchestrator.trials.space_cases import space_problems
from trainables.contract.errors import UserError


def test_settings_without_effect_make_no_further_trials(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters={model.backbone: [hpi_gcn_rp, hpi_gcn_op], model.adjacencies: [1, 3],"
        " model.groups: [2, 4, 8], model.kernel_size: [5, 9]}",
    )
    rp, op = expand(sweep)
    assert grid(sweep, rp) == [
        {"model.adjacencies": a, "model.kernel_size": k} for a in (1, 3) for k in (5, 9)
    ]
    assert grid(sweep, op) == [
        {"model.groups": g, "model.kernel_size": k} for g in (2, 4, 8) for k in (5, 9)
    ]
    assert (
        build_config(sweep, rp, {"model.groups": 2}, 0).digest()
        == build_config(sweep, rp, {"model.groups": 4}, 0).digest()
    )
    assert (
        build_config(sweep, op, {"model.groups": 2}, 0).digest()
        != build_config(sweep, op, {"model.groups": 4}, 0).digest()
    )


def test_settings_of_other_generators_are_reset(tmp_path) -> None:
    """So that one file can go through the generators, and no trial is made twice."""
    given = {
        "structure": "channel",
        "mask": "masks.npz",
        "rounds": 3,
        "update_every": 7,
        "train_head": True,
        "scope": "global",
        "warmup": 0.5,
    }
    generators = [
        "fixed_random",
        "predefined",
        "score_trainable",
        "supermask",
        "rewinding",
        "rigl",
        "set",
    ]
    overrides = (
        f"sparsity={json.dumps(given)}",
        f"parameters={json.dumps({'sparsity.level': [0.8], 'sparsity.generator': generators})}",
    )
    configs = [trial.config.sparsity for trial in all_trials(loaded(tmp_path, SMALL, *overrides))]
    used = {
        config.generator: {name for name, value in given.items() if getattr(config, name) == value}
        for config in configs
    }
    assert used == {
        "fixed_random": {"structure", "warmup"},
        "predefined": {"mask", "warmup"},
        "score_trainable": {"scope", "warmup"},
        "supermask": {"train_head", "scope"},
        "rewinding": {"rounds", "scope"},
        "rigl": {"update_every", "scope"},
        "set": {"update_every", "scope"},
    }


def test_a_dense_trial_is_the_same_whatever_the_sparsity_settings(tmp_path) -> None:
    sweep = loaded(
        tmp_path, SMALL, "parameters.sparsity.warmup=[0.2, 0.4]", "sparsity.scope=global"
    )
    dense, sparse = expand(sweep)[:2]
    assert (len(trials(sweep, dense)), len(trials(sweep, sparse))) == (1, 2)
    assert trials(sweep, dense)[0].config.sparsity.scope == "block"


def test_a_level_beside_a_network_of_several_is_refused(tmp_path) -> None:
    text = SMALL + "sparsity: {network: nested, levels: [0.6, 0.9], level: 0.8}\n"
    rule = "has no effect in any trial of the sweep; leave it out"
    assert space_problems(loaded(tmp_path, text, "parameters={}"), tmp_path) == [
        f"s.yaml:9 sparsity.level: {rule}"
    ]
    assert space_problems(loaded(tmp_path, text), tmp_path) == [
        f"s.yaml:6 parameters.sparsity.level: {rule}"
    ]


def after(sweep: Sweep) -> dict[str, list[str]]:
    """What each trial that starts from a dense one may start from, told by (level, seed, searched
    values).
    """
    names = {trial.proposal.trial: trial for trial in all_trials(sweep)}

    def told(name: str) -> str:
        planned = names[name].proposal
        return " ".join([planned.cell, *map(str, planned.assignment.values()), f"s{planned.seed}"])

    return {
        told(name): [told(other) for other in trial.proposal.after]
        for name, trial in names.items()
        if trial.config.sparsity.source
    }


def test_a_trial_starts_from_the_dense_one_that_agrees_in_all_but_sparsity(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "sparsity.from=dense",
        "parameters.model.kernel_size=[5, 9]",
        "method={seeds: 2}",
    )
    found = after(sweep)
    assert len(found) == 8  # two streams, kernels and seeds, one sparse level
    assert all(sources == [name.replace("level0.8", "level0")] for name, sources in found.items())


def test_the_level_can_be_searched_within_the_cell(tmp_path) -> None:
    level = "parameters={sparsity.level: {values: [0.8, 0, 0.9], axis: trial}}"
    found = after(loaded(tmp_path, SMALL, "sparsity.from=dense", level))
    assert found == {"all 0.8 s0": ["all 0.0 s0"], "all 0.9 s0": ["all 0.0 s0"]}


def test_recipes_searched_within_a_cell_need_not_agree_those_of_cells_must(tmp_path) -> None:
    within = after(
        loaded(
            tmp_path,
            SMALL,
            "sparsity.from=dense",
            "parameters.data.stream=[joint]",
            "parameters.train.lr=[0.1, 0.2]",
        )
    )
    assert within["joint-level0.8 0.2 s0"] == ["joint-level0 0.1 s0", "joint-level0 0.2 s0"]
    axis = "parameters.train.lr={values: [0.1, 0.2], axis: cell}"
    across = after(
        loaded(tmp_path, SMALL, "sparsity.from=dense", "parameters.data.stream=[joint]", axis)
    )
    assert across["joint-level0.8-lr0.2 s0"] == ["joint-level0-lr0.2 s0"]


def test_random_weights_wait_for_nothing(tmp_path) -> None:
    source = "parameters.sparsity.from={values: [dense, null], axis: cell}"
    sweep = loaded(tmp_path, SMALL, source, "parameters.data.stream=[joint]")
    assert [(trial.proposal.cell, len(trial.proposal.after)) for trial in all_trials(sweep)] == [
        ("joint-level0", 0),
        ("joint-level0.8-fromdense", 1),
        ("joint-level0.8-fromnone", 0),
    ]
    again = loaded(tmp_path, json.dumps(sweep.resolved()))
    assert all_trials(again) == all_trials(sweep)


def test_a_level_can_be_searched_as_a_number_and_judged_by_accuracy_and_size(tmp_path) -> None:
    objectives = (
        "objectives=[{metric: selection_top1, goal: maximize}, {metric: deploy_nonzero_params,"
        " goal: minimize}]"
    )
    searched = "parameters={sparsity.level: {min: 0.3, max: 0.99, axis: trial}}"
    limit = "constraints=[{metric: level, min: 0.5}]"
    sweep = loaded(
        tmp_path,
        SMALL,
        searched,
        objectives,
        limit,
        "method={name: random, trials_per_cell: 20}",
        "sparsity={warmup: 0.5}",
    )
    assert check_space(sweep) == []
    levels = [trial.config.sparsity.level for trial in all_trials(sweep)]
    assert len(set(levels)) == 20
    assert 0.3 <= min(levels) < 0.5 < 0.8 < max(levels) <= 0.99
    assert [limit.metric for limit in sweep.metric_limits] == ["level"]
    refused = "parameters={sparsity.level: {min: 0.3, max: 0.99}}"
    with pytest.raises(UserError, match="a cell axis needs values: a range has no cells"):
        loaded(tmp_path, SMALL, refused, "method={name: random, trials_per_cell: 2}")


def test_settings_of_a_learned_level_are_used_by_nothing_else(tmp_path) -> None:
    levels, sparsity = (
        "parameters={sparsity.level: {values: [0, 0.8, learned], axis: trial}}",
        "sparsity={warmup: 0.5, target: 0.9, scope: global}",
    )
    dense, fixed, learned = (
        trial.config.sparsity for trial in all_trials(loaded(tmp_path, SMALL, levels, sparsity))
    )
    assert (dense.target, fixed.target, learned.target) == (None, None, 0.9)
    # a learned level is that of all tensors
    assert (fixed.scope, learned.scope, learned.penalty) == ("global", "block", "group_lasso")
    (problem,) = space_problems(
        loaded(
            tmp_path,
            SMALL,
            "parameters={sparsity.price: [1, 2]}",
            "sparsity.level=0.5",
            "sparsity.warmup=0.5",
        ),
        tmp_path,
    )
    assert (
        problem == "--set parameters.sparsity.price: has no effect in any trial of the sweep;"
        " leave it out"
    )


def test_a_warm_up_that_leaves_nothing_to_train_is_placed(tmp_path) -> None:
    text = SMALL + "sparsity: {warmup: 0.9}\n"
    assert space_problems(loaded(tmp_path, text, "parameters.data.stream=joint"), tmp_path) == [
        "s.yaml:9 sparsity.warmup: must leave at least one of train.epochs to train the kept"
        " weights, got 0.9 of 2, which rounds to 2 epochs (cell level0.8)"
    ]
    searched = loaded(
        tmp_path,
        SMALL.replace(", milestones: [1]", ""),
        "parameters.data.stream=joint",
        "parameters.train.epochs=[1, 4]",
    )
    (problem,) = space_problems(searched, tmp_path)
    assert problem.startswith("--set parameters.train.epochs: sparsity.warmup must leave")


def test_epochs_that_a_setting_cannot_reach_are_placed(tmp_path) -> None:
    assert space_problems(
        loaded(tmp_path, SMALL.replace("[1]", "[1, 2]"), "parameters={}"), tmp_path
    ) == [
        "s.yaml:8 train.milestones: milestones must be less than epochs, got milestone 2 and"
        " epochs=2 (cell all)"
    ]
    assert space_problems(
        loaded(tmp_path, SMALL.replace("milestones: [1]", "warmup_epochs: 2"), "parameters={}"),
        tmp_path,
    ) == [
        "s.yaml:8 train.warmup_epochs: warmup_epochs must be less than epochs, got warmup_epochs=2"
        " and epochs=2 (cell all)"
    ]


def test_defaults_derived_from_epochs_follow_each_trial(tmp_path) -> None:
    text = SMALL.replace("train: {epochs: 2, milestones: [1]}", "train: {lr: 0.2}")
    sweep = loaded(
        tmp_path,
        text,
        "parameters={train.epochs: [3, 110]}",
        "constraints=[train.warmup_epochs < train.epochs]",
    )
    short, long = (trial.config.train for trial in all_trials(sweep))
    assert (short.epochs, short.warmup_epochs, short.milestones) == (3, 2, (2,))
    assert (long.epochs, long.warmup_epochs, long.milestones) == (110, 5, (90, 100))
    assert check_space(sweep) == []
    again = loaded(tmp_path, json.dumps(sweep.resolved()))
    assert again.resolved() == sweep.resolved()
    assert all_trials(again) == all_trials(sweep)
    fixed = loaded(tmp_path, text, "train.epochs=30", "parameters={}")
    assert fixed.resolved()["train"]["milestones"] == [24, 27]


def test_a_penalty_without_a_warm_up_makes_no_further_trials(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters={sparsity.warmup: [0.1, 0.5], sparsity.penalty: [group_lasso, none],"
        " sparsity.penalty_weight: [ramp, 0.5]}",
        "sparsity.level=0.8",
    )
    found = [trial.proposal.assignment for trial in all_trials(sweep)]
    assert found == [
        {"sparsity.warmup": 0.1},  # 0.1 of 2 epochs is none
        {
            "sparsity.warmup": 0.5,
            "sparsity.penalty": "group_lasso",
            "sparsity.penalty_weight": "ramp",
        },
        {"sparsity.warmup": 0.5, "sparsity.penalty": "group_lasso", "sparsity.penalty_weight": 0.5},
        {"sparsity.warmup": 0.5, "sparsity.penalty": "none"},
    ]


def test_leaves_of_one_pipeline_are_reset_under_the_others(tmp_path) -> None:
    overrides = (
        "parameters.data.pipeline=[ctr, pyskl]",
        "parameters.data.align_spine=[true, false]",
        "data.views=3",
    )
    sweep = loaded(
        tmp_path,
        SMALL,
        *overrides,
        "parameters.data.stream=[joint]",
        "parameters.sparsity.level=[0]",
    )
    assert check_space(sweep) == []
    found = {
        (config.pipeline, config.align_spine, config.views)
        for config in (trial.config.data for trial in all_trials(sweep))
    }
    assert found == {("ctr", None, None), ("pyskl", True, 3), ("pyskl", False, 3)}


@pytest.mark.parametrize(
    "given", ["data.views=10", "data.align_spine=false", "parameters.data.views=[3, 10]"]
)
def test_leaves_of_a_pipeline_that_no_trial_has_are_refused(tmp_path, given) -> None:
    leaf = given.partition("=")[0]
    one = loaded(tmp_path, SMALL, given, "data.pipeline=ctr")
    assert check_space(one) == [f"--set {leaf}: has no effect under pipeline ctr; leave it out"]
    two = loaded(tmp_path, SMALL, given, "parameters.data.pipeline=[ctr, ucla]")
    assert check_space(two) == [
        f"--set {leaf}: has no effect under pipeline ctr, ucla; leave it out"
    ]
    assert check_space(loaded(tmp_path, SMALL, given, "data.pipeline=pyskl")) == []
    assert check_space(loaded(tmp_path, SMALL, given)) == []  # the store decides
