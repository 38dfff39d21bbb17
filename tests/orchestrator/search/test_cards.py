"""Searches are found by name: ours, and those of others."""

import pytest

from orchestrator.search.listed import ListedSearch
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import parse_sweep
from orchestrator.sweep.json_schema import sweep_schema
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.space import all_trials
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters: {train.lr: {values: [0.1, 0.2, 0.3], axis: trial}}
"""
STRANGER = "tests.orchestrator.search.strangers:CARD"


@pytest.mark.parametrize("name", SEARCHES.names())
def test_every_card_of_ours_has_its_name(name):
    assert SEARCHES.find(name).name == name


def test_a_search_of_another_package_is_given_random_draws():
    sweep = parse_sweep(
        "small.yaml", TEXT + f"method: {{name: '{STRANGER}', trials_per_cell: 2}}\n"
    )
    trials = all_trials(sweep)
    assert len(trials) == 2
    search = SEARCHES.find(sweep.method.name).load()(trials)
    assert isinstance(search, ListedSearch)
    assert search.ask() is trials[0]
    search.tell("any", Outcome("failed"))
    assert search.ask() is trials[1]


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("{name: randm, trials_per_cell: 2}", "got 'randm', did you mean 'random'?"),
        ("{name: 'no.module:CARD'}", "there is no module no"),
        (f"{{name: '{STRANGER}'}}", "needs trials_per_cell"),
        ("{name: grid, trials_per_cell: 2}", "has no meaning for a grid"),
        ("{name: qmc}", "needs trials_per_cell"),
        ("{name: qmc, trials_per_cell: 2, seeds: 2}", "final_seeds repeats each cell's best"),
        ("{name: random, trials_per_cell: 2, final_seeds: 2}", "seeds repeats every assignment"),
        ("{name: qmc, trials_per_cell: 2, startup_trials: 2}", "qmc, which does not learn"),
        ("{name: gp, trials_per_cell: 10000}", "must be at most 300 for gp"),
        ("{name: tpe, trials_per_cell: 2, seeds: 3}", "final_seeds repeats each cell's best"),
        ("{name: tpe}", "tpe needs trials_per_cell"),
        ("{name: grid, warm_start: [other]}", "grid, which does not learn"),
    ],
)
def test_what_is_wrong_with_a_method_is_one_line(method, problem):
    with pytest.raises(UserError) as caught:
        parse_sweep("small.yaml", TEXT + f"method: {method}\n")
    [text] = caught.value.problems
    assert text.startswith("small.yaml:6 method")
    assert problem in text
    assert "\n" not in text


def test_editors_are_told_the_names_or_the_form_of_a_path():
    text = str(sweep_schema())
    assert "'enum': ['grid', 'random', 'qmc'" in text
