"""Random draws from the space."""

from __future__ import annotations

import math

import pytest

from orchestrator.trials.cells import expand
from orchestrator.trials.space import (
    all_trials,
    check_space,
    grid,
    sample,
    samples,
    trials,
)
from tests.orchestrator.sweep_files import SMALL, loaded
from tests.orchestrator.trials.space_cases import RANDOM


def test_a_continuous_level_with_two_objectives_is_searched(tmp_path) -> None:
    level = "parameters={sparsity.level: {min: 0.3, max: 0.99, axis: trial}}"
    goals = (
        "objectives=[{metric: selection_top1, goal: maximize}, {metric: deploy_nonzero_params,"
        " goal: minimize}]"
    )
    sweep = loaded(tmp_path, SMALL, level, goals, RANDOM)
    assert check_space(sweep) == []
    levels = [trial.config.sparsity.level for trial in all_trials(sweep)]
    assert len(set(levels)) == 5
    assert all(0.3 <= each <= 0.99 for each in levels)


def test_random_draws_depend_on_seed_cell_and_index_only(tmp_path) -> None:
    overrides = (
        "parameters.train.lr={distribution: log_uniform, min: 0.01, max: 1}",
        "parameters.model.kernel_size=[5, 9]",
    )
    sweep = loaded(tmp_path, SMALL, *overrides, RANDOM)
    cell, other = expand(sweep)[:2]
    five = samples(sweep, cell, 5)
    assert samples(sweep, cell, 3) == five[:3]
    assert sample(sweep, cell, 4) == five[4]
    assert samples(sweep, other, 5) != five
    assert (
        samples(loaded(tmp_path, SMALL, *overrides, RANDOM.replace("5", "5, seed: 1")), cell, 5)
        != five
    )
    assert len(trials(sweep, cell)) == 5


def test_finite_spaces_are_drawn_without_repetition(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters.model.kernel_size=[5, 9]",
        "parameters.train.lr=[0.1, 0.2]",
        RANDOM,
    )
    cell = expand(sweep)[0]
    found = samples(sweep, cell, 5)
    assert len(found) == 4
    assert sorted(map(str, found)) == sorted(map(str, grid(sweep, cell)))
    whole = loaded(tmp_path, SMALL, "parameters.train.epochs={min: 1, max: 3}", RANDOM)
    assert sorted(each["train.epochs"] for each in samples(whole, cell, 5)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("leaf", "spec", "check"),
    [
        ("train.lr", "{min: 0.1, max: 0.2}", lambda v: 0.1 <= v <= 0.2),
        (
            "train.lr",
            "{min: 0.1, max: 0.5, step: 0.1}",
            lambda v: math.isclose(v * 10, round(v * 10)),
        ),
        ("train.lr", "{distribution: log_uniform, min: 1e-4, max: 1}", lambda v: 1e-4 <= v <= 1),
        (
            "train.epochs",
            "{min: 2, max: 50, step: 4}",
            lambda v: isinstance(v, int) and v % 4 == 2 and v <= 50,
        ),
        (
            "train.epochs",
            "{distribution: int_log_uniform, min: 1, max: 1000}",
            lambda v: isinstance(v, int) and 1 <= v <= 1000,
        ),
    ],
)
def test_draws_stay_in_range(tmp_path, leaf: str, spec: str, check) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        f"parameters={{{leaf}: {spec}}}",
        "method={name: random, trials_per_cell: 60}",
    )
    values = [assignment[leaf] for assignment in samples(sweep, expand(sweep)[0], 60)]
    assert all(check(value) for value in values)
    assert len(set(values)) > 3


def test_log_uniform_spreads_over_the_decades(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters={train.lr: {distribution: log_uniform, min: 1e-4, max: 1}}",
        "method={name: random, trials_per_cell: 400}",
    )
    values = [assignment["train.lr"] for assignment in samples(sweep, expand(sweep)[0], 400)]
    shares = [sum(10**d <= value < 10 ** (d + 1) for value in values) / 400 for d in range(-4, 0)]
    assert all(0.15 < share < 0.35 for share in shares)
