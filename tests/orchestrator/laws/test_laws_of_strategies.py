"""Strategies keep their laws, and what breaks one is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.ensembling.strategies.sources import Choice
from orchestrator.laws.strategy import CARD_LAWS, LAWS
from orchestrator.sweep.strategies import STRATEGIES, StrategyCard
from tests.strangers import stranger
from trainables.laws.law import held_to

OUTSIDE = Path(__file__).parents[2] / "outside"
BY_NAME = {law.says: law for law in (*CARD_LAWS, *LAWS)}
WEIGHTS = "gives finite weights to its sources"
ALONE = "leaves scores and labels as they are"
CALLS = iter(range(1000))


@pytest.mark.parametrize("strategy", [*STRATEGIES.own, "choices.best_half:CARD"])
def test_a_strategy_keeps_the_laws(monkeypatch, strategy):
    monkeypatch.syspath_prepend(OUTSIDE)
    verdicts = list(held_to((*CARD_LAWS, *LAWS), {"strategy": strategy}))
    assert [verdict.reason for verdict in verdicts] == [""] * len(verdicts)


def equal(sources):
    return dict.fromkeys(sources.members, 1.0)


def by_accuracy(sources):
    return {
        name: float((values.argmax(axis=1) == sources.labels).mean())
        for name, values in zip(sources.members, sources.values, strict=True)
    }


@pytest.mark.parametrize(
    ("choose", "law", "reason"),
    [
        (lambda s: equal(s) | {"nobody": 1.0}, WEIGHTS, "nobody is no source"),
        (lambda s: {}, WEIGHTS, "sources: one weight at least must be above 0"),
        (lambda s: dict.fromkeys(s.members, float("nan")), WEIGHTS, "must be finite"),
        (lambda s: dict.fromkeys(s.members, -1.0), WEIGHTS, "must be finite and not negative"),
        (lambda s: Choice(equal(s), {s.members[0]: 0.0}), WEIGHTS, "the temperature of cell-0"),
        (lambda s: list(s.members), WEIGHTS, "must give a mapping of weights or a Choice, got li"),
        (
            lambda s: {s.members[0]: 1 / len(s.ids)},
            "needs no selection clips, or says so in its card",
            "with sources=1, clips=0: ZeroDivisionError",
        ),
        (by_accuracy, "needs no selection clips, or says so in its card", "must be finite"),
        (
            lambda s: {s.members[0]: float(next(CALLS) + 1)},
            "answers the same twice",
            "the same scores must give the same weights",
        ),
        (
            lambda s: {s.members[0]: np.random.random() + 1},  # noqa: NPY002
            "answers the same twice",
            "nothing may be drawn from numpy's global generator",
        ),
        (lambda s: s.values.sort() or equal(s), ALONE, "ValueError"),
        (lambda s: s.labels.__setitem__(0, 1) or equal(s), ALONE, "ValueError"),
    ],
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_a_law_notices_who_breaks_it(monkeypatch, choose, law, reason):
    path = stranger(monkeypatch, StrategyCard, lambda sources, options: choose(sources))
    (verdict,) = held_to([BY_NAME[law]], {"strategy": path})
    assert reason in verdict.reason


def test_who_promises_to_keep_a_budget_must(monkeypatch):
    path = stranger(monkeypatch, StrategyCard, lambda sources, _: equal(sources), keeps_budget=True)
    (verdict,) = held_to([BY_NAME["keeps a budget, or does not promise it"]], {"strategy": path})
    assert "it keeps a budget, got nonzero_params 21, the limit is 3" in verdict.reason


def test_who_says_that_it_needs_selection_clips_is_not_asked_without(monkeypatch):
    path = stranger(
        monkeypatch, StrategyCard, lambda sources, _: by_accuracy(sources), needs_selection=True
    )
    law = BY_NAME["needs no selection clips, or says so in its card"]
    (verdict,) = held_to([law], {"strategy": path})
    assert verdict.kept
