"""Several small networks may be a better use of a budget than the best single one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orchestrator.ensembling.budgets import Budget
from orchestrator.ensembling.strategies.greedy import Options, choose
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.ensembling.within_budget import best_within_budget

CLIPS, CLASSES = 12, 3
LABELS = np.arange(CLIPS) % CLASSES
SIZES = {"large": 10.0, "a": 4.0, "b": 4.0}


def table(wrong: range) -> np.ndarray:
    """Sure of the right class, but for the clips numbered in `wrong`, where it slightly errs."""
    rows = np.eye(CLASSES, dtype=np.float32)[LABELS] * 3
    rows[wrong] = 0
    rows[wrong, (LABELS[wrong] + 1) % CLASSES] = 0.5
    return rows


def sources(limit: float | None) -> Sources:
    """`large` errs on two clips, the small ones on three each, not on the same."""
    figures = {name: {"nonzero_params": size, "members": 1.0} for name, size in SIZES.items()}
    return Sources(
        members=tuple(SIZES),
        values=np.stack([table(range(2)), table(range(3, 6)), table(range(6, 9))]),
        labels=LABELS,
        ids=tuple(map(str, range(CLIPS))),
        given={},
        budget=Budget({} if limit is None else {"nonzero_params": limit}, figures),
    )


def greedy(seen: Sources) -> Choice:
    return choose(seen, Options())


def test_two_small_networks_take_the_place_of_a_large_one():
    assert set(greedy(sources(10)).weights) == {"large"}
    assert set(best_within_budget(greedy, sources(10)).weights) == {"a", "b"}


def test_networks_need_not_share_the_budget_evenly():
    seen = sources(10)
    figures = {**seen.budget.figures, "a": {"nonzero_params": 6.0, "members": 1.0}}
    uneven = replace(seen, budget=Budget({"nonzero_params": 10}, figures))
    assert set(best_within_budget(greedy, uneven).weights) == {"a", "b"}


def test_what_fits_only_once_is_chosen_alone():
    assert set(best_within_budget(greedy, sources(7)).weights) == {"a"}


def test_without_a_budget_the_strategy_is_asked_once():
    asked: list[Sources] = []

    def watched(seen: Sources) -> dict[str, float]:
        asked.append(seen)
        return {"a": 1.0}

    assert best_within_budget(watched, sources(None)).weights == {"a": 1.0}
    assert len(asked) == 1


def test_of_equally_good_choices_the_cheaper_is_taken():
    def first(seen: Sources) -> dict[str, float]:
        return {"large": 1.0} if "large" in seen.members else {"a": 1.0, "b": 1.0}

    equal = sources(10)
    rows = np.stack([table(range(0))] * 3)
    made = Sources(equal.members, rows, LABELS, equal.ids, {}, budget=equal.budget)
    assert set(best_within_budget(first, made).weights) == {"a", "b"}
