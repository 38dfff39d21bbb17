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


def test_files_without_a_lasting_number_can_be_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.os.path, "samestat", lambda one, two: False)
    with (
        locks.held(tmp_path, patience=0.0, busy="busy"),
        pytest.raises(UserError, match="busy"),
        locks.held(tmp_path, patience=0.0, busy="busy"),
    ):
        pass
    assert not locks.is_held(tmp_path)


def test_a_folder_that_cannot_be_opened_again_is_one_error_and_closes_nothing_twice(
    tmp_path, monkeypatch
):
    opened, closed = locks._opened, []
    answers = iter([opened(tmp_path, ".lock")])

    def once(folder, name):
        for handle in answers:
            return handle
        raise UserError("must be a folder that can be written to")

    close = os.close
    monkeypatch.setattr(locks, "_opened", once)
    monkeypatch.setattr(locks, "_is_gone", lambda handle, file: True)
    monkeypatch.setattr(locks.os, "close", lambda handle: (closed.append(handle), close(handle)))
    with (
        pytest.raises(UserError, match="must be a folder"),
        locks.held(tmp_path, patience=0.0, busy="busy"),
    ):
        pass
    assert len(closed) == len(set(closed)) == 1
