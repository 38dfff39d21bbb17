"""The journal: what was appended is there, whatever a crash did to the line before."""

from __future__ import annotations

import json
import threading
import time

import pytest

from orchestrator.record.journal import Journal, read_journal


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


def test_a_line_cut_within_a_character_is_left_out(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(
        b'{"time": 1.0, "event": "trial_started", "trial": "\xc3\n[1]\n{"event": "test_read",'
        b' "time": 2.0}\n'
    )
    assert read_journal(path) == [{"event": "test_read", "time": 2.0}]


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
