"""The journal: what was appended is there, whatever a crash did to the line before."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import threading
import time

import pytest

from orchestrator.record import journal as journal_module
from orchestrator.record.journal import Journal, read_journal, running_seconds
from trainables.contract.errors import OutOfSpace


def test_events_come_back_in_order_with_time_and_fields(tmp_path):
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    before = time.time()
    journal.append("sweep_started", name="s")
    journal.append("trial_failed", trial="a", reason="loss is nan\nafter 3 steps")
    events = read_journal(journal.path)
    assert [event["event"] for event in events] == ["sweep_started", "trial_failed"]
    assert events[1]["reason"] == "loss is nan\nafter 3 steps"
    assert before <= events[0]["time"] <= events[1]["time"] <= time.time()


def test_no_file_means_no_events(tmp_path):
    assert read_journal(tmp_path / "journal.jsonl") == []


def test_an_unknown_event_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="trial_begun"):
        Journal(tmp_path / "journal.jsonl").append("trial_begun")


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_line_cut_by_a_crash_costs_that_line_only(tmp_path, cut):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial_started", trial="a")
    whole = journal.path.read_bytes()
    journal.append("trial_started", trial="b")
    journal.path.write_bytes(whole + journal.path.read_bytes()[len(whole) :][:cut])
    assert [event["trial"] for event in read_journal(journal.path)] == ["a"]
    Journal(journal.path).append("trial_finished", trial="c")
    assert [event["trial"] for event in read_journal(journal.path)] == ["a", "c"]


def test_a_journal_that_changed_is_read_as_it_is(tmp_path):
    """What was read of it before counts only as far as it is still there."""
    path, other = tmp_path / "journal.jsonl", tmp_path / "other.jsonl"
    for name, trials in ((path, "abc"), (other, "def")):
        Journal(name).append_all("trial_started", [{"trial": trial} for trial in trials])
    assert trials_of(path) == "abc"
    Journal(path).append("trial_started", trial="d")
    assert trials_of(path) == "abcd"
    read_journal(path).clear()
    assert trials_of(path) == "abcd"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    assert trials_of(path) == "ab"
    path.write_bytes(b"".join((lines[3], *lines[1:])))
    assert trials_of(path) == "dbcd"
    assert trials_of(other) == "def"
    path.write_bytes(b"")
    assert trials_of(path) == ""


def test_a_line_is_parsed_once_however_often_a_journal_is_read(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(
        journal_module.json, "loads", lambda line, loads=json.loads: parsed.append(1) or loads(line)
    )
    journal = Journal(tmp_path / "journal.jsonl")
    for count in range(1, 4):
        journal.append("trial_started", trial="a")
        assert len(read_journal(journal.path)) == count == len(read_journal(journal.path))
        assert len(parsed) == count


def trials_of(path):
    return "".join(event["trial"] for event in read_journal(path))


def test_a_line_cut_within_a_character_is_left_out(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(
        b'{"time": 1.0, "event": "trial_started", "trial": "\xc3\n[1]\n{"event": "test_read",'
        b' "time": 2.0}\n'
    )
    assert read_journal(path) == [{"event": "test_read", "time": 2.0}]


def test_a_damaged_line_is_said_once_however_often_it_is_read(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'[1]\n{"time": 1')
    for _ in range(3):
        read_journal(path)
    assert caplog.messages == [
        f"{path}:1: not an event, left out",
        f"{path}:2: incomplete line left out",
    ]


def test_a_file_that_is_no_journal_is_one_warning(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"SQLite format 3\n" * 130)
    assert read_journal(path) == []
    [said] = caplog.messages
    assert said.startswith(f"{path}: 130 lines are no events and are left out")


def test_writers_in_parallel_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "journal.jsonl"

    def write(writer):
        for number in range(20):
            Journal(path).append("trial_started", trial=f"{writer}-{number}", padding="x" * 500)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_text().splitlines()
    assert {json.loads(line)["trial"] for line in lines} == {
        f"{w}-{n}" for w in range(4) for n in range(20)
    }
    assert len(lines) == 80


def test_many_events_are_forced_to_disk_once_and_under_the_lock(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    path.touch()
    done = []
    for module, name in ((os, "fsync"), (os, "write"), (fcntl, "flock")):
        monkeypatch.setattr(module, name, _told(getattr(module, name), name, done))
    Journal(path).append_all("trial_proposed", [{"trial": "a"}, {"trial": "b"}])
    assert done == ["flock", "write", "fsync"]
    assert [event["trial"] for event in read_journal(path)] == ["a", "b"]


def test_the_name_of_a_new_journal_is_forced_to_disk_too(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_mode))
    Journal(tmp_path / "journal.jsonl").append("sweep_started")
    assert [stat.S_ISDIR(mode) for mode in synced] == [False, True]


def test_a_writer_waits_for_the_one_who_holds_the_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).append("trial_started", trial="a")
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b'{"time": 1.0, "event": "trial_sta')
        other.flush()
        writer = threading.Thread(target=Journal(path).append, args=("sweep_finished",))
        writer.start()
        other.write(b'rted", "trial": "b"}\n')
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
    writer.join()
    assert len(read_journal(path)) == 3


def test_a_full_disk_is_an_error_of_its_own_that_names_the_journal(tmp_path, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutOfSpace, match=r"journal\.jsonl: cannot be written: No space left"):
        Journal(tmp_path / "journal.jsonl").append("sweep_started")


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "test_read"}',
        b'{"event": "trial_started", "time": 1.0}',
        b'{"event": 3, "time": 1.0}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_left_out(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b"\n")
    Journal(path).append("sweep_finished")
    assert [event["event"] for event in read_journal(path)] == ["sweep_finished"]


def _event(kind, time, elapsed=None, **fields):
    spans = {} if elapsed is None else {"elapsed": elapsed}
    return {"event": kind, "time": time, **spans, **fields}


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ([], 0),
        # a clock that was set back, and one that was set forward
        ([_event("sweep_started", 5000, 0), _event("trial_finished", 100, 60)], 60),
        ([_event("sweep_started", 0, 0), _event("sweep_interrupted", 90_000, 60)], 60),
        # what is done after a run's end
        (
            [
                _event("sweep_started", 0, 0),
                _event("sweep_interrupted", 60, 60),
                _event("ensemble_built", 90_000),
                _event("test_read", 90_001),
            ],
            60,
        ),
        # the same after a run that was killed
        (
            [
                _event("sweep_started", 0, 0),
                _event("trial_started", 60, 60),
                _event("test_read", 90_000),
            ],
            60,
        ),
        # runs that were killed before anything happened
        ([_event("sweep_started", 0, 0), _event("sweep_resumed", 60, 0)], 0),
        ([_event("sweep_started", 0), _event("sweep_resumed", 60)], 0),
        # pauses between runs
        (
            [
                _event("sweep_started", 0, 0),
                _event("sweep_interrupted", 60, 60),
                _event("sweep_resumed", 90_000, 0),
                _event("trial_started", 90_030, 30),
            ],
            90,
        ),
        # version 0.2 wrote the time alone
        ([_event("sweep_started", 100), _event("trial_finished", 1100)], 1000),
        # after a run that was killed somebody built ensembles
        (
            [
                _event("sweep_started", 100),
                _event("trial_finished", 1100),
                _event("ensemble_built", 90_000),
            ],
            1000,
        ),
        (
            [
                _event("sweep_started", 0),
                _event("trial_started", 600),
                _event("sweep_resumed", 9000),
                _event("sweep_interrupted", 9400),
                _event("ensemble_built", 90_000),
            ],
            1000,
        ),
    ],
)
def test_running_time_is_that_of_the_runs(events, seconds):
    assert running_seconds(events) == seconds


def test_events_of_a_run_say_how_long_it_has_been_running(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", time.monotonic() - 100)
    journal.append("sweep_interrupted", reason="r")
    assert 100 <= read_journal(journal.path)[0]["elapsed"] < 110


def test_a_run_in_which_nothing_happens_says_that_it_goes_on(tmp_path, monkeypatch):
    """A driver that is killed in a quiet trial has lost no more than one interval."""
    now = [1000.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now[0])
    journal = Journal(tmp_path / "journal.jsonl", now[0])
    journal.append("sweep_started")
    for _ in range(3600):  # an hour, a look a second, as the driver does
        now[0] += 1
        journal.heartbeat()
    events = read_journal(journal.path)
    assert [event["event"] for event in events] == ["sweep_started", *["sweep_running"] * 12]
    assert running_seconds(events) == 3600
    now[0] += 200
    journal.append("trial_finished", trial="a")
    now[0] += 200
    journal.heartbeat()
    assert read_journal(journal.path)[-1]["event"] == "trial_finished"


def test_elapsed_seconds_have_three_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 112.3456789)
    journal = Journal(tmp_path / "journal.jsonl", began=100.0)
    journal.append("test_read")
    assert read_journal(journal.path)[0]["elapsed"] == 12.346


def test_a_journal_that_cannot_be_written_for_another_reason_says_that(tmp_path, monkeypatch):
    def denied(descriptor, content):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "write", denied)
    with pytest.raises(PermissionError):
        Journal(tmp_path / "journal.jsonl").append("sweep_started")


def test_a_write_that_takes_only_a_part_is_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("trial_started", trial="a")
    assert [event["trial"] for event in read_journal(journal.path)] == ["a"]


def _told(function, name, done):
    def call(*arguments):
        done.append(name)
        return function(*arguments)

    return call
