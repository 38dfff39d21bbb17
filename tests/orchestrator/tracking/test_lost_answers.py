"""A store that does what it is told and whose answers are lost, or that is away when the sweep
starts: nothing is missing, nothing is there twice.
"""

from collections import Counter
from functools import partial

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from orchestrator.tracking import mlflow, parent
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.outbox import Outbox
from tests.faults.store import Server
from tests.orchestrator.tracking.mlflow_cases import start
from trainables.contract.errors import UserError


@pytest.fixture
def server(monkeypatch):
    """A store in the place of MLflow's, asked again at once."""
    made = Server()
    monkeypatch.setattr(parent, "open_client", lambda uri: made)
    monkeypatch.setattr(mlflow, "draw", lambda folder, out: [])
    monkeypatch.setattr(mlflow, "Outbox", partial(Outbox, every=0.002))
    return made


def losing(call, number):
    """`call`, whose answers are lost from the `number`-th on, counted from 1, twice."""
    count = iter(range(1, 10**6))

    def made(*arguments, **options):
        answer = call(*arguments, **options)
        if next(count) in (number, number + 1):
            raise ConnectionError("the answer is lost")
        return answer

    return made


@pytest.mark.parametrize("number", [2, 3])
def test_epochs_that_are_delivered_again_are_there_once(server, trials, number):
    folder = trials["joint-0.6"]
    tracker = MLflowTracker("sqlite:///x.db", "e")
    tracker.start_sweep("s", {}, {})
    server.log_batch = losing(server.log_batch, number)
    start(tracker, folder)
    tracker.log_epoch(folder.path.name, 0, {"train_loss": 1.0})
    tracker.finish_trial(folder.path.name, folder, "finished")
    assert tracker.finish_sweep("finished", {}, None) == ()
    [run] = [run for run in server.runs.values() if run.tags["kind"] == "trial"]
    assert {key: count for key, count in run.steps().items() if count > 1} == {}
    assert sorted(step for key, step in run.steps() if key == "train_loss") == [1, 2, 3]


def told(tracker, folder, epochs=(0, 1, 2)):
    """One trial from its start to its end, as its folder has it."""
    start(tracker, folder)
    for epoch in epochs:
        tracker.log_epoch(folder.path.name, epoch, {"train_loss": 1.0})
    tracker.finish_trial(folder.path.name, folder, "finished")


def check_complete(server, sweeps=1):
    """One run of each sweep and of its trial, with every epoch once."""
    kinds = Counter(run.tags["kind"] for run in server.runs.values())
    assert kinds == {"sweep": sweeps, "trial": sweeps}
    assert {run.status for run in server.runs.values()} == {"FINISHED"}
    for run in server.runs.values():
        if run.tags["kind"] == "trial":
            assert run.tags["mlflow.parentRunId"] in server.runs
            assert set(run.steps().values()) == {1}
            assert sorted(step for key, step in run.steps() if key == "train_loss") == [1, 2, 3]


@pytest.mark.parametrize("call", ["create_run", "log_batch", "search_runs", "create_experiment"])
def test_a_start_whose_answer_is_lost_is_made_once(server, trials, call):
    setattr(server, call, losing(getattr(server, call), 1))
    tracker = MLflowTracker("sqlite:///x.db", "e")
    tracker.start_sweep("s", {"train.epochs": 3}, {"mark": "abc"})
    told(tracker, trials["joint-0.6"])
    assert tracker.finish_sweep("finished", {}, None) == ()
    check_complete(server)


class Away:
    """What stands for a server that cannot be reached for so many attempts."""

    def __init__(self, server, attempts):
        self.server, self.left = server, attempts

    def __call__(self, uri):
        self.left -= 1
        if self.left >= 0:
            raise ConnectionRefusedError(111, "Connection refused")
        return self.server


@pytest.mark.parametrize("attempts", [1, 8])
def test_a_store_that_is_away_at_the_start_gets_everything_once(
    server, trials, monkeypatch, caplog, attempts
):
    monkeypatch.setattr(parent, "open_client", Away(server, attempts))
    tracker = MLflowTracker("sqlite:///x.db", "e")
    tracker.start_sweep("s", {"train.epochs": 3}, {"mark": "abc"})
    assert tracker.link() == ""
    assert not tracker.knows_end("other", "finished")
    told(tracker, trials["joint-0.6"])
    assert tracker.finish_sweep("finished", {}, None) == ()
    assert tracker.link()
    check_complete(server)
    said = [record.getMessage() for record in caplog.records]
    assert sum("does not answer: [Errno 111]" in text for text in said) == 1
    assert not [text for text in said if "not delivered" in text]
    [own] = [run for run in server.runs.values() if run.tags["kind"] == "sweep"]
    assert own.params == {"train.epochs": "3"}


@pytest.mark.parametrize("killed_after", [0, 2])
def test_a_sweep_that_is_killed_while_the_store_is_away_is_delivered_by_the_next_driver(
    server, trials, monkeypatch, killed_after
):
    folder, away = trials["joint-0.6"], Away(server, 10**9)
    monkeypatch.setattr(parent, "open_client", away)
    first = MLflowTracker("sqlite:///x.db", "e", patience=0.0)
    first.start_sweep("s", {}, {"mark": "abc"})
    start(first, folder)
    for epoch in range(killed_after):
        first.log_epoch(folder.path.name, epoch, {"train_loss": 1.0})
    first._outbox.close(0.0)  # it is dead
    away.left = 4
    second = MLflowTracker("sqlite:///x.db", "e")
    second.start_sweep("s", {}, {"mark": "abc"})
    told(second, folder, range(killed_after, 3))
    assert second.finish_sweep("finished", {}, None) == ()
    check_complete(server)


def test_an_end_that_the_store_has_is_not_told_again_where_it_was_away_at_the_restart(
    server, trials, monkeypatch
):
    folder = trials["joint-0.6"]
    first = MLflowTracker("sqlite:///x.db", "e")
    first.start_sweep("s", {}, {"mark": "abc"})
    told(first, folder)
    assert first.finish_sweep("interrupted", {}, None) == ()
    attached = []
    server.log_artifact = lambda run, path, folder: attached.append(path)
    monkeypatch.setattr(parent, "open_client", Away(server, 3))
    second = MLflowTracker("sqlite:///x.db", "e")
    second.start_sweep("s", {}, {"mark": "abc"})
    assert not second.knows_end(folder.path.name, "finished")
    told(second, folder, [])
    assert second.finish_sweep("finished", {}, None) == ()
    assert second.delivered(folder.path.name)
    assert attached == []
    check_complete(server)


def test_a_trial_that_is_tried_again_is_not_delivered_by_an_end_that_is_learnt_of_later(
    server, trials, monkeypatch
):
    """The store was away at the restart, and is asked how trials ended once it answers."""
    ended, again = trials["joint-0.6"], trials["bone-0.6"]
    first = MLflowTracker("sqlite:///x.db", "e")
    first.start_sweep("s", {}, {"mark": "abc"})
    told(first, ended)
    start(first, again)
    first.finish_trial(again.path.name, again, "failed", "loss is nan")
    assert first.finish_sweep("interrupted", {}, None) == ()
    monkeypatch.setattr(parent, "open_client", Away(server, 3))
    second = MLflowTracker("sqlite:///x.db", "e")
    second.start_sweep("s", {}, {"mark": "abc"})
    assert not second.knows_end(ended.path.name, "finished")
    told(second, ended, [])
    start(second, again)
    assert second._outbox.close(10.0) == ()
    assert second.delivered(ended.path.name)
    assert not second.delivered(again.path.name)


def test_a_store_that_comes_back_and_refuses_costs_one_line_each_and_the_rest_is_named(
    server, trials, monkeypatch, caplog
):
    monkeypatch.setattr(parent, "open_client", Away(server, 1))
    server.create_run = refusing
    tracker = MLflowTracker("sqlite:///x.db", "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    told(tracker, trials["joint-0.6"])
    name = trials["joint-0.6"].path.name
    assert tracker.finish_sweep("finished", {}, None) == (
        "start of the sweep",
        "view of the sweep",
        *(f"{what} of trial {name}" for what in ("start", "epochs", "end")),
        "end of the sweep",
    )
    assert caplog.text.count("not delivered: ") == 1
    assert caplog.text.count("will try again") <= 1
    assert "start of the sweep: not delivered: tracking.uri: must be" in caplog.text
    assert "no right to do that" in caplog.text


def refusing(*arguments, **options):
    raise MlflowException("no right to do that", error_code=PERMISSION_DENIED)


def test_a_start_that_is_refused_leaves_no_run(server):
    server.log_batch = refusing
    with pytest.raises(UserError, match="no right to do that"):
        MLflowTracker("sqlite:///x.db", "e").start_sweep("s", {"a": 1}, {"mark": "abc"})
    assert server.runs == {}


def test_a_start_that_is_refused_leaves_the_run_of_an_earlier_one(server):
    first = MLflowTracker("sqlite:///x.db", "e")
    first.start_sweep("s", {}, {"mark": "abc"})
    first.finish_sweep("interrupted", {}, None)
    server.update_run = refusing
    with pytest.raises(UserError, match="no right to do that"):
        MLflowTracker("sqlite:///x.db", "e").start_sweep("s", {}, {"mark": "abc"})
    assert len(server.runs) == 1


def test_a_sweep_that_is_refused_while_the_store_is_away_does_not_wait_for_it(server, monkeypatch):
    monkeypatch.setattr(parent, "open_client", Away(server, 10**9))
    tracker = MLflowTracker("sqlite:///x.db", "e", patience=600.0)
    tracker.start_sweep("s", {}, {"mark": "abc"})
    tracker.finish_sweep("failed", {}, None)
    assert server.runs == {}


def test_two_sweeps_that_tag_their_experiment_at_once_are_both_shown(server, caplog):
    """A database refuses the second row of one tag."""
    tag, refused = server.set_experiment_tag, []

    def first_refused(experiment, key, value):
        if key not in refused:
            refused.append(key)
            raise MlflowException("duplicate key value violates unique constraint")
        tag(experiment, key, value)

    server.set_experiment_tag = first_refused
    tracker = MLflowTracker("sqlite:///x.db", "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    assert tracker.finish_sweep("finished", {}, None) == ()
    assert len(refused) > 1
    assert server.experiment_tags.keys() == set(refused)
    assert caplog.text == ""
