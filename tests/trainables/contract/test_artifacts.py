"""What is written is whole and stays, what cannot be read is said."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from tests.orchestrator.fake_run import Trial, result_of
from trainables.contract.artifacts import (
    FORM,
    TrialDir,
    read_json,
    remove_leftovers,
    write_atomic,
    write_json,
)
from trainables.contract.errors import LaterForm, OutOfSpace, UserError


def test_the_content_then_the_name_are_forced_to_disk(tmp_path, monkeypatch):
    done = []
    replace = Path.replace

    def synced(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")

    def renamed(path, target):
        done.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_atomic(tmp_path / "a", b"1")
    assert done == ["content", "renamed", "folder"]
    done.clear()
    write_atomic(tmp_path / "new" / "a", b"1")
    assert done == ["folder", "content", "renamed", "folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, code):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def full(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfSpace) as caught:
        write_atomic(path, b"new")
    assert str(caught.value) == f"{path}: cannot be written: {os.strerror(code)}"
    assert caught.value.errno == code
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_a_killed_write_left_is_removed(tmp_path):
    mine = [tmp_path / "deep" / ".result.json.0123abcd.partial"]
    theirs = [tmp_path / ".notes.partial", tmp_path / "deep" / "x.0123abcd.partial"]
    for path in mine + theirs:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    remove_leftovers(tmp_path)
    assert not mine[0].exists()
    assert all(path.exists() for path in theirs)


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: is damaged"):
        read_json(path)


@pytest.fixture
def folder(tmp_path):
    folder = TrialDir(tmp_path)
    result = result_of(Trial("joint", 0.0))
    write_atomic(folder.result_file, result.model_dump_json().encode())
    return folder


def test_a_result_is_read_as_it_was_written(folder):
    assert folder.load() == folder.load_if_complete()
    assert folder.load().form == FORM
    assert "form" not in folder.load().metrics()


def test_a_result_without_a_form_is_one_of_version_0_2(folder):
    content = read_json(folder.result_file)
    del content["form"]
    write_json(folder.result_file, content)
    assert folder.load().form == 1
    assert folder.is_complete()


@pytest.mark.parametrize("keep", [0, 1, 200])
def test_a_truncated_result_is_none(folder, keep):
    folder.result_file.write_bytes(folder.result_file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"result\.json: is damaged"):
        folder.load()
    assert not folder.is_complete()


def test_a_result_that_lacks_a_number_is_damaged_and_says_which(folder):
    content = read_json(folder.result_file)
    del content["cost"]["params"]
    write_json(folder.result_file, content)
    with pytest.raises(UserError, match=r"result\.json: is damaged, cost\.params: Field required"):
        folder.load()


def test_a_result_of_a_later_version_is_not_taken_for_a_damaged_one(folder):
    content = read_json(folder.result_file)
    write_json(folder.result_file, content | {"form": FORM + 1, "invented": 1})
    with pytest.raises(LaterForm, match=rf"must be of a form up to {FORM}, got {FORM + 1}"):
        folder.is_complete()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"reason": "loss is nan"}'])
def test_a_failure_counts_whatever_its_file_holds(tmp_path, content):
    folder = TrialDir(tmp_path)
    folder.failure_file.write_text(content)
    reason = folder.load_failure()
    assert reason is not None
    assert ("is damaged" in reason) != ("nan" in content)
    assert json.dumps(reason)
