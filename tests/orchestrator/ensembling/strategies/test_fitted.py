"""Weights and temperatures that are fitted by log-loss."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.ensembling.evaluate import accuracy
from orchestrator.ensembling.strategies import simplex, stacking, temperature
from orchestrator.ensembling.strategies.temperatures import LARGEST, best_temperature
from tests.naive_strategies import em_weights, shares, stacked_loss
from tests.orchestrator.ensembling.strategies.made_sources import made, of, reordered
from trainables.contract.errors import UserError

CHOICES = {
    "simplex": lambda s: simplex.choose(s, simplex.Options()),
    "stacking": lambda s: stacking.choose(s, stacking.Options()),
    "temperature": lambda s: temperature.choose(s, None),
}


def test_simplex_weights_are_those_of_the_em_algorithm():
    for seed in range(3):
        sources = made(5, 200, seed=seed)
        own = np.stack(
            [
                shares(rows, "probabilities")[np.arange(200), sources.labels]
                for rows in sources.values
            ]
        )
        twin = em_weights(own, 5000)
        found = simplex.choose(sources, simplex.Options()).weights
        assert sum(found.values()) == pytest.approx(1)
        ours = -np.log(sum(found.get(name, 0) * own[i] for i, name in enumerate("abcde"))).mean()
        assert ours <= -np.log(twin @ own).mean() + 1e-5
        assert [found.get(name, 0) for name in "abcde"] == pytest.approx(twin, abs=0.01)


def test_simplex_weights_of_logits_cannot_be_improved():
    sources = made(4, 300, combine="logits")
    found = simplex.choose(sources, simplex.Options()).weights
    best = np.array([found.get(name, 0) for name in "abcd"])
    here = stacked_loss(best, sources.values, sources.labels)
    for source in range(4):
        for step in (-0.02, 0.02):
            other = np.maximum(best + step * (np.arange(4) == source), 0)
            other /= other.sum()
            assert stacked_loss(other, sources.values, sources.labels) >= here - 1e-6


def test_a_pull_leads_towards_equal_weights():
    sources = made(4, 100)
    spread = [
        np.ptp(
            [simplex.choose(sources, simplex.Options(pull=pull)).weights.get(n, 0) for n in "abcd"]
        )
        for pull in (0, 0.1, 10)
    ]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 0.01


@pytest.mark.parametrize("pull", [0.003, 0.03])
def test_a_pulled_choice_is_the_best_compromise(pull):
    """log-loss + pull / S * sum_i (S w_i - 1)^2 grows in every direction."""
    sources = made(4, 300, combine="logits")
    found = simplex.choose(sources, simplex.Options(pull=pull)).weights
    best = np.array([found.get(name, 0) for name in "abcd"])

    def cost(weights):
        away = 4 * weights - 1
        loss = stacked_loss(weights, sources.values, sources.labels)
        return loss + pull / 4 * float(away @ away)

    here = cost(best)
    assert here < cost(np.full(4, 0.25)) - 1e-4
    for source in range(4):
        for step in (-0.02, -0.0005, 0.0005, 0.02):
            other = np.maximum(best + step * (np.arange(4) == source), 0)
            assert cost(other / other.sum()) >= here - 1e-7


def test_a_source_that_only_harms_is_left_out():
    sources = made(3, 300)
    wrong = of([*sources.values, -3 * sources.values[0]], sources.labels)
    assert "d" not in simplex.choose(wrong, simplex.Options()).weights
    logits = of(wrong.values, wrong.labels, combine="logits")
    assert "d" not in stacking.choose(logits, stacking.Options()).weights


def test_stacking_finds_the_sharpness_that_a_mean_cannot():
    """Sources that are too sure: the sum of the weights is well below 1."""
    sources = made(3, 400)
    sure = of(6 * sources.values, sources.labels, combine="logits")
    found = stacking.choose(sure, stacking.Options()).weights
    mean = np.full(3, 1 / 3)
    ours = np.array([found.get(name, 0) for name in "abc"])
    assert sum(found.values()) < 0.8
    assert stacked_loss(ours, sure.values, sure.labels) < stacked_loss(
        mean, sure.values, sure.labels
    )


def test_stacking_on_few_clips_stays_near_the_mean_and_is_never_without_folds():
    few = made(6, 20, combine="logits", seed=1)
    found = stacking.choose(few, stacking.Options()).weights
    assert min(found.get(name, 0) for name in few.members) > 0
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        stacking.Options(folds=1)
    with pytest.raises(UserError, match="must sum logits, got combine probabilities"):
        stacking.choose(made(3), stacking.Options())


def test_stacking_without_a_source_better_than_none_weighs_all_alike():
    sources = made(3, 200)
    bad = of(-sources.values, sources.labels, combine="logits")
    assert stacking.choose(bad, stacking.Options()).weights == pytest.approx(
        dict.fromkeys("abc", 1 / 3)
    )


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_order_one_source_and_no_clips(name):
    choose, order = CHOICES[name], (2, 0, 3, 1)
    combine = "logits" if name == "stacking" else "probabilities"
    sources = made(4, 200, combine=combine)
    assert choose(reordered(sources, order)).weights == pytest.approx(
        choose(sources).weights, abs=2e-3
    )
    assert set(choose(made(1, combine=combine)).weights) == {"a"}
    with pytest.raises(UserError, match="must have clips that were held out, got none"):
        choose(made(3, 0, combine=combine))


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_temperature_is_the_best_of_a_fine_grid(sharpness):
    sources = made(1, 300)
    logits = sources.values[0] * np.float32(sharpness)
    found = best_temperature(logits, sources.labels)

    def at(temperature):
        found = accuracy(logits / temperature, sources.labels, logits=True).cross_entropy
        assert found is not None
        return found

    assert at(found) <= min(at(each) for each in np.geomspace(0.05, 20, 200)) + 1e-9


def test_a_temperature_has_limits():
    labels = np.arange(3)
    right = np.eye(3, dtype=np.float32)
    assert best_temperature(right, labels) == 1 / LARGEST
    assert best_temperature(-right, labels) == LARGEST


def test_temperatures_say_nothing_of_normalised_logits():
    with pytest.raises(UserError, match="temperature: must be false where normalised"):
        temperature.choose(made(3, combine="normalised"), None)
    with pytest.raises(UserError, match="temperature: must be false where normalised"):
        simplex.choose(made(3, combine="normalised"), simplex.Options(temperature=True))


def test_every_source_has_a_temperature_of_its_own_and_the_same_weight():
    sources = made(3, 300)
    sure = of(sources.values * np.float32([[[1]], [[5]], [[0.2]]]), sources.labels)
    choice = temperature.choose(sure, None)
    assert choice.weights == pytest.approx(dict.fromkeys("abc", 1 / 3))
    for name, rows in zip("abc", sure.values, strict=True):
        assert choice.temperatures[name] == pytest.approx(best_temperature(rows, sure.labels))


def test_what_a_sweep_may_write_for_simplex():
    assert simplex.Options().model_dump() == {"pull": 0.0, "temperature": False}
    for pull in (-0.1, float("inf")):
        with pytest.raises(ValidationError):
            simplex.Options(pull=pull)
    softened, plain = simplex.Options(temperature=True), simplex.Options()
    assert [place for place, _ in simplex.refusals(softened, "normalised", 0)] == [
        "options.temperature"
    ]
    assert list(simplex.refusals(softened, "logits", 0)) == []
    assert list(simplex.refusals(plain, "normalised", 0)) == []
    assert simplex.CARD.needs_selection
    assert simplex.CARD.fits_probabilities
