"""The plan of trials that share their first epochs: these are trained and counted once."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from orchestrator.cli.printing.costs import shared_words
from orchestrator.planning.expected import Expected
from orchestrator.planning.sharing import Sharing
from orchestrator.planning.sizes import Sizes
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.space import all_trials
from trainables.data.store.cache import open_store

SHARED = (
    "parameters={sparsity.level: [0, 0.6, 0.8]}",
    "sparsity={penalty: none}",
    "train={epochs: 10, milestones: [5]}",
    "method.seeds=2",
)


def test_what_is_trained_once_is_counted_once(planned) -> None:
    sweep, found = planned(*SHARED)
    _, alone = planned(*SHARED, "sparsity.branch_at=off")
    assert alone.shared is None
    shared = found.shared
    assert shared is not None
    assert (shared.beginnings, shared.epochs, shared.trials) == (2, (6,), 4)
    assert found.trial_hours + shared.hours_saved == pytest.approx(alone.trial_hours)
    assert found.wall_hours + shared.hours_saved == pytest.approx(alone.wall_hours)  # one at a time
    assert (found.epochs, found.forecast.epochs) == (60, (36, 36))
    opened = open_store(sweep.data.store)
    split = opened.split(sweep.data.protocol, sweep.data.selection)
    expected = Expected(Sizes(opened), split, found.machine.pace)
    times = [expected.of(trial.config) for trial in all_trials(sweep)]
    assert shared.hours_saved == pytest.approx(6 * sum(time.epoch for time in times[2:]) / 3600)
    assert found.disk_gb > alone.disk_gb
    assert "2 beginnings of 6 epochs, trained once: 4 trials start" in shared_words(shared)


def test_trials_that_wait_for_a_beginning_take_no_place(planned) -> None:
    """Two places: both seeds' beginnings first, then each seed's levels."""
    (sweep, found), (_, alone) = (
        planned(*SHARED, "resources={gpus: 0, cpus: 1, max_concurrent: 2}", off)
        for off in ("sparsity.branch_at=auto", "sparsity.branch_at=off")
    )
    opened = open_store(sweep.data.store)
    split = opened.split(sweep.data.protocol, sweep.data.selection)
    time = Expected(Sizes(opened), split, found.machine.pace).of(all_trials(sweep)[0].config)
    assert found.machine.concurrent == min(2, alone.machine.concurrent)
    wall = found.wall_hours - found.rest_hours
    assert wall < alone.wall_hours - alone.rest_hours
    assert wall * 3600 > time.seconds


@pytest.mark.parametrize("done", [("0",), ("0", "0.6"), ("0", "0.6", "0.8")])
def test_what_has_ended_leaves_the_beginning_to_the_next(planned, done) -> None:
    sweep, _ = planned(*SHARED, "method.seeds=1")
    trials = {trial.config.sparsity.described: trial for trial in all_trials(sweep)}
    shared = shared_beginnings(sweep, list(trials.values()))
    ended = {trials[level].proposal.trial for level in done}
    left = [level for level in trials if level not in done]
    sharing = Sharing(shared, ended, {}, Path("nowhere"))
    assert sorted(sharing.starts) == sorted(trials[level].proposal.trial for level in left[1:])


@pytest.mark.parametrize(("epochs", "started"), [(5, 2), (6, 1), (inf, 1)])
def test_who_is_behind_the_beginning_leaves_it_to_the_next(planned, epochs, started) -> None:
    """The dense trial goes on from its checkpoint; where it is behind, a level trains the other's
    beginning.
    """
    sweep, _ = planned(*SHARED, "method.seeds=1")
    trials = all_trials(sweep)
    shared = shared_beginnings(sweep, trials)
    begun = {shared[0].trials[0]: epochs}
    assert len(Sharing(shared, (), begun, Path("nowhere")).starts) == started
