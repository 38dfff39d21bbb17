import ctypes
import os
import signal
import threading
import time

import pytest

from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.tuning.signals import (
    SIGNALS,
    StopSwitch,
    fresh_switch,
    handlers_kept,
    signals_cancel,
    time_budget,
)
from trainables.ray_trainable import StopFile


def test_requests_are_files_that_can_be_cleared(tmp_path):
    requests = StopRequests(tmp_path)
    assert not requests.closed()
    assert requests.stop() is None
    requests.drain(Stop("person", "enough"))
    assert requests.closed()
    assert requests.stop() == Stop("person", "enough")
    assert not requests.cancel_file.exists()
    requests.cancel(Stop("budget", "now"))
    assert requests.stop() == Stop("budget", "now")
    requests.clear()
    assert not requests.closed()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_cancels_and_the_handlers_are_put_back(tmp_path, number):
    switch, notes = StopSwitch(StopRequests(tmp_path)), []
    assert not switch.at_once
    before = signal.getsignal(number)
    with signals_cancel(switch, notes.append):
        os.kill(os.getpid(), number)
        time.sleep(0.01)
    assert switch.stop() == Stop("person", f"received {number.name}")
    assert StopRequests(tmp_path).stop() == switch.stop()
    assert len(notes) == 1
    assert "checkpoint" in notes[0]
    assert signal.getsignal(number) is before


def test_signals_that_a_library_took_are_taken_back(tmp_path):
    switch = StopSwitch(StopRequests(tmp_path))
    with signals_cancel(switch, lambda _: None) as take:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        take()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert switch.stop() == Stop("person", "received SIGTERM")


def test_handlers_that_a_library_sets_in_a_thread_are_taken_back(tmp_path):
    """As Ray does, below Python, in the thread that starts it."""
    switch = StopSwitch(StopRequests(tmp_path))

    def library():
        with handlers_kept():
            ctypes.CDLL(None).signal(int(signal.SIGTERM), ctypes.c_void_p(1))  # SIG_IGN

    with signals_cancel(switch, lambda _: None):
        thread = threading.Thread(target=library)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert switch.stop() == Stop("person", "received SIGTERM")


def test_what_was_asked_of_an_earlier_run_is_forgotten_and_the_second_signal_ends_at_once(
    tmp_path, monkeypatch
):
    """Also where the first came before the trials, and the second while they run."""
    ended, notes = [], []
    monkeypatch.setattr("orchestrator.tuning.signals.os._exit", ended.append)
    StopRequests(tmp_path).drain(Stop("person", "long ago"))
    switch = fresh_switch(tmp_path)
    assert switch.stop() is None
    with signals_cancel(switch, notes.append, "no trial is started"):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert notes == ["SIGINT: no trial is started; once more to end at once"]
        with signals_cancel(switch, notes.append):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    assert ended == [130]


def test_one_signal_does_not_end_the_process_where_the_budget_has_cancelled(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr("orchestrator.tuning.signals.os._exit", ended.append)
    switch = StopSwitch(StopRequests(tmp_path))
    with signals_cancel(switch, lambda _: None):
        switch.cancel(Stop("budget", "budget.hours used up"))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert ended == []
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert ended == [130]
    assert switch.stop() == Stop("budget", "budget.hours used up")


def test_a_disk_that_does_not_take_the_request_ends_the_trials_at_once(tmp_path):
    switch = StopSwitch(StopRequests(tmp_path / "missing"))
    (tmp_path / "missing").touch()  # no folder: nothing can be written there
    assert not switch.closed()
    switch.cancel(Stop("system", "No space left on device"))
    assert switch.closed()
    assert switch.at_once
    assert switch.stop() == Stop("system", "No space left on device")


def test_the_time_budget_cancels(tmp_path):
    switch, ended = StopSwitch(StopRequests(tmp_path)), threading.Event()
    with time_budget(switch, 0.01, lambda _: ended.set()):
        assert ended.wait(10)
    assert switch.stop() == Stop("budget", "budget.hours used up")


def test_no_budget_and_a_budget_not_reached_do_nothing(tmp_path):
    switch = StopSwitch(StopRequests(tmp_path))
    with time_budget(switch, None, lambda _: None), time_budget(switch, 60.0, lambda _: None):
        pass
    assert switch.stop() is None


def test_a_budget_ends_with_what_it_is_for(tmp_path):
    before = set(threading.enumerate())
    with time_budget(StopSwitch(StopRequests(tmp_path)), 60.0, lambda _: None):
        [timer] = set(threading.enumerate()) - before
        assert timer.daemon  # it keeps no process alive
        assert not timer.finished.is_set()
    assert timer.finished.is_set()


def test_a_trial_sees_the_file_and_asks_the_disk_only_now_and_then(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("trainables.ray_trainable.time.monotonic", lambda: now[0])
    path = tmp_path / "cancel"
    stopped = StopFile(path)
    assert not stopped()
    path.touch()
    assert not stopped()  # within the pause the disk is not asked
    now[0] += 1.0
    assert stopped()
