"""Which search suits a cell."""

import pytest

from orchestrator.search.auto import choose
from orchestrator.trials.space import all_trials
from tests.orchestrator.search.asked import proposed, run, search_of, sweep_of


@pytest.mark.parametrize(
    ("assignments", "trials", "objectives", "choice"),
    [
        (12, 12, 1, "random"),
        (12, 200, 1, "random"),
        (None, 19, 1, "qmc"),
        (500, 19, 1, "random"),
        (None, 20, 1, "tpe"),
        (500, 20, 1, "tpe"),
        (None, 999, 2, "tpe"),
        (None, 1000, 2, "nsga2"),
        (None, 1000, 1, "tpe"),
    ],
)
def test_the_choice(assignments, trials, objectives, choice):
    assert choose(assignments, trials, objectives) == choice


@pytest.mark.parametrize("number", [6, 24])
def test_auto_proposes_what_its_choice_does(number):
    other = {6: "qmc", 24: "tpe"}[number]
    sweeps = [sweep_of(f"{{name: {name}, trials_per_cell: {number}}}") for name in ("auto", other)]
    asked = [
        proposed(run(search_of(each), each, lambda trial: trial.config.train.lr)) for each in sweeps
    ]
    assert asked[0] == asked[1]


def test_a_grid_is_tried_in_random_order():
    space = "parameters: {train.lr: {values: [0.1, 0.2, 0.3], axis: trial}}\n"
    text = sweep_of("{name: random, trials_per_cell: 2}").text.partition("parameters")[0] + space
    auto = sweep_of("{name: auto, trials_per_cell: 5}", text)
    drawn = all_trials(sweep_of("{name: random, trials_per_cell: 5}", text))
    assert proposed(run(search_of(auto), auto, lambda trial: 0.5)) == drawn
