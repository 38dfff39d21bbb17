import os
import signal
import time

from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.tuning.stopping import signals_cancel, time_budget
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


def test_the_first_signal_cancels_and_the_handlers_are_put_back(tmp_path):
    requests, notes = StopRequests(tmp_path), []
    before = signal.getsignal(signal.SIGTERM)
    with signals_cancel(requests, notes.append):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert requests.stop() == Stop("person", "received SIGTERM")
    assert len(notes) == 1
    assert "checkpoint" in notes[0]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_time_budget_cancels(tmp_path):
    requests = StopRequests(tmp_path)
    with time_budget(requests, 0.01, lambda _: None):
        time.sleep(0.2)
    assert requests.stop() == Stop("budget", "budget.hours used up")


def test_no_budget_and_a_budget_not_reached_do_nothing(tmp_path):
    requests = StopRequests(tmp_path)
    with time_budget(requests, None, lambda _: None), time_budget(requests, 60.0, lambda _: None):
        pass
    assert requests.stop() is None


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
