"""The space: grids, constraints, axes, and trials that cannot be built."""

from __future__ import annotations

import pytest

from orchestrator.trials.cells import expand
from orchestrator.trials.space import (
    MAX_COMBINATIONS,
    all_trials,
    check_space,
    grid,
    trials,
)
from tests.orchestrator.sweep_files import SMALL, loaded
from tests.orchestrator.trials.space_cases import RANDOM, space_problems
from trainables.contract.errors import UserError


def test_grid_is_the_product_of_the_values(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters.model.kernel_size=[5, 9]",
        "parameters.train.lr=[0.1, 0.2, 0.3]",
    )
    cell = expand(sweep)[0]
    found = grid(sweep, cell)
    assert found[:2] == [
        {"model.kernel_size": 5, "train.lr": 0.1},
        {"model.kernel_size": 5, "train.lr": 0.2},
    ]
    assert len(found) == 6
    assert len(all_trials(sweep)) == 24


def test_trials_carry_their_whole_configuration(tmp_path) -> None:
    sweep = loaded(
        tmp_path, SMALL, "parameters.model.kernel_size=[5, 9]", "seed=3", "method={seeds: 2}"
    )
    cell = expand(sweep)[3]
    found = trials(sweep, cell)
    assert [(trial.config.model.kernel_size, trial.config.seed) for trial in found] == [
        (5, 3),
        (5, 4),
        (9, 3),
        (9, 4),
    ]
    config = found[2].config
    assert (
        config.data.stream,
        config.sparsity.level,
        config.model.channels,
        config.train.milestones,
    ) == ("bone", 0.8, 8, (1,))
    planned = found[2].proposal
    assert planned.trial == f"bone-level0.8-{config.digest()}"
    assert (planned.cell, planned.assignment, planned.seed) == (
        cell.id,
        {"model.kernel_size": 9},
        3,
    )
    assert len({trial.proposal.trial for trial in all_trials(sweep)}) == 16


def test_constraints_drop_combinations(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "model.backbone=hpi_gcn_op",
        "parameters.model.groups=[3, 4]",
        "constraints=[model.channels % model.groups == 0]",
    )
    assert grid(sweep, expand(sweep)[0]) == [{"model.groups": 4}]
    assert check_space(sweep) == []


def test_constraints_nobody_meets(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters.train.lr=[0.1, 0.2]",
        "constraints=[train.lr > 1]",
        "parameters.data.stream=joint",
    )
    assert space_problems(sweep, tmp_path) == [
        "--set constraints: no combination of values satisfies the constraints"
    ]
    drawn = loaded(
        tmp_path,
        SMALL,
        "parameters.train.lr={min: 0.1, max: 0.2}",
        "constraints=[train.lr > 1]",
        "parameters.data.stream=joint",
        RANDOM,
    )
    assert check_space(drawn)[0].endswith(
        "no combination of values satisfies the constraints, of 1000 drawn in each cell"
    )


def test_a_constraint_without_a_value_is_reported(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL, "constraints=[data.stream < 3]", "parameters={}")
    assert space_problems(sweep, tmp_path)[0].startswith(
        "--set constraints[0]: has no value for data.stream='joint'"
    )


def test_groups_that_do_not_divide_the_channels(tmp_path) -> None:
    text = SMALL.replace(
        "  sparsity.level: [0, 0.8]",
        "  model.backbone: [hpi_gcn_rp, hpi_gcn_op]\n  model.groups: [4, 5]",
    )
    assert space_problems(loaded(tmp_path, text), tmp_path) == [
        "s.yaml:7 parameters.model.groups: groups must divide channels, got groups=5 and channels=8"
        " (cell joint-hpi_gcn_op, model.groups=5)"
    ]


def test_a_section_that_does_not_fit_together(tmp_path) -> None:
    text = SMALL.replace("channels: 8", "backbone: hpi_gcn_op, channels: 12, groups: 4")
    assert space_problems(loaded(tmp_path, text), tmp_path) == [
        "s.yaml:7 model.channels: channels must be a multiple of 8, got 12 (cell joint-level0)"
    ]


def test_an_axis_without_effect_makes_one_cell(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters={model.backbone: [hpi_gcn_rp, hpi_gcn_op], model.groups: {values: [2, 4], axis:"
        " cell}}",
    )
    assert check_space(sweep) == []
    assert [trial.proposal.cell for trial in all_trials(sweep)] == [
        "hpi_gcn_rp",
        "hpi_gcn_op-groups2",
        "hpi_gcn_op-groups4",
    ]


def test_a_section_of_sparsity_that_does_not_fit_together_is_placed(tmp_path) -> None:
    text = SMALL + "sparsity: {distribution: erk}\n"
    assert (
        space_problems(
            loaded(tmp_path, text, "parameters.data.stream=joint", "sparsity.scope=tensor"),
            tmp_path,
        )
        == []
    )
    (problem,) = space_problems(
        loaded(tmp_path, SMALL + "sparsity: {network: experts}\n", "parameters={}"), tmp_path
    )
    assert (
        problem
        == "s.yaml:9 sparsity.network: levels must name at least two different levels where network"
        " is experts, got [] (cell all)"
    )


def test_grid_of_absurd_size_is_refused(tmp_path) -> None:
    many = list(range(1, 151))
    sweep = loaded(
        tmp_path, SMALL, f"parameters.train.epochs={many}", f"parameters.train.batch_size={many}"
    )
    assert len(many) ** 2 > MAX_COMBINATIONS
    assert "a grid must have at most" in check_space(sweep)[0]


def test_build_config_names_cell_and_assignment(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL, "model.backbone=hpi_gcn_op", "parameters={model.groups: [3]}")
    with pytest.raises(
        UserError,
        match=(
            r"groups must divide channels, got groups=3 and channels=8 \(cell all, model.groups=3\)"
        ),
    ):
        all_trials(sweep)
