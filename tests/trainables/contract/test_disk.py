"""What is written is whole and stays, what cannot be read is said, a full disk is known as such."""

import errno
import os
import pickle
import stat
from pathlib import Path

import pytest

from trainables.contract import disk
from trainables.contract.disk import (
    check_writable,
    disk_problem,
    forced_together,
    read_json,
    remove_leftovers,
    write_atomic,
)
from trainables.contract.errors import NotWritable, OutOfSpace, UserError


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


@pytest.mark.parametrize(
    ("name", "why"), [("folder", "Is a directory"), ("file/deep/a", "Not a directory")]
)
def test_what_cannot_be_written_is_called_by_its_own_name(tmp_path, name, why):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NotWritable) as caught:
        write_atomic(tmp_path / name, b"x")
    said = pickle.loads(pickle.dumps(caught.value))  # as a worker sends it
    assert str(said) == f"{tmp_path / name}: cannot be written: {why}"
    assert said.exit_code == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]


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


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device: runs/x"),
        (errno.EDQUOT, "Disk quota exceeded: runs/x"),
        (errno.EROFS, "Read-only file system: runs/x"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
    ],
)
def test_errors_of_a_disk_that_takes_no_more(number, words):
    assert disk_problem(OSError(number, "said by the system", "runs/x")) == words


def test_an_error_that_came_of_a_full_disk_is_one():
    with pytest.raises(UserError) as caught:  # noqa: PT012
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise UserError("runs/x: must be a folder that can be written to") from error
    assert disk_problem(caught.value) == "No space left on device"
    assert disk_problem(UserError("anything else")) is None


def test_files_then_names_are_forced_together_once_and_only_where_all_went_well(
    tmp_path, monkeypatch
):
    synced, sync = [], os.fsync

    def noted(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with forced_together():
        for name in ("b", "a", "b"):
            write_atomic(tmp_path / name, b"x")
        assert synced == []
    assert synced == ["a", "b", tmp_path.name]
    synced.clear()
    write_atomic(tmp_path / "c", b"x")
    assert len(synced) == 2  # of its own, as ever
    synced.clear()
    with pytest.raises(NotWritable), forced_together():  # noqa: PT012
        write_atomic(tmp_path / "d", b"x")
        write_atomic(tmp_path, b"x")
    assert synced == []


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, OutOfSpace), (errno.EIO, NotWritable)])
def test_a_file_that_cannot_be_forced_to_disk_is_named_and_removed(
    tmp_path, monkeypatch, code, kind
):
    def refused(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().name == "b":
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(kind) as caught, forced_together():  # noqa: PT012
        write_atomic(tmp_path / "a", b"x")
        write_atomic(tmp_path / "b", b"x")
    assert str(caught.value) == f"{tmp_path / 'b'}: cannot be written: {os.strerror(code)}"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_that_takes_no_names_is_said(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(disk, "sync_folder", full)
    with pytest.raises(OutOfSpace), forced_together():
        write_atomic(tmp_path / "e", b"x")


@pytest.mark.parametrize("write", [check_writable, lambda path: write_atomic(path, b"x")])
def test_an_address_is_no_file_of_this_machine(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^s3:/bucket/x: must be a place on this machine, no addr"):
        write(Path("s3://bucket/x"))
    assert list(tmp_path.iterdir()) == []
