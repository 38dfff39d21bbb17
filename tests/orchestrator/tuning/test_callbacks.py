"""What Tune says of trials reaches the journal, the tracker and the person, once."""

import errno
from types import SimpleNamespace

import pytest

from orchestrator.record.journal import read_journal
from orchestrator.record.stop_requests import Stop
from orchestrator.search.protocol import Outcome
from orchestrator.trials.proposed import Proposal
from orchestrator.tuning import callbacks
from orchestrator.tuning.workers import Death
from tests.orchestrator.fake_run import Trial as Made
from tests.orchestrator.fake_run import result_of
from tests.orchestrator.tuning.callback_scene import Scene, told
from trainables.ray_trainable import (
    AWAY,
    CPU_S,
    DISK,
    EPOCHS,
    FAILED,
    IN_EPOCH,
    STEP,
    STEPS,
    WALL_S,
    WARNING,
)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_a_warning_before_the_first_epoch_is_a_line_of_its_own(scene):
    scene.tell("result", {WARNING: "level 0.99 leaves no weight in blocks.0.conv"})
    scene.tell("result", {"epoch": 0, "train_loss": 1.0})
    assert scene.lines() == ["warning   st_gcn-1: level 0.99 leaves no weight in blocks.0.conv"]
    assert scene.tracker.named("log_epoch") == [("st_gcn-1", 0, {"train_loss": 1.0})]
    [warned] = [event for event in told(scene) if event["event"] == "trial_warned"]
    assert warned["text"] == "level 0.99 leaves no weight in blocks.0.conv"


def test_epochs_that_are_reported_together_are_told_one_by_one(scene):
    scene.tell("start")
    rows = [{"epoch": epoch, "train_loss": 2.0 - epoch} for epoch in range(2)]
    scene.tell("result", {EPOCHS: rows, WARNING: "a sentence", WALL_S: 2.0, CPU_S: 1.0})
    losses = [("st_gcn-1", 0, {"train_loss": 2.0}), ("st_gcn-1", 1, {"train_loss": 1.0})]
    assert scene.tracker.named("log_epoch") == losses
    assert scene.lines()[-1] == "warning   st_gcn-1: a sentence"
    scene.finish()
    scene.tell("complete")
    [finished] = [event for event in told(scene) if event["event"] == "trial_finished"]
    assert (finished["wall_s"], finished["cpu_s"]) == (2.0, 1.0)


def test_steps_of_an_epoch_are_shown_and_tracked_by_nobody(scene):
    scene.tell("start")
    scene.tell("result", {IN_EPOCH: 0, STEP: 40, STEPS: 600})
    [trial] = scene.callback._display.snapshot().trials
    assert (trial.position, trial.words) == (
        "0/2, step 40/600",
        "still in epoch 1, step 40/600",
    )
    assert scene.tracker.named("log_epoch") == []


def test_the_tracker_is_told_who_can_send_the_files_of_a_trial_on_another_node(scene):
    scene.senders["st_gcn-1"] = send = object()
    scene.tell("start")
    scene.finish()
    scene.tell("complete")
    assert [call[3] for call in scene.tracker.named("finish_trial")] == [send]


def test_an_end_that_is_delivered_again_is_told_once(scene):
    scene.tell("start")
    scene.finish()
    for _ in range(2):
        scene.tell("complete")
    scene.tell("error")
    assert scene.events() == ["trial_started", "trial_finished"]
    assert [call[2] for call in scene.tracker.named("finish_trial")] == ["finished"]
    assert len(scene.searcher.named("tell")) == 1
    assert scene.callback.ended == {"st_gcn-1"}
    assert scene.retaining.named("started") == [(scene.proposal,)]
    assert [call[1] for call in scene.retaining.named("ended")] == ["finished"]
    assert scene.retaining.named("ended")[0][2].selection_top1 is not None
    assert len(scene.lines()) == 2


def test_an_epoch_that_is_delivered_again_is_told_once(scene):
    scene.tell("start")
    for epoch in (0, 1, 1, 0):
        scene.tell("result", {"epoch": epoch, "train_loss": 1.0})
    assert [epoch for _, epoch, _ in scene.tracker.named("log_epoch")] == [0, 1]


def test_restarts_are_counted_and_said_with_their_reason(scene):
    for _ in range(2):
        scene.tell("start")
        scene.tell("recover")
    scene.tell("error")
    assert scene.lines()[1:4:2] == [
        f"RESTART   st_gcn-1: restart {number} of 3: the worker died" for number in (1, 2)
    ]
    assert scene.lines()[-1] == "FAILED    st_gcn-1: the worker died, after 2 restarts"
    restarts = [
        (event["attempt"], event["of"], event["reason"])
        for event in read_journal(scene.context.journal.path)
        if event["event"] == "trial_restarted"
    ]
    assert restarts == [(1, 3, "the worker died"), (2, 3, "the worker died")]
    assert scene.callback.ended == {"st_gcn-1"}


def restarts(scene):
    return [event for event in told(scene) if event["event"] == "trial_restarted"]


def test_a_lost_node_costs_no_restart(scene, monkeypatch):
    lost = Death("the worker died: its node was lost", counts=False)
    monkeypatch.setattr(callbacks, "death_of", lambda trial: lost)
    scene.tell("start")
    scene.tell("recover")
    monkeypatch.setattr(callbacks, "death_of", lambda trial: Death("the worker died"))
    scene.tell("start")
    scene.tell("recover")
    trial = {"event": "trial_restarted", "trial": "st_gcn-1", "cell": "st_gcn"}
    assert restarts(scene) == [
        {**trial, "counted": False, "reason": lost.reason},
        {**trial, "attempt": 1, "of": 3, "reason": "the worker died"},
    ]
    assert scene.lines()[1] == f"RESTART   st_gcn-1: a restart that is not counted: {lost.reason}"
    assert scene.trial.run_metadata.num_failures == 0


def test_a_trial_that_never_gets_on_pays_for_the_nodes_it_loses(scene, monkeypatch):
    lost = Death("the worker died: its node was lost", counts=False)
    monkeypatch.setattr(callbacks, "death_of", lambda trial: lost)
    for loss in range(callbacks.LOST_NODES + 5):
        if loss == 3:
            scene.tell("result", {"epoch": 0, "train_loss": 1.0})
        scene.tell("start")
        scene.tell("recover")
    assert [event.get("attempt") for event in restarts(scene)] == [
        *[None] * (callbacks.LOST_NODES + 3),
        1,
        2,
    ]
    assert scene.trial.run_metadata.num_failures == 2


def test_a_silent_trial_is_ended_and_started_again_with_its_reason(scene, monkeypatch):
    now, killed = [1000.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(callbacks, "kill", killed.append)

    def wait(seconds):
        for _ in range(seconds):
            now[0] += 1.0
            scene.callback.on_step_begin(0, [scene.trial])

    scene.callback.on_step_begin(0, [])
    scene.tell("start")
    wait(10)
    scene.tell("result", {"epoch": 0, "train_loss": 1.0})
    wait(50)
    scene.tell("result", {IN_EPOCH: 1, STEP: 40, STEPS: 600})
    wait(99)
    assert killed == []
    wait(3)
    assert killed == [scene.trial]
    scene.tell("recover")
    wait(500)
    assert killed == [scene.trial]  # it waits for a worker
    [restart] = restarts(scene)
    assert restart["attempt"] == 1
    assert restart["reason"] == "it stalled: no report for 2 min (an epoch of it takes 10 s)"
    scene.tell("start")
    wait(182)
    assert killed == [scene.trial] * 2
    scene.tell("error")
    assert scene.lines()[-1] == (
        "FAILED    st_gcn-1: it stalled: no report for 3 min since it started, after 1 restart"
    )


def test_a_trial_that_says_why_it_failed_has_an_ending(scene):
    scene.tell("start")
    scene.trial.last_result = {FAILED: "train_loss must be finite"}
    scene.tell("complete")
    assert scene.events() == ["trial_started", "trial_failed"]
    assert scene.callback.ended == {"st_gcn-1"}
    assert scene.retaining.named("ended") == [(scene.proposal, "failed", None)]


def test_a_trial_ended_by_a_rule_is_pruned(scene):
    scene.tell("start")
    scene.early.pruned["st_gcn-1"] = 5
    scene.tell("complete")
    assert scene.events() == ["trial_started", "trial_pruned"]
    assert scene.lines()[-1].startswith("pruned    st_gcn-1 after 5 epochs  (")
    assert scene.retaining.named("ended") == [(scene.proposal, "pruned", None)]
    assert [call[2] for call in scene.tracker.named("finish_trial")] == ["pruned"]
    assert scene.callback.ended == {"st_gcn-1"}


def test_a_trial_that_cannot_start_is_told_with_its_reason(scene):
    trial = SimpleNamespace(proposal=scene.proposal, config="its configuration")
    scene.callback.give_up(trial, "no dense trial has a result")
    assert scene.events() == ["trial_failed"]
    told = ("st_gcn-1", "st_gcn", "its configuration", {}, scene.proposal.assignment)
    assert scene.tracker.named("start_trial") == [told]
    assert [call[2:] for call in scene.tracker.named("finish_trial")] == [
        ("failed", "no dense trial has a result")
    ]
    assert scene.callback.ended == {"st_gcn-1"}


def test_a_trial_whose_worker_never_started_has_a_run_that_failed(scene):
    scene.tell("error")
    assert scene.events() == ["trial_failed"]
    assert [name for name, *_ in scene.tracker.calls] == ["start_trial", "finish_trial"]


def test_a_trial_between_two_attempts_does_not_run(scene):
    scene.tell("start")
    scene.tell("recover")
    scene.callback.close()
    assert scene.events() == ["trial_started", "trial_restarted"]


def test_a_trial_that_its_search_does_not_need_is_discarded(scene):
    scene.callback.discard(SimpleNamespace(proposal=scene.proposal))
    assert scene.events() == ["trial_discarded"]
    assert scene.callback.ended == {"st_gcn-1"}


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_worker_that_dies_of_the_signal_that_ends_the_sweep_is_no_failure(scene, restarts):
    """As a job of Slurm ends. Without restarts left the trial had an ending that it does not have,
    and was not run again.
    """
    scene.tell("start")
    scene.switch.signalled = True
    scene.switch.cancel(Stop("person", "received SIGTERM"))
    scene.tell("recover" if restarts else "error")
    scene.callback.close()
    assert scene.events() == ["trial_started", "trial_interrupted"]
    assert [call[2] for call in scene.tracker.named("finish_trial")] == ["interrupted"]
    assert not scene.callback.ended
    assert not [line for line in scene.lines() if line.startswith(("RESTART", "FAILED"))]


@pytest.mark.parametrize("restarts", [True, False])
def test_a_worker_that_falls_silent_after_a_signal_has_not_stalled(scene, monkeypatch, restarts):
    """It may have died of the signal, which Ray had not said yet."""
    now, killed = [100.0], []
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(callbacks, "kill", killed.append)
    scene.tell("start")
    scene.switch.signalled = True
    while not killed:
        now[0] += 5.0
        assert now[0] < 9999.0
        scene.callback.on_step_begin(0, [scene.trial])
    scene.tell("recover" if restarts else "error")
    scene.callback.close()
    assert scene.events() == ["trial_started", "trial_interrupted"]


def test_what_a_trial_raises_after_a_signal_is_its_failure(scene, monkeypatch):
    monkeypatch.setattr(callbacks, "death_of", lambda trial: Death("ValueError: a bug"))
    scene.tell("start")
    scene.switch.signalled = True
    scene.tell("error")
    assert scene.events() == ["trial_started", "trial_failed"]


def test_a_trial_that_was_stopped_has_no_ending(scene):
    scene.tell("start")
    scene.trial.last_result = {"interrupted": "stopped in epoch 3"}
    scene.tell("complete")
    assert scene.events() == ["trial_started", "trial_interrupted"]
    assert scene.callback.ended == set()


def test_a_trial_that_was_stopped_says_how_far_it_is(scene):
    scene.tell("start")
    for epoch, top1 in enumerate((0.5, 0.75, 0.25)):
        scene.tell("result", {"epoch": epoch, "train_loss": 1.0, "selection_top1": top1})
    scene.trial.last_result = {"interrupted": "stopped in epoch 3"}
    scene.tell("complete")
    last = read_journal(scene.context.journal.path)[-1]
    assert (last["epochs"], last["best_top1"]) == (3, 0.75)


def test_a_full_disk_of_a_trial_ends_the_sweep_and_not_the_trial(scene):
    scene.tell("start")
    for _ in range(3):
        scene.tell("result", {DISK: "No space left on device: x/last.pt"})
    scene.trial.last_result = {DISK: "No space left on device: x/last.pt"}
    scene.tell("complete")
    assert scene.events() == ["trial_started", "trial_interrupted"]
    assert scene.callback.ended == set()
    assert scene.switch.stop() == Stop("system", "No space left on device: x/last.pt")
    assert sum("No space left" in line for line in scene.lines()) == 1


def given_up(scene, number):
    scene.proposal = Proposal(f"st_gcn-{number}", "st_gcn", {}, {}, 0)
    scene.tell("start")
    scene.tell("result", {AWAY: "s3://b/x: nothing answers"})
    scene.tell("error")


def test_a_trial_whose_address_does_not_answer_goes_on_when_the_sweep_is_resumed(scene):
    given_up(scene, 1)
    assert scene.events() == ["trial_started", "trial_interrupted"]
    assert scene.callback.ended == set()
    assert scene.lines()[1:] == [
        "AWAY      st_gcn-1: s3://b/x: nothing answers; it goes on when the sweep is resumed",
        "stopped   st_gcn-1 (before its first epoch)",
    ]
    assert scene.switch.stop() is None


def test_the_sweep_ends_once_trials_in_a_row_reach_no_address(scene):
    for number in (1, 2):
        given_up(scene, number)
    scene.tell("result", {"epoch": 0, "train_loss": 1.0})
    for number in (3, 4):
        given_up(scene, number)
    assert scene.switch.stop() is None
    given_up(scene, 5)
    assert scene.switch.stop() == Stop("system", "s3://b/x: nothing answers")


def test_an_address_that_answered_again_is_not_why_a_trial_failed(scene):
    scene.tell("start")
    scene.tell("result", {AWAY: "s3://b/x: nothing answers"})
    scene.tell("recover")
    scene.tell("start")
    scene.tell("error")
    assert scene.events()[-1] == "trial_failed"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full", "journal.jsonl"), "No space left on device: journal.jsonl"),
        (KeyError("a mistake of ours"), "KeyError: 'a mistake of ours'"),
    ],
)
def test_an_exception_in_a_listener_ends_the_sweep_and_is_kept(scene, error, said):
    def fail(*_, **__):
        raise error

    scene.context.journal = SimpleNamespace(append=fail)
    scene.tell("start")
    assert scene.callback.error is error
    assert scene.switch.closed()
    assert scene.lines() == [f"STOPPING  {said}: running trials end, no others start"]


def test_what_still_runs_when_tune_ends_is_interrupted_and_nothing_is_heard_after(scene):
    scene.tell("start")
    scene.callback.close()
    assert scene.events() == ["trial_started", "trial_interrupted"]
    assert [call[2] for call in scene.tracker.named("finish_trial")] == ["interrupted"]
    scene.finish()
    scene.tell("complete")
    assert scene.callback.ended == set()


@pytest.mark.parametrize("source", [None, "dense/best.pt"])
def test_the_journal_says_where_a_trial_starts_and_how_it_ended(scene, source):
    scene.trial.config["source"] = source
    scene.tell("start")
    scene.finish()
    scene.tell("complete")
    result = result_of(Made("joint", 0.0))
    trial = {"trial": "st_gcn-1", "cell": "st_gcn"}
    assert told(scene) == [
        {"event": "trial_started", **trial, **({"source": source} if source else {})},
        {
            "event": "trial_finished",
            **trial,
            "seconds": result.seconds,
            "selection_top1": result.selection_top1,
            "nonzero_params": result.cost.nonzero_params,
        },
    ]
    objectives = scene.context.sweep.objectives
    assert scene.searcher.named("tell") == [("a", Outcome.finished(result, objectives))]
    assert scene.tracker.named("start_trial")[0][:2] == ("st_gcn-1", "st_gcn")


def test_what_is_not_needed_is_no_part_of_the_count(scene):
    scene.callback.discard(SimpleNamespace(proposal=scene.proposal))
    scene.finish()
    scene.tell("complete")
    assert scene.lines()[-1].endswith("(1/0 trials)")
    assert told(scene)[0]["reason"] == "method random did not ask for it"


def test_one_restart_is_singular_and_none_is_not_told(scene):
    scene.tell("start")
    scene.tell("recover")
    scene.tell("error")
    assert scene.lines()[-1] == "FAILED    st_gcn-1: the worker died, after 1 restart"


def test_a_trial_that_failed_at_once(scene):
    scene.tell("start")
    scene.tell("error")
    assert scene.lines()[-1] == "FAILED    st_gcn-1: the worker died"


def test_a_trial_stopped_before_its_first_epoch_says_nothing_of_epochs(scene):
    scene.tell("start")
    scene.tell("complete")
    assert told(scene)[-1] == {
        "event": "trial_interrupted",
        "trial": "st_gcn-1",
        "cell": "st_gcn",
    }
    assert scene.lines()[-1] == "stopped   st_gcn-1 (before its first epoch)"
    assert scene.searcher.named("tell") == [("a", None)]


def test_a_pruned_trial_says_after_how_many_epochs(scene):
    scene.tell("start")
    scene.early.pruned["st_gcn-1"] = 5
    scene.tell("complete")
    assert told(scene)[-1]["epochs"] == 5
    assert scene.tracker.named("finish_trial")[0][2:] == ("pruned", "", 5)


def test_what_tune_pickles_is_empty(scene):
    assert scene.callback.__getstate__() == {}


@pytest.mark.parametrize(
    ("last", "forgotten"), [({FAILED: "train_loss must be finite"}, ["st_gcn-1"]), ({}, [])]
)
def test_reports_of_an_ended_trial_are_let_go_and_those_of_an_interrupted_one_stay(
    scene, monkeypatch, last, forgotten
):
    found = []
    monkeypatch.setattr(scene.early, "forget", found.append)
    scene.tell("start")
    scene.trial.last_result = last
    scene.tell("complete")
    assert found == forgotten
