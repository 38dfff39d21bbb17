"""Stores at addresses: one copy per machine, nothing half-made, and a clear word when something is
missing.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tests import counted_files
from tests.counted_files import CountedFiles
from tests.naive_stores import bytes_of, clip, description, store
from tests.object_store import ObjectStore
from tests.waiting import until
from trainables.contract.errors import Unreached, UserError
from trainables.data.store import cache
from trainables.data.store.cache import cache_folder, local_store, open_outline, open_store
from trainables.data.store.pushing import push_store
from trainables.data.store.reading import Store, write_store

CLIPS = [clip("a", 0), clip("b", 1, frames=3, persons=2), clip("c", 1, split="test")]
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(counted_files.OPENED, str(tmp_path / "opened"))
    monkeypatch.setattr(cache, "PAUSE_S", 0.0)
    yield
    CountedFiles.failing.clear()


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return store(tmp_path / "source", CLIPS)


def opened(tmp_path: Path) -> list[str]:
    file = tmp_path / "opened"
    return file.read_text().splitlines() if file.exists() else []


def copies() -> list[str]:
    """Everything in the cache that could be taken for a store, finished or not."""
    return sorted(
        path.name for path in cache_folder().glob("*") if path.name not in (".locks", ".seen")
    )


def test_a_path_is_used_where_it_is(made: Store, tmp_path: Path) -> None:
    assert local_store(str(made.path)) == made.path
    assert local_store("source", tmp_path) == made.path
    assert open_store(made.path).info == made.info
    assert not cache_folder().exists()


def test_a_uri_is_downloaded_once_and_holds_the_same(made: Store, tmp_path: Path) -> None:
    uri = f"counted://{made.path}"
    first = open_store(uri, root=Path("/not/looked/at"))
    assert first.path.parent == cache_folder()
    assert bytes_of(first.path) == bytes_of(made.path)
    np.testing.assert_array_equal(first.clip(1), CLIPS[1].joints)
    assert open_store(f"{uri}/").path == first.path
    assert sorted(opened(tmp_path)) == [
        "clips.parquet",
        "dataset.json",
        "dataset.json",
        "joints.npy",
    ]
    assert copies() == [first.path.name]
    assert first.path.name.startswith("source-")


def test_files_of_other_kinds_of_uri(made: Store) -> None:
    expected = bytes_of(made.path)
    assert bytes_of(local_store(f"file://{made.path}")) == expected
    memory = fsspec.filesystem("memory")
    for name, content in expected.items():
        memory.pipe_file(f"/bucket/{name}", content)
    found = local_store("memory://bucket")
    assert bytes_of(found) == expected
    assert found.name == f"bucket-{found.name[-16:]}"


def test_a_copy_that_was_deleted_by_half_is_made_again(made: Store) -> None:
    copy = local_store(f"file://{made.path}")
    (copy / "dataset.json").unlink()
    assert bytes_of(local_store(f"file://{made.path}")) == bytes_of(made.path)


def test_a_replaced_store_gets_another_copy(made: Store) -> None:
    uri = f"file://{made.path}"
    before = open_store(uri)
    write_store(made.path, [clip("z"), clip("zz", split="test")], description(), force=True)
    after = open_store(uri)
    assert after.column("id").tolist() == ["z", "zz"]
    assert before.path != after.path
    np.testing.assert_array_equal(before.clip(0), CLIPS[0].joints)  # whoever still uses it keeps it


PROCESSES = """
import os, sys
import fsspec.core, pyarrow.fs
from tests import counted_files
from trainables.data.store.cache import local_store
print("ready", flush=True)
children = []
for _ in range(int(sys.argv[2])):
    children.append(os.fork())
    if not children[-1]:
        # a line at once: they share the pipe
        os.write(1, f"{local_store(sys.argv[1])}\\n".encode())
        os._exit(0)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def started(uri: str, processes: int, opening: dict[str, str]) -> subprocess.Popen[str]:
    """Processes that want the store at `uri` at the same time; opening: of a file, as variables
    of their environment.
    """
    command = [sys.executable, "-c", PROCESSES, uri, str(processes)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | opening
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )


def test_eight_processes_download_once(made: Store, tmp_path: Path) -> None:
    processes = started(f"counted://{made.path}", 8, {counted_files.DELAY: "0.2"})
    printed = processes.communicate(timeout=240)[0].splitlines()
    assert processes.returncode == 0
    assert len(printed) == 1 + 8
    (copy,) = set(printed[1:])
    assert bytes_of(Path(copy)) == bytes_of(made.path)
    assert sorted(opened(tmp_path)) == ["clips.parquet", *["dataset.json"] * 8, "joints.npy"]


def test_a_killed_download_leaves_nothing_that_looks_finished(made: Store, tmp_path: Path) -> None:
    process = started(f"counted://{made.path}", 1, {counted_files.HANGS: "joints.npy"})
    until(lambda: "joints.npy" in opened(tmp_path))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (left,) = copies()
    assert left.startswith(".")
    assert [file.name for file in (cache_folder() / left).iterdir()] == ["clips.parquet"]
    again = open_store(f"counted://{made.path}")
    assert bytes_of(again.path) == bytes_of(made.path)
    assert copies() == [again.path.name]


@pytest.mark.parametrize(("kept", "tries"), [(b"", 1), (b"\0" * 10, 2), (b"\0" * 10**6, 2)])
def test_what_a_killed_process_had_fetched_is_gone_on_from(
    made: Store, tmp_path: Path, kept: bytes, tries: int
) -> None:
    """Its first bytes, or others that are thrown away."""
    path = local_store(f"counted://{made.path}")
    shutil.rmtree(path)
    partial = path.with_name(f".{path.name}.partial")
    partial.mkdir()
    joints = (made.path / "joints.npy").read_bytes()
    (partial / "joints.npy").write_bytes(kept or joints[: len(joints) // 2])
    assert bytes_of(local_store(f"counted://{made.path}")) == bytes_of(made.path)
    assert opened(tmp_path).count("joints.npy") == 1 + tries


@pytest.mark.parametrize("name", ["clips.parquet", "joints.npy"])
def test_what_does_not_match_its_checksum_is_not_kept(
    made: Store, tmp_path: Path, name: str
) -> None:
    right = (made.path / name).read_bytes()
    (made.path / name).write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(
        UserError,
        match=(
            rf"counted://.*source: {name} must match the checksum in dataset.json, but what arrived"
            r" does not"
        ),
    ):
        open_store(f"counted://{made.path}")
    assert opened(tmp_path).count(name) == cache.ATTEMPTS
    assert copies() == []
    (made.path / name).write_bytes(right)
    assert open_store(f"counted://{made.path}").info == made.info


@pytest.mark.parametrize("name", ["dataset.json", "clips.parquet", "joints.npy"])
def test_a_failure_that_passes_is_tried_again(made: Store, tmp_path: Path, name: str) -> None:
    CountedFiles.failing[name] = [OSError("the network sneezed")]
    assert open_store(f"counted://{made.path}").info == made.info
    assert opened(tmp_path).count(name) == 2


def test_a_failure_that_stays_is_said(made: Store) -> None:
    CountedFiles.failing["joints.npy"] = [
        OSError("no route to host\nrequest 17") for _ in range(cache.ATTEMPTS)
    ]
    with pytest.raises(
        UserError, match=r"source: nothing answers, .*\(no route to host\): check the"
    ):
        open_store(f"counted://{made.path}")
    assert copies() == []


def test_an_interrupted_download_leaves_nothing(made: Store) -> None:
    CountedFiles.failing["joints.npy"] = [KeyboardInterrupt()]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        open_store(f"counted://{made.path}")
    assert copies() == []


def test_without_a_network_the_copy_made_earlier_is_used(
    made: Store, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"counted://{made.path}"
    before = open_store(uri)
    CountedFiles.failing["dataset.json"] = [
        OSError("no route to host") for _ in range(2 * cache.ATTEMPTS)
    ]
    caplog.clear()
    assert open_store(uri).path == before.path
    assert (
        f"(no route to host): check the network; using the copy made earlier, {before.path}"
        in caplog.messages[-1]
    )
    # holds the same, but nobody has fetched it from there
    other = store(made.path.with_name("other"), CLIPS)
    with pytest.raises(UserError, match=r"other: nothing answers, .*no route to host"):
        open_store(f"counted://{other.path}")


def test_a_store_that_is_gone_is_not_replaced_by_an_old_copy(made: Store) -> None:
    uri = f"counted://{made.path}"
    open_store(uri)
    (made.path / "dataset.json").unlink()
    with pytest.raises(
        UserError,
        match=r"must be a store made by 'orchestrate data', but no dataset\.json is found there",
    ):
        open_store(uri)


def test_access_denied_is_said_at_once(made: Store, tmp_path: Path) -> None:
    CountedFiles.failing["dataset.json"] = [PermissionError(errno.EACCES, "Permission denied")]
    with pytest.raises(UserError, match=r"source: no right to read there .Permission denied"):
        open_store(f"counted://{made.path}")
    assert opened(tmp_path) == ["dataset.json"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nothing://bucket/store", r"nothing://bucket/store: must begin with a protocol that is"),
        ("file:///nowhere/at", r"file:///nowhere/at: must be a store .* no dataset\.json is found"),
        (
            "s3://key:secret@bucket/store",
            r"^s3://key:\*\*\*@bucket/store: must not hold a password",
        ),
    ],
)
def test_wrong_addresses_are_named(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_store(uri)
    assert not cache_folder().exists()


def test_an_outline_needs_no_joints(made: Store, tmp_path: Path) -> None:
    uri = f"counted://{made.path}"
    outline = open_outline(uri)
    assert outline.info == made.info
    assert outline.column("id").tolist() == ["a", "b", "c"]
    assert outline.layout == made.layout
    assert open_outline(uri).path == outline.path
    assert "joints.npy" not in opened(tmp_path)
    assert opened(tmp_path).count("clips.parquet") == 1
    whole = open_store(uri)
    assert bytes_of(whole.path) == bytes_of(made.path)
    assert open_outline(uri).path == whole.path
    assert open_outline(made.path).path == made.path


def test_an_outline_made_earlier_is_used_without_a_network(made: Store) -> None:
    uri = f"counted://{made.path}"
    path = open_outline(uri).path
    failing = [OSError("no route to host") for _ in range(2 * cache.ATTEMPTS)]
    CountedFiles.failing["dataset.json"] = failing
    assert open_outline(uri).path == path
    with pytest.raises(UserError, match=r"nothing answers, or not in time .no route to host"):
        open_store(uri)


@pytest.mark.parametrize("size", [None, 10])
def test_an_outline_of_a_store_that_is_half_there_is_refused(made: Store, size: int | None) -> None:
    joints = made.path / "joints.npy"
    joints.unlink()
    if size is not None:
        joints.write_bytes(b"x" * size)
    with pytest.raises(UserError, match=r"source.*: the store is damaged, .*upload it again"):
        open_outline(f"file://{made.path}")
    assert copies() == []


def test_a_copy_that_would_not_fit_is_not_begun(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(
        UserError,
        match=r"stores: needs 0\.07 GB for a copy of counted://.*source, but 0\.00 GB are free;"
        r" ORCHESTRATE_CACHE names another place",
    ):
        open_store(f"counted://{made.path}")
    assert opened(tmp_path) == ["dataset.json"]
    assert copies() == []


@pytest.mark.parametrize("location", ["nowhere", "memory://nowhere/store", "s3://a:b@c/d"])
def test_what_this_machine_does_not_reach_another_one_may(location: str, tmp_path: Path) -> None:
    with pytest.raises(Unreached):
        open_store(location, tmp_path)


def test_a_store_that_is_damaged_is_so_on_every_machine(made: Store) -> None:
    (made.path / "joints.npy").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        open_store(made.path)
    assert not isinstance(caught.value, Unreached)


def test_a_store_in_a_bucket(made: Store, object_store: ObjectStore) -> None:
    address = f"{object_store.bucket()}/data/source"
    push_store(made.path, address)
    assert bytes_of(local_store(address)) == bytes_of(made.path)
    missing = "s3://no-such-bucket-here/source"
    with pytest.raises(UserError, match=f"{missing}: there is no bucket 'no-such-bucket-here'"):
        open_store(missing)


def test_a_store_that_lacks_a_file_or_is_of_another_version_is_refused(made: Store) -> None:
    (made.path / "joints.npy").rename(made.path / "elsewhere.npy")
    with pytest.raises(UserError, match=r"source: the store is damaged, .*joints\.npy"):
        open_store(f"file://{made.path}")
    assert copies() == []
    info = made.path / "dataset.json"
    info.write_text(info.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(UserError, match=r"source/dataset\.json: version must be 2, got 1"):
        open_store(f"file://{made.path}")


def test_a_cache_that_cannot_be_written_is_named(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(
            UserError,
            match=(
                r"the cache cannot be written: No space left on device; ORCHESTRATE_CACHE names"
                r" another place"
            ),
        ):
            open_store(f"counted://{made.path}")
    assert opened(tmp_path).count("clips.parquet") == 1  # trying again would not help
    assert copies() == []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"must be a folder that can be written to"):
        open_store(f"file://{made.path}")
