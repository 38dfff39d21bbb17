"""The virtual clock: who runs when, and what that takes."""

from dataclasses import replace

import pytest

from orchestrator.search.listed import ListedSearch
from orchestrator.search.turns import Turns
from orchestrator.simulation.clock import End, Played, play
from orchestrator.stopping.judge import Judge
from orchestrator.sweep import parse_sweep
from orchestrator.trials.dense import needed
from orchestrator.trials.space import all_trials
from tests.orchestrator.simulation.made_curves import made_curve

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.8]
  train.lr: [0.1, 0.2, 0.3]
train: {epochs: 10}
"""


def played(workers, *changes, seconds=lambda trial: 2.0):
    sweep = parse_sweep("small.yaml", TEXT, changes)
    trials = all_trials(sweep)
    by_cell = {}
    for trial in trials:
        by_cell.setdefault(trial.proposal.cell, []).append(trial)
    sources = needed(trials)
    options = sweep.early_terminate
    judge = None
    if options.type != "none":
        judge = Judge(options, sweep.objectives, sources, lambda trial: {})
    turns = Turns({cell: ListedSearch(each) for cell, each in by_cell.items()}, by_cell)
    return play(
        turns,
        judge,
        lambda trial: made_curve(trial, lambda t: (1 - t.config.train.lr, 2.0), seconds(trial)),
        workers,
    )


@pytest.mark.parametrize(("workers", "seconds"), [(1, 120.0), (2, 60.0), (4, 40.0), (99, 20.0)])
def test_trials_share_the_workers(workers, seconds):
    found = played(workers)
    assert (found.seconds, found.epochs, len(found.ends)) == (seconds, 60, 6)
    assert all(end.result is not None and end.epochs == 10 for end in found.ends)


def test_trials_wait_for_those_they_start_from():
    found = played(99, "sparsity.from=dense")
    assert found.seconds == 40.0
    assert {end.cell: end.began for end in found.ends} == {"level0": 0.0, "level0.8": 20.0}


def test_a_rule_ends_trials_and_frees_their_workers():
    found = played(1, "early_terminate={type: asha, grace: 1}")
    # the first of each cell is its best; sparse ones are judged after the warm-up of 6 epochs
    ends = [(end.cell, end.epochs, end.result is None) for end in found.ends]
    assert sorted(ends) == [
        *[("level0", 1, True)] * 2,
        ("level0", 10, False),
        *[("level0.8", 7, True)] * 2,
        ("level0.8", 10, False),
    ]
    assert (found.epochs, found.seconds) == (36, 72.0)


def test_events_of_one_moment_come_in_the_order_in_which_they_were_set():
    assert played(99, "early_terminate={type: median, min_trials: 1}") == played(
        99, "early_terminate={type: median, min_trials: 1}"
    )


def test_when_so_many_epochs_were_trained():
    found = played(2, seconds=lambda trial: 1.0 if trial.config.sparsity.dense else 3.0)
    assert found.time_of(4) == pytest.approx(3.0)  # one at 1/s, one at 1/3 per second
    assert found.time_of(30) == pytest.approx(25.0)  # two dense ones whole, 8.33 and 1.67 of others
    assert found.time_of(found.epochs) == pytest.approx(found.seconds)
    assert found.time_of(1e9) == pytest.approx(found.seconds)


def test_a_rule_decides_nothing_about_a_curve_without_epochs():
    sweep = parse_sweep("small.yaml", TEXT)
    curve = made_curve(all_trials(sweep)[0], lambda t: (0.5, 2.0))
    assert curve.report(9)["selection_top1"] > 0.4
    assert replace(curve, metrics={}).report(0) == {}
    assert curve.report(10) == {}


def test_epochs_of_less_than_a_second_and_of_no_time_are_found():
    quick = End("cell", 0.0, 0.5, 4, None)
    assert Played([quick]).time_of(2) == pytest.approx(0.25)
    timeless = End("cell", 0.5, 0.5, 4, None)
    assert Played([quick, timeless]).time_of(3) == pytest.approx(0.375)
    assert Played([]).seconds == 0.0
