"""The value at a place between 0 and 1: the quantiles of random draws."""

import random

import pytest

from orchestrator.sweep import Parameter
from orchestrator.trials.space import _draw, value_at

PARAMETERS = [
    Parameter(values=([1, 2], "a", None, True)),
    Parameter(distribution="uniform", min=-1.0, max=3.0),
    Parameter(distribution="uniform", min=0.1, max=1.0, step=0.3),
    Parameter(distribution="log_uniform", min=1e-5, max=1e-1),
    Parameter(distribution="int_uniform", min=3, max=11, step=4),
    Parameter(distribution="int_log_uniform", min=2, max=40),
]


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda each: each.distribution or "values")
def test_places_spread_evenly_give_what_is_drawn(parameter):
    rng = random.Random(0)
    drawn = [_draw(parameter, rng) for _ in range(4000)]
    found = [value_at(parameter, place / 4000) for place in range(4000)]
    if parameter.values or parameter.step or parameter.distribution == "int_log_uniform":
        assert set(map(repr, drawn)) <= set(map(repr, found))
        for value in parameter.values or sorted(set(found)):
            share = [sum(each == value for each in values) / 4000 for values in (drawn, found)]
            assert share[0] == pytest.approx(share[1], abs=0.03)
        return
    for share in (0.1, 0.5, 0.9):
        quantile = sorted(drawn)[int(share * 4000)]
        assert quantile == pytest.approx(found[int(share * 4000)], rel=0.25, abs=0.1)


def test_places_between_decades_are_spread_evenly():
    parameter = Parameter(distribution="log_uniform", min=1e-4, max=1.0)
    values = [value_at(parameter, place / 4) for place in range(4)]
    assert values == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda each: each.distribution or "values")
def test_both_ends_are_within(parameter):
    for place in (0.0, 1 - 2**-53):
        value = value_at(parameter, place)
        if parameter.values:
            assert value in parameter.values
        else:
            assert parameter.min <= value <= parameter.max
