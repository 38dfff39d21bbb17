"""What is left of a sweep that begins is what its plan says."""

from types import SimpleNamespace

import pytest

from orchestrator.planning.machine import this_machine
from orchestrator.planning.plan import plan
from orchestrator.record.folder import folder_of, journal_of
from orchestrator.record.states import load_trials
from orchestrator.record.times import Factor, Times, write_times
from orchestrator.trials.space import all_trials
from orchestrator.tuning.remaining import remaining_of
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import SMALL, loaded

KIND = "hpi_gcn_rp/single/"
SHARED = ("train.epochs=20", "sparsity={warmup: 0.5, penalty: none}")


def left_of(sweep, address=None):
    """What the run of the sweep's trials that have not ended begins with."""
    run, trials = folder_of(sweep), all_trials(sweep)
    states = load_trials(run) if (run / "resolved.json").exists() else ()
    ended = {each.proposal.trial for each in states if each.ended}
    waiting: dict[str, list] = {}
    for trial in trials:
        if trial.proposal.trial not in ended:
            waiting.setdefault(trial.proposal.cell, []).append(trial)
    context = SimpleNamespace(sweep=sweep, folder=run, trials=trials, address=address)
    left = remaining_of(context, waiting, {}, 1)
    names = [trial.proposal.trial for trials in waiting.values() for trial in trials]
    return left, sum(left.trial_seconds(name) for name in names), len(names)


@pytest.mark.parametrize("changes", [(), SHARED], ids=["alone", "shared beginnings"])
@pytest.mark.parametrize("ended", [0, 1])
def test_trials_take_what_the_plan_says(planned, changes, ended):
    sweep, _ = planned(*changes)
    if ended:
        run, (first, *_) = recorded(sweep)
        proposal = first.proposal
        journal_of(run).append("trial_failed", trial=proposal.trial, cell=proposal.cell, reason="x")
    expected = plan(sweep)
    assert (expected.shared is None) == (not changes)
    left, seconds, number = left_of(sweep)
    assert number == 4 - ended
    assert seconds == pytest.approx(3600 * expected.trial_hours)
    assert left.waiting_seconds((), number) == pytest.approx(seconds)


def test_what_trials_took_here_corrects_it_as_it_does_the_plan(planned, tmp_path):
    sweep, before = planned()
    machine, runs = before.machine.name, tmp_path / "runs"
    write_times(runs / "other", Times(machine, {KIND + "dense": Factor(3, 2.0)}))
    write_times(runs / "elsewhere", Times("another", {KIND + "dense": Factor(9, 70.0)}))
    assert left_of(sweep)[1] == pytest.approx(2 * 3600 * before.trial_hours)
    write_times(runs / "small", Times(machine, {KIND + "fixed_random": Factor(1, 4.0)}))
    assert left_of(sweep)[1] == pytest.approx(3600 * plan(sweep).trial_hours)
    write_times(runs / "small", Times("another", {KIND + "fixed_random": Factor(1, 4.0)}))
    assert left_of(sweep)[1] == pytest.approx(2 * 3600 * before.trial_hours)


def test_on_a_cluster_only_its_own_trials_correct_it(planned, tmp_path):
    sweep, before = planned()
    address, runs = "head:6379", tmp_path / "runs"
    write_times(runs / "other", Times(before.machine.name, {KIND + "dense": Factor(3, 2.0)}))
    assert left_of(sweep, address)[1] == pytest.approx(3600 * before.trial_hours)
    there = this_machine(sweep.resources, address).name
    write_times(runs / "small", Times(there, {KIND + "dense": Factor(3, 3.0)}))
    assert left_of(sweep, address)[1] == pytest.approx(3 * 3600 * before.trial_hours)


def test_early_stopping_leaves_a_part_of_it(planned):
    early = (
        "train={epochs: 20}",
        "parameters.train.lr=[0.01, 0.02, 0.03, 0.04, 0.05, 0.06]",
        "early_terminate={type: asha, grace: 2}",
    )
    sweep, found = planned(*early)
    left, whole, number = left_of(sweep)
    assert whole == pytest.approx(3600 * found.trial_hours)  # of trials that train to their ends
    low = found.early.low / found.early.total
    assert low * whole < left.waiting_seconds((), number) < whole


def test_without_the_store_nothing_is_known(tmp_path):
    sweep = loaded(tmp_path, SMALL, "data.store=nowhere", f"storage={tmp_path / 'runs'}")
    context = SimpleNamespace(
        sweep=sweep, folder=folder_of(sweep), trials=all_trials(sweep), address=None
    )
    assert remaining_of(context, {}, {}, 1) is None
