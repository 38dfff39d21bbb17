"""A trial whose folder lies at an address: whatever its worker dies of, and whenever, another one
goes on from what is there, and ends with the same files.
"""

import hashlib
import shutil
import socket
from itertools import product

import pytest

from tests.orchestrator.fake_run import Trial as Made
from tests.orchestrator.fake_run import result_of
from tests.trainables.remote.faulty import Killed, faulty_store
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import write_atomic
from trainables.contract.errors import Interrupted, StorageFailed, TrialFailed
from trainables.remote import attempt as attempts
from trainables.remote.attempt import StopObject, attempt, fetched
from trainables.remote.objects import Objects

EPOCHS = 4
RESULT = result_of(Made("joint", 0.0)).model_dump_json().encode()
BEST = (0, 2)
"""Epochs that are better than those before."""


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    monkeypatch.setattr(attempts, "REST", 0.0)


@pytest.fixture
def store():
    with faulty_store() as found:
        yield found


def state_of(epoch):
    return hashlib.sha256(f"weights of epoch {epoch}".encode()).hexdigest().encode()


def next_best(folder):
    return folder.best_file.with_name("next.best.pt")


def settle(folder, done):
    """As training does on its start; returns whether the best weights are those that it knows."""
    best = max((epoch for epoch in BEST if epoch < done), default=-1)
    waiting = next_best(folder)
    if waiting.is_file():
        if waiting.read_bytes() == state_of(best):
            waiting.replace(folder.best_file)
        else:
            waiting.unlink()
    return best < 0 or folder.best_file.read_bytes() == state_of(best)


def train(current, *, until=EPOCHS):
    """A trial that writes what a real one does, in its order; returns the epochs it trained."""
    folder: TrialDir = current.folder
    if folder.result_file.is_file():
        return []
    folder.failure_file.unlink(missing_ok=True)
    write_atomic(folder.config_file, b"{}")
    begin = 0
    if folder.checkpoint_file.is_file():
        begin = int(folder.checkpoint_file.read_bytes()[:1]) + 1
    assert settle(folder, begin), "the best weights are not those that the checkpoint names"
    for epoch in range(begin, until):
        if epoch in BEST:
            write_atomic(next_best(folder), state_of(epoch))
        write_atomic(folder.checkpoint_file, b"%d " % epoch + state_of(epoch))
        if epoch in BEST:
            next_best(folder).replace(folder.best_file)
        current.saved()
        current.leave()  # the upload beside training has ended
        current._rests_until = 0.0  # each is sent, so that there are always as many writes
    if until < EPOCHS:
        raise Interrupted("asked to")
    for file in (folder.selection_scores, folder.test_scores, folder.deploy_file):
        write_atomic(file, folder.best_file.read_bytes() + file.name.encode())
    write_atomic(folder.level_scores("0.5", "test"), b"scores of a level")
    write_atomic(folder.result_file, RESULT)
    return [*range(begin, EPOCHS)]


def contents(address):
    objects = Objects(address)
    return {name: objects.read(name) for name in objects.list()}


def whole():
    """What an undisturbed trial leaves, and how many writes it takes."""
    with faulty_store() as (address, fs):
        with attempt(f"{address}/t1") as current:
            train(current)
        return contents(address), fs.writes


def test_a_trial_leaves_its_files_at_the_address_and_nothing_on_the_node(store):
    address, _ = store
    with attempt(f"{address}/t1") as current:
        train(current)
        root = current.folder.path.parent
    assert not root.exists()
    assert sorted(contents(address)) == [
        "t1/checkpoint/best.pt",
        "t1/checkpoint/last.pt",
        "t1/config.json",
        "t1/deploy.pt",
        "t1/levels/0.5/scores.test.parquet",
        "t1/result.json",
        "t1/scores.selection.parquet",
        "t1/scores.test.parquet",
    ]


def test_the_result_is_written_after_everything_else(store):
    address, fs = store
    with attempt(f"{address}/t1") as current:
        train(current)
    written = [path.rsplit("/t1/")[-1] for name, path in fs.requests if name == "pipe_file"]
    assert written[-1] == "result.json"
    assert written.count("result.json") == 1


def deaths():
    files, writes = whole()
    return [pytest.param(at, after, files) for at, after in product(range(1, writes + 1), (0, 1))]


@pytest.mark.parametrize(("at", "after", "files"), deaths())
def test_a_worker_that_dies_at_any_write_is_followed_by_one_that_ends_the_same(
    store, at, after, files
):
    address, fs = store
    fs.dies_at, fs.after = at, bool(after)
    with pytest.raises(Killed), attempt(f"{address}/t1") as current:
        train(current)
    fs.dies_at = None
    fs.revive()
    with attempt(f"{address}/t1") as current:
        train(current)
    assert contents(address) == files


def test_a_trial_goes_on_from_the_epoch_that_lies_at_the_address(store):
    address, _ = store
    with pytest.raises(Interrupted), attempt(f"{address}/t1") as current:
        train(current, until=3)
    assert ".attempt" not in Objects(f"{address}/t1").list()
    with attempt(f"{address}/t1") as current:
        assert train(current) == [3]
    assert contents(address) == whole()[0]


def test_a_complete_trial_is_not_run_again(store):
    address, fs = store
    with attempt(f"{address}/t1") as current:
        train(current)
    fs.revive()
    with attempt(f"{address}/t1") as current:
        assert train(current) == []
    assert fs.writes == 0


def test_a_damaged_result_is_replaced_by_a_trial_that_goes_on(store):
    address, _ = store
    with pytest.raises(Interrupted), attempt(f"{address}/t1") as current:
        train(current, until=3)
    Objects(f"{address}/t1").write("result.json", b"{dam")
    with attempt(f"{address}/t1") as current:
        assert train(current) == [3]
    assert contents(address) == whole()[0]


def test_requests_that_have_no_answer_are_made_again(store):
    address, fs = store
    fs.fails = 2
    with attempt(f"{address}/t1") as current:
        fs.fails = 1
        train(current)
    assert contents(address) == whole()[0]


def test_an_upload_that_is_refused_is_told_by_the_next_epoch(store):
    address, fs = store

    def refused():
        with attempt(f"{address}/t1") as current:
            fs.refuses = {"pipe_file"}
            train(current)

    with pytest.raises(StorageFailed, match="no right to write there") as caught:
        refused()
    assert caught.value.refused
    assert f"{address}/t1/config.json" in str(caught.value)


def test_why_a_trial_failed_lies_at_the_address_until_it_is_tried_again(store):
    address, _ = store

    def failing():
        with attempt(f"{address}/t1") as current:
            write_atomic(current.folder.config_file, b"{}")
            write_atomic(current.folder.failure_file, b'{"reason": "r"}')
            raise TrialFailed("r")

    with pytest.raises(TrialFailed):
        failing()
    assert sorted(contents(address)) == ["t1/config.json", "t1/failure.json"]
    with attempt(f"{address}/t1") as current:
        train(current)
    assert contents(address) == whole()[0]


def test_a_worker_that_stood_still_writes_nothing_once_another_one_has_the_trial(store):
    address, _ = store

    def stood_still():
        with attempt(f"{address}/t1") as slow:
            with attempt(f"{address}/t1") as current:
                train(current)
            train(slow)

    with pytest.raises(Interrupted, match="another worker"):
        stood_still()
    assert contents(address) == whole()[0]


def test_a_checkpoint_is_sent_while_training_goes_on(store, monkeypatch):
    """The one that is sent is the one of its moment, whatever training writes meanwhile."""
    address, fs = store
    with attempt(f"{address}/t1") as current:
        folder = current.folder
        write_atomic(folder.config_file, b"{}")
        write_atomic(folder.checkpoint_file, b"first")
        sent = current._snapshot()
        write_atomic(folder.checkpoint_file, b"second")
        current._send(sent)
        assert fs._fs.cat_file(f"/{address[9:]}/t1/checkpoint/last.pt") == b"first"


def test_uploads_take_a_tenth_of_the_time(store, monkeypatch):
    monkeypatch.setattr(attempts, "REST", 9.0)
    now = [100.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now[0])
    address, _ = store
    with attempt(f"{address}/t1") as current:
        sent = []

        def send(files):
            sent.append(now[0])
            now[0] += 2.0

        monkeypatch.setattr(current, "_send", send)
        write_atomic(current.folder.config_file, b"{}")
        for epoch in range(60):
            write_atomic(current.folder.checkpoint_file, b"%d" % epoch)
            current.saved()
            current.leave()
            now[0] += 1.0
        monkeypatch.undo()
    assert sent == [100.0 + 20 * number for number in range(len(sent))]


def goes_on_without_its_folder(address, ending):
    """A trial goes on whose folder somebody removes, before it writes what it ends with."""
    with attempt(f"{address}/t1") as current:
        write_atomic(current.folder.config_file, b"{}")
        shutil.rmtree(current.folder.path.parent)
        ending(current)


def ends(current):
    write_atomic(current.folder.metrics_file, b"epochs")
    write_atomic(current.folder.result_file, RESULT)


def fails(current):
    write_atomic(current.folder.failure_file, b'{"reason": "r"}')
    raise TrialFailed("r")


def is_stopped(current):
    raise Interrupted("asked to")


def goes_on(current):
    write_atomic(current.folder.checkpoint_file, b"3 " + state_of(3))
    current.saved()
    pytest.fail("an attempt trains on whose end cannot be sent")


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (ends, FileNotFoundError),
        (fails, TrialFailed),
        (is_stopped, Interrupted),
        (goes_on, FileNotFoundError),
    ],
)
def test_a_folder_that_was_taken_away_takes_nothing_from_the_address(store, ending, error):
    """Another attempt goes on from there, and ends with the same files."""
    address, _ = store
    with pytest.raises(Interrupted), attempt(f"{address}/t1") as current:
        train(current, until=3)
    before = contents(address)
    with pytest.raises(error):
        goes_on_without_its_folder(address, ending)
    after = contents(address)
    after.pop("t1/.attempt", None)
    assert (after.pop("t1/failure.json", None) is not None) == (ending is fails)
    assert after == before
    with attempt(f"{address}/t1") as current:
        assert train(current) == [3]
    assert contents(address) == whole()[0]


def test_a_first_attempt_sends_no_result_of_a_folder_that_was_taken_away(store):
    address, _ = store
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        goes_on_without_its_folder(address, ends)
    assert list(contents(address)) == ["t1/.attempt"]


def test_an_attempt_that_is_stopped_before_it_begins_leaves_what_is_there(store):
    address, _ = store
    with pytest.raises(Interrupted), attempt(f"{address}/t1") as current:
        train(current, until=3)
    before = contents(address)
    with pytest.raises(Interrupted), attempt(f"{address}/t1"):
        raise Interrupted("asked to")
    assert contents(address) == before


def test_weights_to_start_from_are_fetched_alone(store, tmp_path):
    address, _ = store
    source = Objects(f"{address}/dense")
    config = b'{"data": {"store": "s", "protocol": "p"}, "train": {"keep": "best"}}'
    for name, content in {
        "config.json": config,
        "result.json": b"{}",
        "checkpoint/best.pt": b"best",
        "checkpoint/last.pt": b"last",
        "scores.test.parquet": b"scores",
    }.items():
        source.write(name, content)
    with fetched(f"{address}/dense") as path:
        folder = TrialDir(path)
        assert folder.kept_file.read_bytes() == b"best"
        assert not folder.test_scores.exists()
        assert folder.path.name == "dense"


def test_a_request_to_stop_is_seen(store, monkeypatch):
    monkeypatch.setattr(attempts, "CANCEL_LOOK_S", 0.01)
    address, _ = store
    stopped = StopObject(f"{address}/cancel")
    assert not stopped()
    Objects(address).write("cancel", b"{}")
    assert stopped._seen.wait(10)
    stopped.close()
    assert StopObject(f"{address}/cancel")()


def test_what_a_killed_process_left_on_the_node_is_removed(store, monkeypatch, tmp_path):
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path))
    monkeypatch.setattr(attempts, "ABANDONED_S", -1.0)
    base = tmp_path / "attempts" / socket.gethostname()
    # this machine does not see whether a process of another one runs
    elsewhere = tmp_path / "attempts" / "another-machine" / "running"
    for folder in (base / "left", elsewhere):
        write_atomic(folder / "t1" / "checkpoint" / "last.pt", b"state")
        write_atomic(folder / ".lock", b"")
    address, _ = store
    with attempt(f"{address}/t1") as running:
        assert running.folder.path.is_relative_to(base)
        assert not (base / "left").exists()
        assert elsewhere.is_dir()
        with attempt(f"{address}/t2"):
            assert running.folder.path.is_dir()
