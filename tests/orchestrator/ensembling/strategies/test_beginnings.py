"""Several small networks may be a better use of a budget than the best single one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensembling.budgets import Budget
from orchestrator.ensembling.strategies.greedy import Options, choose
from orchestrator.ensembling.strategies.rules import Rules
from orchestrator.ensembling.strategies.sources import Sources
from tests.orchestrator.ensembling.strategies.made_sources import costing, made

CLIPS, CLASSES = 12, 3
LABELS = np.arange(CLIPS) % CLASSES
SIZES = {"large": 10.0, "a": 4.0, "b": 4.0}


def table(wrong: range) -> np.ndarray:
    """Sure of the right class, but for the clips numbered in `wrong`, where it slightly errs."""
    rows = np.eye(CLASSES, dtype=np.float32)[LABELS] * 3
    rows[wrong] = 0
    rows[wrong, (LABELS[wrong] + 1) % CLASSES] = 0.5
    return rows


def sources(limit: float | None, **sizes: float) -> Sources:
    """`large` errs on two clips, the small ones on three each, not on the same."""
    figures = {
        name: {"nonzero_params": size, "members": 1.0, "latency_ms": 30 - size}
        for name, size in {**SIZES, **sizes}.items()
    }
    return Sources(
        members=tuple(SIZES),
        values=np.stack([table(range(2)), table(range(3, 6)), table(range(6, 9))]),
        labels=LABELS,
        ids=tuple(map(str, range(CLIPS))),
        given={},
        budget=Budget({} if limit is None else {"nonzero_params": limit}, figures),
    )


def beginnings(seen: Sources) -> list[list[str]]:
    return [
        [name for name, allowed in zip(seen.members, each.allowed, strict=True) if allowed]
        for each in Rules.of(seen, 1.0, 50).beginnings()
    ]


@pytest.mark.parametrize(
    ("seen", "chosen"),
    [
        (sources(10), {"a", "b"}),
        (sources(10, a=6.0), {"a", "b"}),  # the budget need not be shared out evenly
        (sources(7), {"a"}),  # what fits only once is chosen alone
    ],
)
def test_two_small_networks_take_the_place_of_a_large_one(seen: Sources, chosen: set[str]):
    assert set(choose(seen, Options()).weights) == chosen


def test_without_a_budget_there_is_one_beginning():
    assert beginnings(sources(None)) == [["large", "a", "b"]]


def test_every_limit_counts():
    """By size two small ones fit, but the small ones are the slow ones."""
    seen = sources(10)
    both = Budget({"nonzero_params": 10, "latency_ms": 40}, seen.budget.figures)
    assert beginnings(seen) == [["large", "a", "b"], ["a", "b"]]
    assert beginnings(replace(seen, budget=both)) == [["large", "a", "b"]]


def test_of_equally_good_choices_the_one_that_takes_less_is_taken():
    seen = sources(20)
    rows = np.stack([table(range(0))] * 3)
    assert choose(replace(seen, values=rows), Options()).weights == {"a": 1.0}


def test_a_cap_that_some_sources_cannot_keep_alone_is_no_error():
    fields = {"families": ("x", "x", "y", "y"), **costing((2, 2, 8, 8), 10)}
    seen = made(4, **fields)
    weights = choose(seen, Options(cap=0.5)).weights
    assert set(weights.values()) == {0.5}
    assert {seen.families[seen.members.index(name)] for name in weights} == {"x", "y"}


def test_the_metric_decides_which_beginning_is_taken():
    seen = made(6, 80, 4, 5, **costing((9, 3, 3, 3, 4, 5), 10))

    def loss(weights):
        mean = sum(
            weight * softmax(seen.values[seen.members.index(name)])
            for name, weight in weights.items()
        )
        return -np.log(mean[np.arange(80), seen.labels]).mean()

    def softmax(rows):
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    by_loss, by_right = (choose(seen, Options(metric=m)).weights for m in ("log_loss", "top1"))
    assert loss(by_loss) < loss(by_right)
