"""What earlier runs of a sweep have left, and what is done before and after Tune."""

import io
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from orchestrator.record.epochs import EpochLog
from orchestrator.record.states import load_trials
from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.tracking.tracker import NullTracker
from orchestrator.tuning import run as run_module
from orchestrator.tuning.progress import Display
from tests.orchestrator.fake_run import Trial as MadeUp
from tests.orchestrator.fake_run import result_of
from tests.orchestrator.tuning.made_tune import fail
from trainables.contract.artifacts import load_curve
from trainables.contract.disk import write_json


def test_ends_of_earlier_runs_are_told_to_a_tracker_that_missed_them(scene):
    told = []

    class Forgetful(NullTracker):
        def knows_end(self, trial, status):
            return trial != names[0]

        def finish_trial(self, trial, folder, status, reason="", stopped_at=None, *, send=None):
            told.append((trial, status, reason))

    names = [trial.proposal.trial for trial in scene.trials]
    for trial in scene.trials[:2]:
        write_json(
            trial.proposal.folder(scene.context.folder).failure_file, {"reason": "loss is nan"}
        )
    object.__setattr__(scene.context, "tracker", Forgetful())
    scene.run(lambda tuner: fail(tuner, tuner.start(), "later"))
    assert told == [(names[0], "failed", "loss is nan"), (names[2], "failed", "later")]


def test_a_trial_that_never_ran_is_not_told_to_a_tracker(scene):
    told = []

    class Forgetful(NullTracker):
        def knows_end(self, trial, status):
            return False

        def finish_trial(self, trial, *_, **__):
            told.append(trial)

    first, *others = (trial.proposal for trial in scene.trials)
    scene.context.journal.append("trial_discarded", trial=first.trial, cell=first.cell)
    object.__setattr__(scene.context, "tracker", Forgetful())
    assert (
        scene.run(lambda tuner: [fail(tuner, tuner.start(number)) for number in range(2)]) is None
    )
    assert told == [proposal.trial for proposal in others]


def test_what_was_asked_of_an_earlier_run_does_not_stop_this_one(scene):
    StopRequests(scene.context.folder).cancel(Stop("person", "asked before"))
    closed = []
    scene.run(lambda tuner: closed.append(tuner.callback._switch.closed()))
    assert closed == [False]


def test_what_earlier_runs_ended_is_on_display(scene, monkeypatch):
    """Of three trials one is finished, one is discarded and one fails now."""
    finished, discarded, waiting = load_trials(scene.context.folder)
    finished = replace(finished, ending="finished", result=result_of(MadeUp("joint", 0.6)))
    states = [finished, replace(discarded, ending="discarded"), waiting]
    monkeypatch.setattr(run_module, "load_trials", lambda folder: states)
    display = Display({}, Console(file=io.StringIO()))

    def made(totals):
        display.__init__(totals, Console(file=io.StringIO()))
        return display

    monkeypatch.setattr(run_module, "Display", made)
    assert scene.run(lambda tuner: fail(tuner, tuner.start())) is None
    stream = io.StringIO()
    Console(file=stream, width=100).print(display.render())
    title, _, first, second, third = stream.getvalue().splitlines()
    assert title.startswith("2/2 trials")
    assert first.split()[:2] == ["level0", "1/1"]
    assert second.split() == ["level0.6", "0/0"]
    assert third.split() == ["level0.8", "0/1", "1"]


ONE_CELL = [
    "parameters.sparsity.level={values: [0.6, 0.8, 0.9], axis: trial}",
    "early_terminate={type: asha, grace: 1}",
    "retain.checkpoints=best_per_cell",
]


@pytest.mark.parametrize("scene", [ONE_CELL], indirect=True)
def test_a_trial_that_a_rule_ended_before_the_driver_was_killed_is_not_run_again(scene):
    folder, (first, second, third) = scene.context.folder, scene.trials
    last = first.config.first_kept_epoch
    for trial, top1 in ((first, 0.9), (second, 0.1)):
        trial.proposal.folder(folder).path.mkdir(parents=True)
        EpochLog(folder).append(trial.proposal.trial, last, {"selection_top1": top1})
    checkpoint = second.proposal.folder(folder).checkpoint_file
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"x")
    started, kept = [], []

    def fit(tuner):
        kept.append(checkpoint.exists())
        for number in range(2):
            trial = tuner.start(number)
            started.append(tuner.searcher.trial_of(trial.trial_id))
            fail(tuner, trial)

    assert scene.run(fit) is None
    assert started == [first, third]
    assert kept == [False]
    state = load_trials(folder)[1]
    assert (state.ending, state.stopped_at) == ("pruned", last + 1)
    assert load_curve(second.proposal.folder(folder).metrics_file)["selection_top1"] == [0.1]


@pytest.mark.parametrize("fails", [False, True])
def test_however_tune_ends_what_trials_took_is_noted_and_nothing_of_tune_stays(
    scene, monkeypatch, fails
):
    scratch = scene.context.folder / run_module.SCRATCH

    def fit(tuner):
        assert not scratch.exists()  # nor what a run that was killed left there
        (scratch / "run").mkdir(parents=True)
        if fails:
            raise KeyError("a mistake")

    (scratch / "killed").mkdir(parents=True)
    written = []
    history = SimpleNamespace(write=lambda: written.append(True))
    remaining = SimpleNamespace(
        history=history, trial_seconds=lambda name: None, waiting_seconds=lambda names, number: None
    )
    monkeypatch.setattr(run_module, "remaining_of", lambda *told: remaining)
    with pytest.raises(KeyError) if fails else nullcontext():
        scene.run(fit)
    assert written == [True]
    assert not scratch.exists()


def test_networks_are_timed_when_all_trials_have_ended_until_somebody_stops(scene, monkeypatch):
    timed = []
    monkeypatch.setattr(NullTracker, "expect_evaluation", lambda _: timed.append("expected"))

    class FakeTiming:
        def __init__(self, context, slots, cluster, closed, note):
            timed.append((slots.concurrent, closed()))

        def run(self, todo):
            timed.append(todo or "run")

    monkeypatch.setattr(run_module, "Timing", FakeTiming)
    scene.run(lambda tuner: tuner.start())
    assert timed == []
    scene.run(lambda tuner: [fail(tuner, tuner.start(number)) for number in range(3)])
    assert timed == [(2, False), "run"]
    # in a run that has nothing else to do as well
    monkeypatch.setattr(run_module, "untimed", lambda context, sparse=True: {"a": sparse})
    for compiled in (True, False):
        monkeypatch.setattr(run_module, "compiled", lambda compiled=compiled: compiled)
        timed.clear()
        scene.run(lambda tuner: pytest.fail("it trains again"))
        assert timed == ["expected", (2, False), {"a": compiled}]


def test_a_sweep_of_which_nothing_is_left_starts_no_ray(scene, monkeypatch):
    scene.run(lambda tuner: [fail(tuner, tuner.start(number)) for number in range(3)])
    monkeypatch.setattr(run_module, "ray_cluster", lambda *_: pytest.fail("it starts Ray"))
    assert scene.run(lambda tuner: None) is None
