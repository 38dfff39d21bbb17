"""Searches keep their laws, and what breaks one is noticed."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest

from orchestrator.laws.search import CARD_LAWS, LAWS
from orchestrator.search.listed import ListedSearch
from orchestrator.sweep.searches import SEARCHES, SearchCard
from tests.strangers import stranger
from trainables.laws.law import held_to

OUTSIDE = Path(__file__).parents[2] / "outside"
BY_NAME = {law.says: law for law in (*CARD_LAWS, *LAWS)}
EACH_ONCE = "proposes trials of its cell, each once"
EVERY_END = "takes every end of a trial"
WHAT_IS_LEFT = "goes on with what is left after an interruption"


SLOW = pytest.param("gp", marks=pytest.mark.full)  # a second for every proposal


@pytest.mark.parametrize(
    "search",
    [*(name for name in SEARCHES.own if name != "gp"), SLOW, "choices.first_few_card:CARD"],
)
def test_a_search_keeps_the_laws(monkeypatch, search):
    monkeypatch.syspath_prepend(OUTSIDE)
    verdicts = list(held_to((*CARD_LAWS, *LAWS), {"search": search}))
    assert [verdict.reason for verdict in verdicts] == [""] * len(verdicts)


class Endless(ListedSearch):
    def __init__(self, trials):
        self._trials = list(trials)

    def ask(self):
        return self._trials[0] if self._trials else None


class Shuffled(ListedSearch):
    def __init__(self, trials):
        trials = list(trials)
        random.SystemRandom().shuffle(trials)
        super().__init__(trials)


class OneMore(ListedSearch):
    """Begins again after it has said that it needs no more."""

    def __init__(self, trials):
        super().__init__(trials)
        self._first = list(trials)[:1]

    def ask(self):
        trial = super().ask()
        if trial is None:
            self._waiting = deque(self._first)
        return trial


class Counting(ListedSearch):
    """Takes it for granted that clips were held out."""

    def tell(self, trial, outcome):
        if outcome.result is not None:
            float(outcome.result.metrics()["selection_top1"])


class Remembering(ListedSearch):
    """Proposes what it was given in the first place, whatever is left of it."""

    first = None

    def __init__(self, trials):
        type(self).first = type(self).first or list(trials)
        super().__init__(self.first)


class Silent:
    def __init__(self, trials):
        pass

    def ask(self):
        return None


@pytest.mark.parametrize(
    ("search", "law", "reason"),
    [
        (Endless, EACH_ONCE, "with at_once=1: it proposes more than the 12 trials there are"),
        (OneMore, EACH_ONCE, "with at_once=1: a search that needs no more must stay with that"),
        (Shuffled, "proposes the same after the same ends", "must lead to the same trials"),
        (Counting, EVERY_END, "KeyError: 'selection_top1'"),
        (Remembering, WHAT_IS_LEFT, "only trials that have not ended may be proposed again"),
        (Silent, "has a card that names a search", "must make a search with tell"),
    ],
)
def test_a_law_notices_who_breaks_it(monkeypatch, search, law, reason):
    path = stranger(monkeypatch, SearchCard, search)
    (verdict,) = held_to([BY_NAME[law]], {"search": path})
    assert reason in verdict.reason
