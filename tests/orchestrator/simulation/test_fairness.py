"""Fairness to every cell: the sparsest networks start slow, and still have their best trial at the
end, because nobody compares them with others.
"""

import pytest

from orchestrator.search.listed import ListedSearch
from orchestrator.search.turns import Turns
from orchestrator.simulation.clock import play
from orchestrator.simulation.library import Library
from orchestrator.stopping.judge import Judge
from orchestrator.stopping.rules import RULES
from orchestrator.sweep import parse_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.simulation.made_curves import made_curves

TEXT = """
version: 1
name: fair
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.6, 0.8, 0.95, 0.99]
  train.lr: [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12]
train: {epochs: 60}
early_terminate: {type: asha, grace: 3}
"""
SLOW = {0.6: 2.0, 0.8: 3.0, 0.95: 6.0, 0.99: 20.0}


def shape(trial):
    """The sparser, the slower; the recipe decides how far a trial comes."""
    return 0.9 - abs(trial.config.train.lr - 0.07), SLOW[trial.config.sparsity.level]


class OneForAll(Judge):
    """What a scheduler that knows no cells does: every trial is compared with every other."""

    def _admit(self, trial):
        course, rule, known = super()._admit(trial)
        self._shared = getattr(self, "_shared", rule)
        self._courses[trial.proposal.trial] = course, self._shared, known
        return self._courses[trial.proposal.trial]


def finished(judge_class, *changes, workers=8):
    """The learning rates that trained to their last epoch, by level."""
    sweep = parse_sweep("fair.yaml", TEXT, changes)
    trials = all_trials(sweep)
    library = Library(made_curves(trials, shape), sweep, trials)
    by_cell = {}
    for trial in trials:
        by_cell.setdefault(trial.proposal.cell, []).append(trial)
    turns = Turns({cell: ListedSearch(each) for cell, each in by_cell.items()}, by_cell)
    judge = judge_class(
        sweep.early_terminate, sweep.objectives, lambda trial: False, lambda trial: {}
    )
    played = play(turns, judge, lambda trial: library.nearest(trial)[0], workers)
    names = {each.proposal.trial: each.config for each in trials}
    found = {level: set() for level in SLOW}
    for end in played.ends:
        if end.result is not None:
            config = names[end.result.trial]
            found[config.sparsity.level].add(config.train.lr)
    return found


@pytest.mark.parametrize("workers", [1, 8, 48])
@pytest.mark.parametrize("kind", sorted(set(RULES) - {"plateau"}))
def test_every_cell_keeps_its_best_trial(kind, workers):
    found = finished(Judge, f"early_terminate={{type: {kind}, grace: 3}}", workers=workers)
    assert all(0.07 in rates for rates in found.values())
    # the best epoch of a curve that rises is seldom below an average of others
    assert kind == "median" or all(len(rates) < 12 for rates in found.values())


@pytest.mark.parametrize("workers", [8, 48])
def test_one_rule_for_all_cells_loses_the_sparsest(workers):
    found = finished(OneForAll, workers=workers)
    assert 0.07 in found[0.6]
    assert found[0.99] == set()
