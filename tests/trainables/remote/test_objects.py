"""Objects below an address while the other side fails: what is tried again, and for how long."""

import logging
import threading

import pytest

from tests.trainables.remote.faulty import faulty_store
from trainables.contract.errors import StorageFailed, UserError
from trainables.remote import objects as module
from trainables.remote.filesystem import may_pass
from trainables.remote.objects import AT_ONCE, Objects


@pytest.fixture
def store():
    with faulty_store() as found:
        yield found


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as this machine's clock shows them."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def each_takes(fs, clock, seconds, monkeypatch):
    before = fs._before

    def late(*call):
        clock[0] += seconds
        before(*call)

    monkeypatch.setattr(fs, "_before", late)


def test_what_waits_behind_a_failure_is_not_begun(store, tmp_path, monkeypatch):
    """Those that have no answer pause no longer once one is refused."""
    address, fs = store
    monkeypatch.setattr(module, "PAUSES_S", (20.0,))
    begun, others = [], threading.Barrier(AT_ONCE)

    def before(_, path):
        begun.append(path)
        if len(begun) <= AT_ONCE:
            others.wait(10)
        if path.endswith("/0"):
            raise PermissionError("AccessDenied")
        raise TimeoutError("no answer in 60 s")

    monkeypatch.setattr(fs, "_before", before)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(StorageFailed, match="no right to write there"):
        Objects(address).store({str(number): file for number in range(100)})
    assert len(begun) <= 2 * AT_ONCE


def test_an_interrupt_ends_what_is_under_way(store, monkeypatch):
    begun = threading.Semaphore(0)

    def work(number):
        begun.release()
        if number:
            assert module._GIVEN_UP.get().wait(20)
        else:
            begun.acquire()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module._all_at_once(work, range(1000))
    assert not module._GIVEN_UP.get().is_set()


def test_no_attempt_begins_after_two_minutes(store, clock, monkeypatch):
    address, fs = store
    monkeypatch.setattr(module, "PAUSES_S", (0.0,) * 50)
    each_takes(fs, clock, 50.0, monkeypatch)
    fs.fails = 100
    with pytest.raises(StorageFailed, match="nothing answers, or not in time"):
        Objects(address).read("x")
    assert len(fs.requests) == 3


def test_the_patience_of_a_caller_may_be_shorter(store, clock, monkeypatch):
    address, fs = store
    each_takes(fs, clock, 50.0, monkeypatch)
    fs.fails = 100
    with pytest.raises(StorageFailed):
        Objects(address, patience_s=30.0).read("x")
    assert len(fs.requests) == 1


def test_the_same_outage_is_waited_for_once(store):
    address, fs = store
    objects = Objects(address)
    fs.fails = 5
    for requests in (3, 4, 5):
        with pytest.raises(StorageFailed):
            objects.write("x", b"x")
        assert len(fs.requests) == requests
    objects.write("x", b"x")  # there is an answer again
    fs.fails = 2
    assert objects.read("x") == b"x"


def test_that_nothing_answers_is_said_while_it_is_waited_for(store, caplog):
    address, fs = store
    objects = Objects(address)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            fs.fails = 2
            objects.write("x", b"x")
    (said,) = caplog.messages
    assert said == (
        f"{address}: nothing answers, or not in time (no answer in 60 s): check the network;"
        " trying for 120 s more"
    )


def test_what_was_made_is_ours_although_the_answer_was_lost(store, monkeypatch):
    address, fs = store
    objects, write, lost = Objects(address), fs.pipe_file, [True]

    def losing(*arguments, **options):
        write(*arguments, **options)
        if lost.pop():
            raise ConnectionError("the answer was lost")

    monkeypatch.setattr(fs, "pipe_file", losing, raising=False)
    assert objects.make("lease", b"mine")
    monkeypatch.setattr(fs, "pipe_file", write, raising=False)
    assert not objects.make("lease", b"of another")
    assert objects.read("lease") == b"mine"


def test_of_two_that_make_an_object_one_is_told_so_where_the_store_knows_no_condition(
    store, monkeypatch
):
    address, fs = store
    write = fs.pipe_file

    def both(path, content, mode="overwrite"):
        write(path, content)
        if content == b"first":
            write(path, b"second")

    monkeypatch.setattr(fs, "pipe_file", both, raising=False)
    assert not Objects(address).make("lease", b"first")
    assert Objects(address).make("lease", b"second")


def test_a_call_to_s3_is_made_again_here_where_it_is_said():
    """And what s3fs would make again by itself is among what is made again here."""
    core = pytest.importorskip("s3fs.core")
    assert Objects("s3://bucket/runs")._fs.retries == 1
    kinds = [kind for kind in core.S3_RETRYABLE_ERRORS if not may_pass(kind.__new__(kind))]
    assert kinds == []


def test_objects_lie_where_they_can_be_written():
    with pytest.raises(UserError, match=r"https://example\.invalid/runs: must be an address that"):
        Objects("https://example.invalid/runs")
