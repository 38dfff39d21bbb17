"""A lock can be looked at by whoever may read it."""

import errno
import os
import shutil

import pytest

from trainables.contract import locks
from trainables.contract.errors import UserError


def test_a_lock_is_looked_at_without_writing(tmp_path, monkeypatch):
    opened, flags = os.open, []
    monkeypatch.setattr(os, "open", lambda path, how: flags.append(how) or opened(path, how))
    assert not locks.is_held(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opened)
        held = locks.held(tmp_path, patience=0.0, busy="busy")
        held.__enter__()
    assert locks.is_held(tmp_path)
    held.__exit__(None, None, None)
    assert not locks.is_held(tmp_path)
    assert set(flags) == {os.O_RDONLY}


def test_a_lock_that_may_not_be_read_is_not_known_to_be_held(tmp_path, monkeypatch):
    def refuse(path, how):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert not locks.is_held(tmp_path)


def test_a_folder_that_may_not_be_locked_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(path, how, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with (
        pytest.raises(UserError, match="must be a folder that can be written to: Permission"),
        locks.held(tmp_path, patience=0.0, busy="busy"),
    ):
        pass


def test_where_the_file_system_has_no_locks_nothing_is_refused(tmp_path, monkeypatch):
    def refuse(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locks.held(tmp_path, patience=0.0, busy="busy"):
        assert not locks.is_held(tmp_path)
    with (tmp_path / "journal").open("w") as file:
        locks.wait_for(file.fileno())
        assert locks.taken(file.fileno())


@pytest.mark.parametrize("lock", [locks.wait_for, locks.taken])
def test_any_other_error_of_a_lock_is_raised(tmp_path, monkeypatch, lock):
    def refuse(handle, kind):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="Input/output"):
        lock(file.fileno())


def test_who_waits_for_a_folder_that_its_holder_removes_holds_the_one_that_is_there(
    tmp_path, monkeypatch
):
    folder = tmp_path / "copy"
    first = locks.held(folder, patience=0.0, busy="busy")
    first.__enter__()

    def removed(seconds):
        shutil.rmtree(folder)
        first.__exit__(None, None, None)

    monkeypatch.setattr(locks.time, "sleep", removed)
    with locks.held(folder, patience=5.0, busy="busy"):
        assert locks.is_held(folder)
        with pytest.raises(UserError, match="busy"), locks.held(folder, patience=0.0, busy="busy"):
            pass
