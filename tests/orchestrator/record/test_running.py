"""The record of running trials: read by `status`, never in its way."""

import pytest

from orchestrator.record.running import (
    FILE,
    Running,
    RunningTrial,
    all_seconds_left,
    duration,
    load_running,
    remove_running,
    write_running,
)


def trial(left=None, **values):
    return RunningTrial("a-1", "a", 65, seconds_left=left, **values)


def test_what_is_written_is_read(tmp_path):
    running = Running((trial(40.0, epoch=12, train_loss=1.25, selection_top1=0.5),), 100.0)
    write_running(tmp_path, running)
    assert load_running(tmp_path) == running
    for _ in range(2):
        remove_running(tmp_path)
    assert load_running(tmp_path) == Running()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, '{"trials": [{"unknown": 1}]}', "null"]
)
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert load_running(tmp_path) == Running()


def test_words_count_epochs_from_one():
    assert trial().words == "before its first epoch"
    assert trial(epoch=1, train_loss=0.5).words == "epoch 1/65, loss 0.500"
    words = trial(2400.0, epoch=12, train_loss=1.2345, selection_top1=0.561).words
    assert words == "epoch 12/65, loss 1.234, selection 56.1 %, about 40 min left"


def test_a_long_epoch_says_which_step_it_is_at():
    assert trial(step=40, steps=600).words == "still in epoch 1, step 40/600"
    assert trial(epoch=12, step=40, steps=600).words == "epoch 12/65, step 40/600"
    assert trial(epoch=12, step=40, steps=600).position == "12/65, step 40/600"
    assert trial(0.0, epoch=65).words == trial(epoch=65).words == "epoch 65/65"


@pytest.mark.parametrize(
    ("running", "waiting", "trial_seconds", "at_once", "expected"),
    [
        ([], 4, 10.0, 2, 20.0),
        ([trial(30.0), trial(10.0)], 0, None, 2, 30.0),  # not shorter than the longest
        ([trial(30.0), trial(10.0)], 4, 100.0, 2, 220.0),
        ([trial(30.0), trial(None)], 0, 50.0, 1, 80.0),
        ([trial(30.0)], 1, None, 1, None),
        ([trial(None)], 0, None, 1, None),
    ],
)
def test_time_left(running, waiting, trial_seconds, at_once, expected):
    assert all_seconds_left(running, waiting, trial_seconds, at_once) == expected


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 s"),
        (45.4, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (12600, "3.5 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
