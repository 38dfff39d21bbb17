"""A worker on another node sends the files of its trial itself: whatever dies, and whatever is in
its way, the run has every file, and what the worker told of is sent once.
"""

import threading
from functools import partial

import pytest

from orchestrator.tracking import mlflow, parent, sending
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.outbox import Outbox
from orchestrator.tracking.sending import Sender
from tests.faults.store import Server
from tests.orchestrator.fake_run import Trial, make_run
from tests.orchestrator.tracking.mlflow_cases import start
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError

URI = "http://tracking:5000"
FILES = {
    *("config.json", "metrics.parquet", "deploy.pt", "scores.selection.parquet"),
    *("scores.test.parquet", "result.json", "checkpoint/best.pt"),
}


class Killed(BaseException):
    """The worker dies."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """That of a dense trial that has finished."""
    made = Trial("joint", 0.0)
    run = make_run(tmp_path_factory.mktemp("sweep"), [made])
    found = TrialDir(run / "trials" / made.name)
    write_atomic(found.best_file, b"weights")
    return found


@pytest.fixture
def server(monkeypatch):
    """MLflow's, for the driver and the worker."""
    made = Server()
    monkeypatch.setattr(parent, "open_client", lambda uri: made)
    monkeypatch.setattr(sending, "open_client", lambda uri: made)
    monkeypatch.setattr(mlflow, "Outbox", partial(Outbox, every=0.002))
    return made


@pytest.fixture
def tracker(server, folder):
    return begun(folder)


def begun(folder):
    """A driver that has told of the trial's start, which the store knows."""
    tracker = MLflowTracker(URI, "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    start(tracker, folder)
    wait = threading.Event()
    tracker._put("what follows", wait.set)
    assert wait.wait(10)
    return tracker


def ended(tracker, folder, sent=None):
    """The driver hears of the end, and tells it on; the artifacts that the trial's run then has."""
    if sent is not None:
        tracker.files_sent(folder.path.name, sent)
    tracker.finish_trial(folder.path.name, folder, "finished")
    assert tracker.finish_sweep("finished", {}, None) == ()
    [run] = [run for run in tracker._client._client.runs.values() if run.tags["kind"] == "trial"]
    assert run.status == "FINISHED"
    return run.artifacts


def test_what_a_worker_has_sent_the_driver_neither_sends_nor_fetches(
    tracker, folder, monkeypatch, server
):
    sent = Sender().send(tracker.artifact_store(), folder)
    assert set(sent["files"]) == FILES
    fetched = []
    monkeypatch.setattr(mlflow, "fetch", fetched.extend)
    assert ended(tracker, folder, sent) == dict.fromkeys(FILES, 1)
    assert fetched == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, len(FILES) + 1))
def test_a_worker_that_dies_while_it_sends_leaves_the_rest_to_the_driver(
    server, tracker, folder, monkeypatch, dies_at, after
):
    log, calls = server.log_artifact, iter(range(1, 100))

    def dying(*arguments):
        now = next(calls) == dies_at
        if now and not after:
            raise Killed
        log(*arguments)
        if now:
            raise Killed

    server.log_artifact = dying
    with pytest.raises(Killed):  # what it would have reported is not heard
        sending._Sending(tracker.artifact_store(), folder)._send()
    server.log_artifact = log
    artifacts = ended(tracker, folder)
    assert artifacts.keys() == FILES
    assert sum(artifacts.values()) == len(FILES) + dies_at - 1 + after
    assert max(artifacts.values()) <= 2


def test_an_end_without_a_result_is_told_whatever_the_worker_has_said(tracker, folder, tmp_path):
    tracker.files_sent(folder.path.name, Sender().send(tracker.artifact_store(), folder))
    empty = TrialDir(tmp_path / folder.path.name)
    tracker.finish_trial(folder.path.name, empty, "interrupted")
    assert tracker.finish_sweep("interrupted", {}, None) == ()
    assert {run.status for run in tracker._client._client.runs.values()} == {"KILLED"}


def test_sending_takes_a_tenth_of_the_time_at_most(server, tracker, folder, monkeypatch):
    now, log = [1000.0], server.log_artifact

    def slow(*arguments):
        now[0] += 1.0
        log(*arguments)

    server.log_artifact = slow
    monkeypatch.setattr(sending.time, "monotonic", lambda: now[0])
    sender = Sender()
    assert sender.send(tracker.artifact_store(), folder) is not None
    took = now[0] - 1000.0
    now[0] += 9 * took - 0.1
    assert sender.send(tracker.artifact_store(), folder) is None
    now[0] += 0.2
    assert sender.send(tracker.artifact_store(), folder) is not None
    tracker.finish_sweep("interrupted", {}, None)


def test_a_file_that_is_not_taken_is_left_to_the_driver_and_the_others_are_sent_once(
    server, tracker, folder
):
    log = server.log_artifact

    def full(run, path, where):
        if path.endswith("deploy.pt"):
            raise OSError("no room")
        log(run, path, where)

    server.log_artifact = full
    sent = Sender().send(tracker.artifact_store(), folder)
    server.log_artifact = log
    assert "deploy.pt" not in sent["files"]
    assert ended(tracker, folder, sent) == dict.fromkeys(FILES, 1)


def test_a_driver_that_dies_before_it_told_the_end_is_followed_by_one_that_sends_all(
    server, tracker, folder
):
    tracker.files_sent(folder.path.name, Sender().send(tracker.artifact_store(), folder))
    tracker._outbox.close(0.0)
    assert ended(begun(folder), folder).keys() == FILES


@pytest.mark.parametrize("what", ["run", "result"])
def test_files_of_another_run_or_result_do_not_count(tracker, folder, what):
    sent = Sender().send(tracker.artifact_store(), folder)
    assert ended(tracker, folder, {**sent, what: "another"}) == dict.fromkeys(FILES, 2)


def refused(uri):
    raise UserError("error code 401")


def no_mlflow(uri):
    raise ModuleNotFoundError("No module named 'mlflow'")


@pytest.mark.parametrize("opened", [refused, no_mlflow])
def test_a_worker_that_cannot_send_leaves_it_to_the_driver_and_rests(
    tracker, folder, monkeypatch, opened
):
    asked = []
    monkeypatch.setattr(sending, "open_client", lambda uri: (asked.append(uri), opened(uri)))
    now = [1000.0]
    monkeypatch.setattr(sending.time, "monotonic", lambda: now[0])
    sender = Sender()
    for seconds, times in ((0, 1), (1, 1), (sending.REST_S, 2)):
        now[0] += seconds
        assert sender.send(tracker.artifact_store(), folder) is None
        assert len(asked) == times
    assert ended(tracker, folder) == dict.fromkeys(FILES, 1)


def test_a_trial_does_not_wait_for_a_store_that_hangs(server, tracker, folder):
    log, goes_on, number = server.log_artifact, threading.Event(), iter(range(100))

    def hanging(*arguments):
        if next(number) == 2:
            assert goes_on.wait(10)
        log(*arguments)

    server.log_artifact = hanging
    sender = Sender()
    sent = sender.send(tracker.artifact_store(), folder, limit_s=0.2)
    assert len(sent["files"]) == 2
    assert sender.send(tracker.artifact_store(), folder) is None  # it rests
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "artifacts":
            thread.join(10)
    artifacts = ended(tracker, folder, sent)
    assert artifacts.keys() == FILES
    assert [artifacts[name] for name in sent["files"]] == [1, 1]


@pytest.mark.parametrize("root", ["file:///srv/mlruns/0", "/srv/mlruns/0"])
def test_artifacts_in_a_folder_of_the_drivers_machine_are_left_to_the_driver(
    server, tracker, folder, root
):
    for run in server.runs.values():
        run.artifact_uri = root
    assert Sender().send(tracker.artifact_store(), folder) is None
    assert ended(tracker, folder) == dict.fromkeys(FILES, 1)


def test_a_run_that_is_not_there_yet_is_left_to_the_driver_without_a_rest(server, folder):
    tracker = MLflowTracker(URI, "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    sender = Sender()
    assert sender.send(tracker.artifact_store(), folder) is None
    start(tracker, folder)
    done = threading.Event()
    tracker._put("what follows", done.set)
    assert done.wait(10)
    assert ended(tracker, folder, sender.send(tracker.artifact_store(), folder)).keys() == FILES


@pytest.mark.parametrize(
    "uri",
    [
        *("sqlite:///x.db", "postgresql://h/x", "http://127.0.0.1:5000", "http://localhost:5000"),
        *("http://me:password@h:5000", "http://h/?token=abcdefgh"),
    ],
)
def test_workers_are_not_told_of_a_store_of_the_machine_nor_of_a_password(server, uri):
    tracker = MLflowTracker(uri, "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    assert tracker.artifact_store() is None
    tracker.finish_sweep("finished", {}, None)


def test_a_variable_in_the_address_is_the_workers_own(server, folder, monkeypatch):
    monkeypatch.setenv("WHERE", "http://h:5000")
    tracker = MLflowTracker("${WHERE}", "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    store = tracker.artifact_store()
    assert store["uri"] == "${WHERE}"
    monkeypatch.setenv("WHERE", "sqlite:///x.db")  # on that node
    start(tracker, folder)
    assert Sender().send(store, folder) is None
    tracker.finish_sweep("finished", {}, None)


def test_a_tracker_that_is_away_tells_workers_of_nothing_until_it_answers(
    server, folder, monkeypatch
):
    answers = [False]

    def away(uri):
        if not answers[0]:
            raise ConnectionRefusedError(111, "Connection refused")
        return server

    monkeypatch.setattr(parent, "open_client", away)
    tracker = MLflowTracker(URI, "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    assert tracker.artifact_store() is None
    answers[0] = True
    start(tracker, folder)
    assert ended(tracker, folder).keys() == FILES
    assert tracker.artifact_store() is not None
