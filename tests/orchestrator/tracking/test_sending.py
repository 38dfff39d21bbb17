"""A node sends the files of trials that it trained: whatever dies, and whatever is in its way, the
run has every file, what arrived for certain is sent once, and nobody waits for a node.
"""

import threading
from functools import partial

import pytest

from orchestrator.tracking import mlflow, parent, sending
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.outbox import Outbox
from orchestrator.tracking.sending import Courier
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
    """MLflow's, for the driver and the node."""
    made = Server()
    monkeypatch.setattr(parent, "open_client", lambda uri: made)
    monkeypatch.setattr(sending, "open_client", lambda uri: made)
    monkeypatch.setattr(mlflow, "Outbox", partial(Outbox, every=0.002))
    return made


@pytest.fixture
def tracker(server, folder):
    return begun(folder)


@pytest.fixture
def courier(monkeypatch):
    niceness = []
    monkeypatch.setattr(sending.os, "nice", niceness.append)
    made = Courier()
    assert niceness == [sending.NICE]
    return made


class Node:
    """Sends what it is asked to when the test says so, a file at a time."""

    def __init__(self, courier):
        self._courier, self._arrived = courier, set()
        self.parcels, self.over = [], False

    def __call__(self, parcel):
        self.parcels.append(parcel)
        return self

    def sent(self):
        return frozenset(self._arrived) if self.over else None

    def work(self, files=100):
        [parcel] = self.parcels
        for name, place in [*parcel.files.items()][:files]:
            problem = self._courier.send(parcel.uri, parcel.run, name, place)
            if problem:
                break
            self._arrived.add(name)
        self.over = True


@pytest.fixture
def node(courier):
    return Node(courier)


def begun(folder, uri=URI):
    """A driver that has told of the trial's start, which the store knows."""
    tracker = MLflowTracker(uri, "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    start(tracker, folder)
    delivered(tracker)
    return tracker


def delivered(tracker):
    """Wait until the store knows what waited, but for what waits for a node."""
    wait = threading.Event()
    tracker._put("what follows", wait.set)
    assert wait.wait(10)


def finished(tracker, folder):
    """The sweep ends; the artifacts that the trial's run then has."""
    assert tracker.finish_sweep("finished", {}, None) == ()
    run = run_of(tracker, folder)
    assert run.status == "FINISHED"
    return run.artifacts


def run_of(tracker, folder):
    found = tracker._client._client.runs.values()
    [run] = [run for run in found if run.tags.get("trial") == folder.path.name]
    return run


def test_what_a_node_has_sent_the_driver_neither_sends_nor_fetches(
    tracker, folder, monkeypatch, node
):
    fetched = []
    monkeypatch.setattr(mlflow, "fetch", fetched.extend)
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    node.work()
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)
    assert fetched == []


def test_nobody_waits_for_a_node_that_sends(tracker, folder, node, tmp_path):
    """Not the trial, whose end is told meanwhile, nor other trials; the run ends with its files."""
    another = TrialDir(tmp_path / "another")
    write_atomic(another.config_file, folder.config_file.read_bytes())
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    start(tracker, another)
    tracker.log_epoch(another.path.name, 0, {"train_loss": 1.0})
    tracker.finish_trial(another.path.name, another, "interrupted")
    delivered(tracker)
    ends = {(another.path.name, "KILLED"), (folder.path.name, "RUNNING")}
    assert {(run.path.name, run_of(tracker, run).status) for run in (another, folder)} == ends
    assert run_of(tracker, folder).metrics  # only its files are waited for
    assert not tracker.delivered(folder.path.name)  # its checkpoint stays
    assert tracker.delivered(another.path.name)
    node.work(2)
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)
    assert tracker.delivered(folder.path.name)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("sent", range(len(FILES)))
def test_of_a_node_that_is_lost_while_it_sends_the_driver_sends_the_rest(
    server, tracker, folder, node, sent, told
):
    """told: the driver has heard of the last file that arrived."""
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    node.work(sent)
    if not told:
        [parcel] = node.parcels
        name, place = [*parcel.files.items()][sent]
        server.log_artifact(parcel.run, place, name.rpartition("/")[0] or None)
    artifacts = finished(tracker, folder)
    assert artifacts.keys() == FILES
    assert sum(artifacts.values()) == len(FILES) + (not told)


def test_an_end_that_is_delivered_in_several_attempts_asks_a_node_once(
    server, tracker, folder, node
):
    away, log = [3], server.log_artifact

    def sometimes(*arguments):
        if away[0]:
            away[0] -= 1
            raise ConnectionError("nobody answers")
        log(*arguments)

    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    node.work(3)
    server.log_artifact = sometimes
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)
    assert len(node.parcels) == 1


def test_a_driver_that_dies_before_it_told_the_end_is_followed_by_one_that_sends_all(
    server, tracker, folder, node
):
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    node.work(3)
    node.over = False
    tracker._outbox.close(0.0)
    after = begun(folder)
    after.finish_trial(folder.path.name, folder, "finished")
    assert finished(after, folder).keys() == FILES


def refused(uri):
    raise UserError("error code 401")


def no_mlflow(uri):
    raise ModuleNotFoundError("No module named 'mlflow'")


@pytest.mark.parametrize("opened", [refused, no_mlflow])
def test_a_node_that_cannot_send_says_why_and_leaves_it_to_the_driver(
    tracker, folder, monkeypatch, opened, courier, node
):
    monkeypatch.setattr(sending, "open_client", opened)
    problem = courier.send(URI, "run1", "config.json", str(folder.config_file))
    assert problem in ("error code 401", "No module named 'mlflow'")
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    node.work()
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)


def test_what_a_node_says_holds_no_password(monkeypatch, courier):
    def fails(uri):
        raise OSError("http://me:password@tracking:5000 does not answer")

    monkeypatch.setattr(sending, "open_client", fails)
    assert "password" not in courier.send(URI, "run1", "config.json", "/nowhere")


def test_a_node_fetches_what_lies_at_an_address_and_keeps_nothing(
    server, tracker, folder, tmp_path, monkeypatch, courier
):
    """The trial's own folder on the node is gone."""
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path))
    run, seen = run_of(tracker, folder), []
    log = server.log_artifact
    server.log_artifact = lambda run, path, where: (seen.append(path), log(run, path, where))
    for name in ("deploy.pt", "checkpoint/best.pt"):
        assert courier.send(URI, run.id, name, f"file://{folder.path}/{name}") == ""
    assert run.artifacts == {"deploy.pt": 1, "checkpoint/best.pt": 1}
    assert all(path.startswith(str(tmp_path)) for path in seen)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert "lacks" in courier.send(URI, run.id, "x", f"file://{folder.path}/lacks")
    tracker.finish_sweep("finished", {}, None)


def test_what_lies_at_an_address_is_named_by_its_address(tracker, folder, monkeypatch, node):
    monkeypatch.setattr(mlflow, "place_of", lambda path: f"s3://bucket/{path.name}")
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    assert node.parcels[0].files["checkpoint/best.pt"] == "s3://bucket/best.pt"
    node.over = True
    finished(tracker, folder)


@pytest.mark.parametrize("root", ["file:///srv/mlruns/0", "/srv/mlruns/0"])
def test_artifacts_in_a_folder_of_the_drivers_machine_are_left_to_the_driver(
    server, folder, node, root
):
    made = server.create_run

    def create_run(*arguments, **options):
        answer = made(*arguments, **options)
        answer.info.artifact_uri = root
        return answer

    server.create_run = create_run
    tracker = begun(folder)
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)
    assert node.parcels == []


def test_the_files_of_a_run_that_is_not_there_yet_are_left_to_the_driver(
    server, folder, node, monkeypatch
):
    answers = [False]

    def away(uri):
        if not answers[0]:
            raise ConnectionRefusedError(111, "Connection refused")
        return server

    monkeypatch.setattr(parent, "open_client", away)
    tracker = MLflowTracker(URI, "e")
    tracker.start_sweep("s", {}, {"mark": "abc"})
    start(tracker, folder)
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    answers[0] = True
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)
    assert node.parcels == []


@pytest.mark.parametrize(
    "uri",
    [
        *("sqlite:///x.db", "postgresql://h/x", "http://127.0.0.1:5000", "http://localhost:5000"),
        *("http://me:password@h:5000", "http://h/?token=abcdefgh"),
    ],
)
def test_nodes_are_not_told_of_a_store_of_the_machine_nor_of_a_password(server, folder, node, uri):
    tracker = begun(folder, uri)
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)
    assert node.parcels == []


def test_a_variable_in_the_address_is_the_nodes_own(server, folder, monkeypatch, node):
    monkeypatch.setenv("WHERE", "http://h:5000")
    tracker = begun(folder, "${WHERE}")
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    assert node.parcels[0].uri == "${WHERE}"
    monkeypatch.setenv("WHERE", "sqlite:///x.db")  # on that node
    node.work()
    assert node.sent() == frozenset()
    assert finished(tracker, folder) == dict.fromkeys(FILES, 1)


def test_a_folder_that_cannot_be_read_is_left_to_the_outbox(tracker, folder, node, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    listed = mlflow.artifacts_of
    monkeypatch.setattr(mlflow, "artifacts_of", broken)
    tracker.finish_trial(folder.path.name, folder, "finished", send=node)
    monkeypatch.setattr(mlflow, "artifacts_of", listed)
    assert node.parcels == []
    tracker.finish_sweep("finished", {}, None)
