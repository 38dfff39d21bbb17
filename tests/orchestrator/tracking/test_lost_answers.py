"""A store that does what it is told and whose answers are lost: nothing is there twice, and
nothing of a start that it broke off.
"""

import pytest

from orchestrator.tracking import mlflow
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.outbox import Outbox
from tests.faults.store import Server
from tests.orchestrator.tracking.mlflow_cases import start
from trainables.contract.errors import UserError


@pytest.fixture
def server(monkeypatch):
    """A store in the place of MLflow's, asked again at once."""
    made = Server()
    monkeypatch.setattr(mlflow, "open_client", lambda uri: made)
    monkeypatch.setattr(mlflow, "draw", lambda folder, out: [])
    monkeypatch.setattr(
        mlflow, "Outbox", lambda may_pass, answers: Outbox(may_pass, answers, every=0.002)
    )
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


def test_a_start_that_is_broken_off_leaves_no_run(server):
    server.create_run = losing(server.create_run, 1)
    with pytest.raises(UserError, match="the answer is lost"):
        MLflowTracker("sqlite:///x.db", "e").start_sweep("s", {}, {"mark": "abc"})
    assert server.runs == {}


def test_a_start_that_is_broken_off_leaves_the_run_of_an_earlier_one(server):
    first = MLflowTracker("sqlite:///x.db", "e")
    first.start_sweep("s", {}, {"mark": "abc"})
    first.finish_sweep("interrupted", {}, None)
    server.update_run = losing(server.update_run, 1)
    with pytest.raises(UserError, match="the answer is lost"):
        MLflowTracker("sqlite:///x.db", "e").start_sweep("s", {}, {"mark": "abc"})
    assert len(server.runs) == 1
