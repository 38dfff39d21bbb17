"""Greedy selection: identical to the naive loop, and within its rules."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.ensembling.budgets import Budget
from orchestrator.ensembling.strategies import rivals
from orchestrator.ensembling.strategies.greedy import CARD, Options, choose, refusals
from tests.naive_strategies import greedy, log_loss, shares
from tests.orchestrator.ensembling.strategies.made_sources import costing, made, of, reordered
from trainables.contract.errors import UserError


def naive(sources, rounds, metric="top1", allowed=None):
    """The weights of the best prefix of the naive loop."""
    tables = [shares(rows, sources.combine) for rows in sources.values]
    bag, length = greedy(tables, sources.labels, rounds, metric, sources.combine, allowed)
    votes = Counter(sources.members[source] for source in bag[:length])
    return {name: votes[name] / length for name in sources.members if votes[name]}


@pytest.mark.parametrize("metric", ["top1", "log_loss"])
@pytest.mark.parametrize("combine", ["probabilities", "logits", "normalised"])
@pytest.mark.parametrize("digits", [None, 0, 1])
def test_picks_are_those_of_the_naive_loop(combine, metric, digits):
    for seed in range(3):
        sources = made(6, 90, 5, seed, digits, combine=combine)
        found = choose(sources, Options(metric=metric, rounds=15)).weights
        assert found == pytest.approx(naive(sources, 15, metric), abs=1e-12)


def test_picks_are_the_same_in_small_blocks(monkeypatch):
    sources = made(6, 150, 5, digits=1)
    whole = choose(sources, Options()).weights
    monkeypatch.setattr(rivals, "CHUNK", 64)
    assert choose(sources, Options()).weights == whole


def test_a_class_that_wins_by_rounding_alone_is_not_lost_sight_of():
    """Sums of differences that single precision cannot hold: the first class wins the tie."""
    tiny = np.float32(2**-22)
    values = [[[9.0, 9.0 + tiny, 0.0]] * 3, [[9.0, 9.0 + tiny, 0.0]] * 3]
    sources = of(values, [1, 1, 1], combine="logits")
    assert choose(sources, Options(rounds=12)).weights == naive(sources, 12)


def test_equal_models_do_not_both_enter_and_one_in_the_sum_is_preferred():
    sources = made(3)
    twice = of(np.stack([*sources.values, sources.values[0]]), sources.labels)
    assert choose(twice, Options()).weights == choose(sources, Options()).weights


def test_weights_do_not_depend_on_the_order_of_the_sources():
    sources, order = made(6, 200), (3, 1, 5, 0, 4, 2)
    for options in (Options(), Options(metric="log_loss"), Options(bags=4), Options(cap=0.4)):
        there = choose(reordered(sources, order), options).weights
        assert there == pytest.approx(choose(sources, options).weights)


def test_one_source_has_all_of_the_weight():
    assert choose(made(1), Options(bags=3)).weights == {"a": 1.0}


def test_the_best_single_source_is_in_and_weights_have_the_sum_1():
    sources = made(8, 300)
    best = (sources.values.argmax(axis=2) == sources.labels).sum(axis=1).argmax()
    weights = choose(sources, Options()).weights
    assert weights[sources.members[best]] > 0
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("bags", [1, 5])
@pytest.mark.parametrize("over", ["clips", "members"])
@pytest.mark.parametrize("most", [3, 7, 12])
def test_the_budget_is_never_exceeded(most, over, bags):
    for seed in range(4):
        costs = np.random.default_rng(seed).integers(1, 6, 8).tolist()
        sources = made(8, 60, 4, seed, **costing(costs, most))
        options = Options(rounds=10, bags=bags, bag_over=over, seed=seed)
        chosen = choose(sources, options).weights
        assert sum(costs[sources.members.index(name)] for name in chosen) <= most


@pytest.mark.parametrize("metric", ["top1", "log_loss"])
def test_within_a_budget_the_picks_are_those_of_the_best_naive_loop(metric):
    """Of all sources, of those that leave room for the cheapest, and of small ones alone."""
    gained = 0
    for seed in range(12):
        costs, most = np.random.default_rng(seed).integers(2, 10, 6).tolist(), 10
        sources = made(6, 80, 4, seed, **costing(costs, most))
        tables = [shares(rows, "probabilities") for rows in sources.values]
        tried = []
        for limit in (most, most - min(costs), most / 2, most / 3, most / 4):
            small = [i for i in range(6) if costs[i] <= limit or costs[i] == min(costs)]
            some = [i for i in small if costs[i] <= limit or limit == most - min(costs)]

            def allowed(bag, some=some, costs=costs, most=most):
                return [i for i in some if sum(costs[j] for j in {*bag, i}) <= most]

            weights = naive(sources, 8, metric, allowed) if len(some) > 1 or not tried else {}
            if weights:
                numbers = [sources.members.index(name) for name in weights]
                parts = zip(weights.values(), numbers, strict=True)
                total = sum(weight * tables[i] for weight, i in parts)
                wrong = int((total.argmax(axis=1) != sources.labels).sum())
                loss = round(log_loss(total, 1, sources.labels, "probabilities"), 6)
                cost = sum(costs[i] for i in numbers)
                tried.append(((wrong if metric == "top1" else 0, loss, cost), weights))
        best = min(tried, key=lambda each: each[0])
        gained += best[0] < tried[0][0]
        assert choose(sources, Options(rounds=8, metric=metric)).weights == pytest.approx(best[1])
    assert gained


def test_networks_that_sources_share_are_paid_once():
    figures = {name: {"members": 1.0} for name in "xyz"}
    networks = (frozenset("xy"), frozenset("xyz"), frozenset("z"))
    sources = made(3, 400, networks=networks, budget=Budget({"members": 2}, figures))
    assert set(choose(sources, Options()).weights) in ({"a"}, {"c"})
    wider = made(3, 400, networks=networks, budget=Budget({"members": 3}, figures))
    assert len(choose(wider, Options()).weights) > 1


@pytest.mark.parametrize("cap", [0.5, 0.34, 0.4, 0.75])
@pytest.mark.parametrize("bags", [1, 4])
def test_no_family_has_more_than_its_share(cap, bags):
    for seed in range(4):
        sources = made(7, 80, 4, seed, families=("x", "x", "x", "y", "y", "z", ""))
        weights = choose(sources, Options(cap=cap, bags=bags, rounds=20)).weights
        shared = Counter()
        for name, weight in weights.items():
            shared[sources.families[sources.members.index(name)]] += weight
        assert max(shared.values()) <= cap + 1e-9


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        (costing((5, 3, 4), 2), {}, "budget: must let in one source, but of b, the smallest, non"),
        ({"families": ("x", "x", "y")}, {"cap": 0.4}, "cap: must be at least 1 / 2 with 2 famil"),
        ({}, {"cap": 0.34, "rounds": 2}, "cap: must be at least 1 / 2 with 2 rounds, or more"),
        (
            {"families": ("x", "x", "y"), **costing((1, 1, 9), 2)},
            {"cap": 0.5},
            "no sum of those within the budget keeps the cap 0.5",
        ),
    ],
)
def test_what_admits_no_ensemble_is_refused(fields, options, message):
    with pytest.raises(UserError, match=message):
        choose(made(3, **fields), Options(**options))


def test_without_clips_there_is_nothing_to_choose_on():
    with pytest.raises(UserError, match="must have clips that were held out, got none"):
        choose(made(3, 0), Options())


@pytest.mark.parametrize(
    "options",
    [
        {"rounds": 0},
        {"bags": 0},
        {"cap": 0.0},
        {"cap": 1.1},
        {"cap": float("nan")},
        {"metric": "top5"},
        {"bag_over": "classes"},
        {"seed": -1},
        {"round": 3},
    ],
)
def test_options_of_no_meaning_are_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


def test_bags_are_drawn_from_the_seed_and_differ_between_seeds():
    sources = made(6, 80, 5)
    once = choose(sources, Options(bags=5, seed=3)).weights
    assert choose(sources, Options(bags=5, seed=3)).weights == once
    assert choose(sources, Options(bags=5, seed=4)).weights != once
    assert choose(sources, Options(bags=5, bag_over="members", seed=3)).weights != once


def test_a_bag_over_clips_is_greedy_on_the_drawn_clips():
    sources = made(4, 60)
    draw = np.random.default_rng(7)
    total = Counter()
    for _ in range(3):
        rows = draw.integers(60, size=60)
        drawn = of(sources.values[:, rows], sources.labels[rows])
        total.update(naive(drawn, 8))
    found = choose(sources, Options(rounds=8, bags=3, seed=7)).weights
    assert found == pytest.approx({name: total[name] / 3 for name in "abcd" if total[name]})


def test_each_source_is_softened_by_its_own_temperature_when_asked():
    sources = made(3, 400, combine="probabilities")
    hot = of(sources.values * np.float32([[[1]], [[9]], [[1]]]), sources.labels)
    choice = choose(hot, Options(temperature=True, metric="log_loss"))
    alike = choose(sources, Options(temperature=True, metric="log_loss"))
    assert choice.weights == alike.weights
    assert choice.temperatures["b"] == pytest.approx(9 * alike.temperatures["b"], rel=1e-3)


def test_what_cannot_be_kept_is_refused_before_scores_are_read():
    def refused(combine="probabilities", families=0, **options):
        return [place for place, _ in refusals(Options(**options), combine, families)]

    assert refused(temperature=True) == refused("normalised") == []
    assert refused("normalised", temperature=True) == ["options.temperature"]
    assert refused(cap=0.3) == refused(families=4, cap=0.3) == refused(families=1) == []
    assert refused(families=3, cap=0.3) == ["options.cap"]
    assert refused(families=4, cap=0.3, rounds=3) == ["options.cap"]


@pytest.mark.parametrize(
    ("option", "fits", "does_not"),
    [
        ("rounds", (1, 1000), (0, 1001)),
        ("bags", (1, 1000), (0, 1001)),
        ("cap", (0.01, 1.0), (0.0, 1.01)),
        ("seed", (0,), (-1,)),
    ],
)
def test_options_have_bounds(option, fits, does_not):
    for value in fits:
        assert getattr(Options(**{option: value}), option) == value
    for value in does_not:
        with pytest.raises(ValidationError):
            Options(**{option: value})


def test_defaults_stay_as_they_are_documented():
    """Sweeps that do not write them would be of other ensembles."""
    assert Options().model_dump() == {
        "metric": "top1",
        "rounds": 50,
        "bags": 1,
        "bag_over": "clips",
        "cap": 1.0,
        "temperature": False,
        "seed": 0,
    }
    assert CARD.needs_selection
    assert CARD.keeps_budget
