"""Room for a sweep's trials: asked for before they start, and while they run."""

import errno
from types import SimpleNamespace

import pytest

from orchestrator.planning import space
from orchestrator.record.states import load_trials
from orchestrator.tuning.room import CHECK_S, Room
from orchestrator.tuning.sweep_run import SweepRun
from tests.orchestrator.fake_run import make_store
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A sweep of four trials, none of which has ended."""
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "store")
    sweep = loaded(
        tmp_path, SMALL, "data.store=store", "data.selection={kind: protocol}", "tracking.uri=none"
    )
    folder, trials = recorded(sweep)
    return SweepRun(sweep, folder, trials, None, None)


def free(monkeypatch, size):
    found = SimpleNamespace(f_bavail=size, f_frsize=1)
    monkeypatch.setattr(space.os, "statvfs", lambda path: found)


def needed(context, *, without=0):
    prints = space.Footprints.of(context.sweep)
    return prints.needed(context.sweep, context.trials[without:], 2) + space.MARGIN


def test_a_sweep_without_room_is_refused_with_what_would_help(context, monkeypatch):
    states = load_trials(context.folder)
    free(monkeypatch, needed(context))
    Room(context).check_start(states, 2)
    free(monkeypatch, needed(context) - 5000)
    with pytest.raises(UserError) as caught:
        Room(context).check_start(states, 2)
    text = str(caught.value)
    assert text.startswith("runs/small: 4 trials are expected to need 16.")
    assert "16.4 MB are free: 5 kB are missing (with retain.checkpoints none 16." in text


def test_trials_that_have_ended_need_no_more(context, monkeypatch):
    failed = context.trials[0].proposal.folder(context.folder)
    free(monkeypatch, needed(context, without=1))
    with pytest.raises(UserError, match="4 trials are expected"):
        Room(context).check_start(load_trials(context.folder), 2)
    write_json(failed.failure_file, {"reason": "loss is nan"})
    Room(context).check_start(load_trials(context.folder), 2)


def test_running_trials_need_what_their_end_takes(context, monkeypatch):
    names = [trial.proposal.trial for trial in context.trials]
    prints = space.Footprints.of(context.sweep)
    two = sum(prints.trial(trial).whole for trial in context.trials[:2]) + space.MARGIN
    free(monkeypatch, two)
    assert Room(context).problem(names[:2]) is None
    free(monkeypatch, two - 1000)
    found = Room(context).problem(names[:2])
    assert found.startswith("runs/small: the 2 running trials need 16.")
    assert found.endswith(" are free: 1 kB are missing")
    assert Room(context).problem(names[:1]) is None
    free(monkeypatch, 0)
    assert "the running trial needs 16.1 MB of disk, 0 bytes" in Room(context).problem(names[:1])


def test_what_is_free_is_looked_at_now_and_then(context, monkeypatch):
    now = [0.0]
    room = Room(context, lambda: now[0])
    free(monkeypatch, 1e9)
    assert room.problem([]) is None
    free(monkeypatch, 0)
    assert room.problem([]) is None
    now[0] = CHECK_S
    assert "0 bytes are free: 16 MB are missing" in room.problem([])


def test_without_sizes_or_an_answer_nothing_is_stopped(context, monkeypatch, tmp_path):
    (tmp_path / "store").rename(tmp_path / "gone")
    room = Room(context)
    free(monkeypatch, 0)
    room.check_start(load_trials(context.folder), 2)  # the store is another error's word

    def refuse(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(space.os, "statvfs", refuse)
    assert room.problem([]) is None
