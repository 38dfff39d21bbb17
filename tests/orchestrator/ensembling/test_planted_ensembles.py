"""Ensembles that choose themselves, on planted cases whose true accuracy is known: what selection
says of them, and what the honest figures do.
"""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensembling.cross_fitting import combined, cross_fitted
from orchestrator.ensembling.evaluate import ranks
from orchestrator.ensembling.statistics.intervals import interval
from orchestrator.ensembling.statistics.luck import Bags, luck, out_of_bag_of
from orchestrator.ensembling.strategies.greedy import Options, choose
from tests.orchestrator.ensembling.strategies.made_sources import of

CLASSES, CLIPS, MEMBERS = 4, 120, 10
NOISE = [0.0] * MEMBERS
SOME_KNOW = [1.5, 1.5, *[0.0] * (MEMBERS - 2)]
FULL = pytest.mark.full


def greedy(sources):
    return choose(sources, Options(rounds=5))


def planted(rng, clips, skill):
    """`skill` (S,): how far a member's logit of the right class stands out; 0 is pure noise."""
    labels = rng.integers(CLASSES, size=clips)
    values = rng.normal(size=(len(skill), clips, CLASSES)).astype(np.float32)
    values[:, np.arange(clips), labels] += np.asarray(skill)[:, None]
    return of(values, labels)


def accuracy_of(sources, choice):
    return float((ranks(combined(sources, choice), sources.labels) == 0).mean())


def part(sources, clips):
    return of(sources.values[:, clips], sources.labels[clips])


def truth_of(skill):
    """The true accuracy of a choice: that of guessing, whatever the weights, or counted on 4,000
    clips that took no part.
    """
    if not any(skill):
        return lambda choice: 1 / CLASSES
    fresh = planted(np.random.default_rng(10**6), 4000, skill)
    return lambda choice: accuracy_of(fresh, choice)


@pytest.mark.parametrize(
    ("skill", "replicates"),
    [
        (NOISE, 60),
        (SOME_KNOW, 25),
        *(pytest.param(s, 200, marks=FULL) for s in (NOISE, SOME_KNOW)),
    ],
    ids=["noise, few", "some know, few", "noise", "some know"],
)
def test_a_cross_fitted_figure_is_right_on_average_and_the_naive_one_is_not(skill, replicates):
    """It errs on the low side where there is something to find: it was chosen on fewer clips. Its
    folds share clips that they choose on, so that an interval for independent clips is too narrow:
    Wilson's covers about 90 % of 200 replicates, with several divisions into folds, too.
    """
    truth, errors, naive = truth_of(skill), [], []
    for replicate in range(replicates):
        sources = planted(np.random.default_rng(replicate), CLIPS, skill)
        choice = greedy(sources)
        rows = cross_fitted(sources, greedy, 5, replicate).rows
        errors.append(float((ranks(rows, sources.labels) == 0).mean()) - truth(choice))
        naive.append(accuracy_of(sources, choice) - truth(choice))
    doubt = 0.045 / replicates**0.5  # standard error of the mean error
    assert -0.02 - 3 * doubt < np.mean(errors) < 3 * doubt
    assert np.mean(naive) > 0.02


@pytest.mark.parametrize(
    ("skill", "replicates"),
    [(NOISE, 8), *(pytest.param(s, 200, marks=FULL) for s in (NOISE, SOME_KNOW))],
    ids=["noise, few", "noise", "some know"],
)
def test_the_interval_out_of_the_bag_covers_what_the_chosen_ensemble_is_worth(skill, replicates):
    """Greedy selection chooses again in each of 40 bags. Few replicates: all but one."""
    truth, covered, naively, errors = truth_of(skill), [], [], []
    for replicate in range(replicates):
        rng = np.random.default_rng(replicate)
        sources = planted(rng, CLIPS, skill)
        choice = greedy(sources)
        true, naive = truth(choice), accuracy_of(sources, choice)

        def evaluate(inside, outside, sources=sources):
            return accuracy_of(part(sources, outside), greedy(part(sources, inside)))

        accuracies = out_of_bag_of(Bags.drawn(CLIPS, 40, rng), evaluate)
        found = luck(MEMBERS, naive, accuracies, CLIPS, replicate)
        covered.append(found.interval[0] <= true <= found.interval[1])
        low, high = interval(naive * CLIPS, CLIPS)
        naively.append(low <= true <= high)
        errors.append(found.corrected - true)
    assert np.mean(covered) >= min(0.93, 1 - 1 / replicates)
    assert np.mean(naively) < (0.6 if skill == NOISE else 0.93)
    assert -0.03 < np.mean(errors) < 0.02
