"""Ensembles that choose themselves, on planted cases whose true accuracy is known: what selection
says of them, and what the honest figures do.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.ensembling import whole_choice
from orchestrator.ensembling.build import build_ensembles
from orchestrator.ensembling.cross_fitting import combined, cross_fitted
from orchestrator.ensembling.evaluate import ranks
from orchestrator.ensembling.members import Member, SeedRun, SeedScores
from orchestrator.ensembling.statistics.intervals import interval
from orchestrator.ensembling.strategies.greedy import Options, choose
from orchestrator.ensembling.strategies.sources import Choice
from orchestrator.ensembling.whole_choice import Contest, WholeChoice
from orchestrator.sweep import EnsembleConfig
from tests.orchestrator.ensembling.strategies.made_sources import of
from trainables.contract.artifacts import Cost
from trainables.contract.config import DataConfig, SelectionConfig, TrainConfig, TrialConfig
from trainables.contract.scores import Scores

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


RECIPE = EnsembleConfig(name="final", over="data.stream", method="greedy", options={"rounds": 5})
DATA = DataConfig(store="store", protocol="xsub", selection=SelectionConfig(kind="protocol"))
COST = Cost.model_construct(
    deploy_params=1, deploy_nonzero_params=1, deploy_latency_ms=None, deploy_bytes=None
)
CONFIG = TrialConfig(data=DATA, train=TrainConfig(epochs=1))


def members_of(sources):
    """Networks that say what the sources say, on the selection clips as on others."""
    result = SimpleNamespace(cost=COST, selection_top1=0.0)
    found = []
    for name, values in zip(sources.members, sources.values, strict=True):
        scores = SeedScores(
            Scores(sources.ids, values, sources.labels), Scores(sources.ids, values, None)
        )
        seeds = (SeedRun(name, 0, result, scores, {}),)
        found.append(Member(name, name, {"data.stream": name}, name, CONFIG, result, seeds))
    return found


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
def test_the_interval_out_of_the_bag_covers_what_the_chosen_ensemble_is_worth(
    monkeypatch, skill, replicates
):
    """Greedy selection chooses again in each of 40 bags, as for the report. Few replicates: all but
    one.
    """
    monkeypatch.setattr(whole_choice, "MOST_ENSEMBLE_DRAWS", 40)
    truth, covered, naively, errors = truth_of(skill), [], [], []
    for replicate in range(replicates):
        sources = planted(np.random.default_rng(replicate), CLIPS, skill)
        members = members_of(sources)
        cells = {each.name: each.axes for each in members}
        hits = [ranks(values, sources.labels)[None] == 0 for values in sources.values]
        contests = {
            each.name: Contest(each, (each,), each, own, (own.astype(np.float32),))
            for each, own in zip(members, hits, strict=True)
        }
        built = build_ensembles((RECIPE,), members, cells).ensembles
        true = truth(Choice(built[0].weights))
        found = WholeChoice(contests, (RECIPE,), cells).luck(built, replicate)["final"]
        assert found.contenders == MEMBERS
        assert found.naive == pytest.approx(accuracy_of(sources, Choice(built[0].weights)))
        covered.append(found.interval[0] <= true <= found.interval[1])
        low, high = interval(found.naive * CLIPS, CLIPS)
        naively.append(low <= true <= high)
        errors.append(found.corrected - true)
    assert np.mean(covered) >= min(0.93, 1 - 1 / replicates)
    assert np.mean(naively) < (0.6 if skill == NOISE else 0.93)
    assert -0.03 < np.mean(errors) < 0.02
