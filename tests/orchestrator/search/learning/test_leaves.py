"""Leaves as Optuna sees them, and back: what a sampler says is what a trial gets."""

import random

import pytest

from orchestrator.search.learning.leaves import leaf_of
from orchestrator.sweep import Parameter
from orchestrator.trials.space import _draw

PARAMETERS = {
    "any kind": Parameter(values=([1, 2], {"a": 1}, "a", None, True, 1, 1.0, [])),
    "two numbers": Parameter(values=(8, 4)),
    "numbers": Parameter(values=(32, 4, 8.5, 16)),
    "booleans": Parameter(values=(True, False)),
    "uniform": Parameter(distribution="uniform", min=-1.0, max=3.0),
    "steps": Parameter(distribution="uniform", min=0.1, max=1.0, step=0.2),
    "log": Parameter(distribution="log_uniform", min=1e-5, max=1e-1),
    "whole": Parameter(distribution="int_uniform", min=3, max=12, step=4),
    "whole log": Parameter(distribution="int_log_uniform", min=2, max=40),
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_every_value_that_can_be_drawn_can_be_said_and_comes_back(kind):
    parameter, rng = PARAMETERS[kind], random.Random(0)
    leaf = leaf_of(parameter)
    for _ in range(200):
        value = _draw(parameter, rng)
        said = leaf.suggested(value)
        internal = leaf.distribution.to_internal_repr(said)
        assert leaf.distribution._contains(internal)
        back = leaf.value(leaf.distribution.to_external_repr(internal))
        assert (repr(back), type(back)) == (repr(value), type(value))


@pytest.mark.parametrize("kind", PARAMETERS)
def test_what_the_space_does_not_hold_cannot_be_said(kind):
    leaf = leaf_of(PARAMETERS[kind])
    for value in (1000, -5.5, "b", False if kind != "booleans" else "x", [3]):
        assert leaf.suggested(value) is None


def test_a_value_between_steps_cannot_be_said():
    assert leaf_of(PARAMETERS["steps"]).suggested(0.2) is None
    assert leaf_of(PARAMETERS["whole"]).suggested(4) is None
    assert leaf_of(PARAMETERS["whole"]).suggested(7) == 7


def test_numbers_are_ranked_and_two_of_them_are_not():
    ranked, plain = leaf_of(PARAMETERS["numbers"]), leaf_of(PARAMETERS["two numbers"])
    assert [ranked.value(rank) for rank in range(4)] == [4, 8.5, 16, 32]
    assert plain.distribution.choices == ("8", "4")
