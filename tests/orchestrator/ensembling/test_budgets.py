"""What an ensemble costs, and what a budget lets through."""

from __future__ import annotations

import math

import pytest

from orchestrator.ensembling.budgets import MEASURES, Budget, figures_of, resolved, written
from orchestrator.sweep.limits import EnsembleBudget
from tests.orchestrator.fake_run import Trial, result_of
from trainables.contract.errors import UserError

FIGURES = {
    "a": {"nonzero_params": 400.0, "latency_ms": 1.5, "members": 1.0, "bytes": 100.0},
    "b": {"nonzero_params": 500.0, "latency_ms": 2.0, "members": 1.0, "bytes": 200.0},
    "c": {"nonzero_params": 200.0, "members": 1.0},  # not timed, before files were measured
}


def test_a_network_counts_once_however_often_it_is_named() -> None:
    expected = {"nonzero_params": 900.0, "latency_ms": 3.5, "members": 2.0, "bytes": 300.0}
    assert Budget({}, FIGURES).cost(["a", "b", "a"]) == expected


@pytest.mark.parametrize(
    ("limits", "trials", "fits"),
    [
        ({}, ["a", "b", "c"], True),
        ({"nonzero_params": 900}, ["a", "b"], True),
        ({"nonzero_params": 899}, ["a", "b"], False),
        ({"members": 2}, ["a", "b", "a"], True),
        ({"members": 1}, ["a", "b"], False),
        ({"latency_ms": 3.5, "bytes": 299}, ["a", "b"], False),
        ({"nonzero_params": 1e9}, ["a", "c"], True),
        ({"latency_ms": 1e9}, ["a", "c"], False),
        ({"members": 1}, ["unknown"], False),
    ],
)
def test_every_limit_must_hold(limits, trials, fits: bool) -> None:
    budget = Budget(limits, FIGURES)
    assert budget.fits(trials) is fits
    assert bool(budget.excess(trials)) is not fits


def test_what_exceeds_a_limit_is_said_with_cost_and_limit() -> None:
    text = Budget({"nonzero_params": 899, "members": 5}, FIGURES).excess(["a", "b"])
    assert text == "nonzero_params 900, the limit is 899"
    assert Budget({"latency_ms": 9}, FIGURES).excess(["a", "c"]) == "latency_ms of c is not known"


def test_the_figures_are_those_of_the_deploy_form() -> None:
    cost = result_of(Trial("joint", 0.6, latency=2.5)).cost
    assert figures_of(cost) == {"nonzero_params": 200.0, "latency_ms": 2.5, "members": 1.0}
    known = figures_of(cost.model_copy(update={"deploy_bytes": 7, "sparse_latency_ms": 1.5}))
    assert tuple(known) == MEASURES
    assert known["bytes"] == 7


@pytest.mark.parametrize(
    ("figure", "text"),
    [(12345.0, "12,345"), (31234.5, "31,234.5"), (3.25, "3.25"), (1, "1")],
)
def test_figures_are_written_for_people(figure: float, text: str) -> None:
    assert written(figure) == text


@pytest.mark.parametrize(
    ("limits", "trials", "share"),
    [
        ({}, ["a"], 0.0),
        ({"nonzero_params": 1200}, ["a", "b"], 0.75),
        ({"nonzero_params": 1200, "members": 1}, ["a", "b"], 2.0),
        ({"nonzero_params": 1200, "latency_ms": 9}, ["a", "c"], math.inf),
        ({"members": 0}, [], math.inf),
    ],
)
def test_the_largest_share_of_a_limit(limits, trials, share: float) -> None:
    assert Budget(limits, FIGURES).share(trials) == share


def costs(**changes):
    return result_of(Trial("joint", 0.6)).cost.model_copy(update=changes)


def test_limits_are_numbers_or_shares_of_the_dense_network() -> None:
    dense = costs(deploy_nonzero_params=1000, deploy_latency_ms=4.0)
    asked = EnsembleBudget(nonzero_params="0.66x", latency_ms="0.5x", members=3, bytes=100)
    budget = resolved(asked, {"a": costs()}, dense, None)
    assert budget.limits == {
        "nonzero_params": pytest.approx(660.0),
        "latency_ms": 2.0,
        "members": 3.0,
        "bytes": 100.0,
    }
    assert budget.figures == {"a": figures_of(costs())}


def test_a_network_without_its_mask_has_as_many_parameters_as_a_dense_one() -> None:
    unmasked = costs(deploy_params=800)
    budget = resolved(EnsembleBudget(nonzero_params="0.5x"), {}, None, unmasked)
    assert budget.limits == {"nonzero_params": 400.0}
    for asked in (EnsembleBudget(latency_ms="0.5x"), EnsembleBudget(bytes="0.5x")):
        with pytest.raises(UserError, match=r"0\.5x is relative to .*, and there is no"):
            resolved(asked, {}, None, unmasked)
    with pytest.raises(UserError, match=r"params 0\.5x is relative .* and there is none;"):
        resolved(EnsembleBudget(nonzero_params="0.5x"), {}, None, None)
    with pytest.raises(UserError, match="and that of the dense one is not known; give a number"):
        resolved(EnsembleBudget(latency_ms="1x"), {}, costs(deploy_latency_ms=None), unmasked)
