"""Random draws from the space."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from orchestrator.trials.cells import expand
from orchestrator.trials.space import (
    _draw,
    all_trials,
    check_space,
    grid,
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


def test_a_finite_space_is_drawn_in_another_order_than_that_of_the_grid(tmp_path) -> None:
    values = "parameters.train.lr=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]"
    sweep = loaded(tmp_path, SMALL, values, "method={name: random, trials_per_cell: 8}")
    cell, other = expand(sweep)[:2]
    assert samples(sweep, cell, 8) != grid(sweep, cell)
    assert samples(sweep, cell, 8) != samples(sweep, other, 8)


@pytest.mark.parametrize(
    ("leaf", "spec", "shares"),
    [
        ("train.lr", "{min: 0.1, max: 0.4, step: 0.1}", {0.1: 1 / 4, 0.2: 1 / 4, 0.4: 1 / 4}),
        ("train.lr", "{min: 0.1, max: 0.45, step: 0.1}", {0.1: 1 / 4, 0.4: 1 / 4, 0.45: 0.0}),
        ("train.epochs", "{min: 1, max: 4}", {1: 1 / 4, 2: 1 / 4, 4: 1 / 4}),
        ("train.epochs", "{min: 2, max: 9, step: 3}", {2: 1 / 3, 5: 1 / 3, 8: 1 / 3}),
        (
            "train.epochs",  # of log(1) to log(5): the share of k is log((k + 1) / k) / log(5)
            "{distribution: int_log_uniform, min: 1, max: 4}",
            {1: 0.431, 2: 0.252, 3: 0.179, 4: 0.139},
        ),
        ("train.epochs", "[3, 7]", {3: 1 / 2, 7: 1 / 2}),
    ],
)
def test_values_come_as_often_as_the_distribution_says(tmp_path, leaf, spec, shares) -> None:
    sweep = loaded(tmp_path, SMALL, f"parameters={{{leaf}: {spec}}}", RANDOM)
    rng, parameter = random.Random(0), sweep.parameters[leaf]
    counts = Counter(_draw(parameter, rng) for _ in range(4000))
    assert {value: counts[value] / 4000 for value in shares} == pytest.approx(shares, abs=0.03)


def test_real_numbers_have_six_digits_and_fill_their_range(tmp_path) -> None:
    spec = "parameters={train.lr: {min: 0.1, max: 0.3}}"
    sweep, rng = loaded(tmp_path, SMALL, spec, RANDOM), random.Random(0)
    values = [_draw(sweep.parameters["train.lr"], rng) for _ in range(1000)]
    assert all(0.1 <= value <= 0.3 and value == float(f"{value:.6g}") for value in values)
    assert any(value != float(f"{value:.5g}") for value in values)
    assert math.isclose(sum(values) / 1000, 0.2, abs_tol=0.01)
    assert min(values) < 0.101
    assert max(values) > 0.299
