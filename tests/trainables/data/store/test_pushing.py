"""A store at an address is whole or no store at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.naive_stores import bytes_of, clip, store
from trainables.contract.errors import UserError
from trainables.data.store.pushing import push_store
from trainables.data.store.reading import Store

CLIPS = [clip("a", 0), clip("b", 1, split="test")]


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return store(tmp_path / "source", CLIPS)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    return "memory://bucket/store"


def there() -> dict[str, bytes]:
    names = MemoryFileSystem.store
    return {name.rsplit("/", 1)[-1]: names[name].getvalue() for name in names}


def test_a_store_is_copied_as_it_is(made: Store, place: str) -> None:
    notes: list[str] = []
    assert push_store(made.path, place, note=notes.append) == made.info
    assert there() == bytes_of(made.path)
    assert [note.split(",")[0] for note in notes] == ["copying clips.parquet", "copying joints.npy"]
    notes.clear()
    push_store(made.path, place, note=notes.append)
    assert notes == [f"{place}: the same store is there already"]


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("name", ["clips.parquet", "joints.npy", "dataset.json"])
def test_a_push_that_ends_early_leaves_no_store(
    made: Store,
    place: str,
    name: str,
    replacing: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if replacing:
        push_store(store(tmp_path / "other", [*CLIPS, clip("c")]).path, place)
    method = "pipe_file" if name == "dataset.json" else "put_file"
    right = getattr(MemoryFileSystem, method)

    def broken(self: MemoryFileSystem, source: str, target: object, *rest: object) -> None:
        if name in (Path(str(source)).name, Path(str(target)).name):
            raise ConnectionResetError("gone")
        right(self, source, target, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, method, broken)
        with pytest.raises(UserError, match=rf"{place}: nothing answers, .*gone"):
            push_store(made.path, place, force=True)
    assert "dataset.json" not in there()
    push_store(made.path, place)
    assert there() == bytes_of(made.path)


def test_another_store_is_replaced_only_by_force(made: Store, place: str, tmp_path: Path) -> None:
    other = store(tmp_path / "other", [*CLIPS, clip("c")])
    push_store(other.path, place)
    with pytest.raises(UserError, match=f"{place}: there is another store already; --force"):
        push_store(made.path, place)
    assert there() == bytes_of(other.path)
    push_store(made.path, place, force=True)
    assert there() == bytes_of(made.path)


def test_a_damaged_store_is_not_copied(made: Store, place: str) -> None:
    joints = made.path / "joints.npy"
    content = joints.read_bytes()
    joints.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"joints\.npy: its content must match the checksum"):
        push_store(made.path, place)
    assert there() == {}


@pytest.mark.parametrize(
    ("source", "address", "message"),
    [
        ("source", "data/store", "data/store: must be an address, such as s3://BUCKET/source"),
        ("source", "s3://a:b@c/d", r"s3://a:\*\*\*@c/d: must not hold a password"),
        ("nowhere", "memory://bucket/store", "nowhere: must be a store made by"),
    ],
)
def test_what_cannot_be_copied_is_said(
    made: Store, place: str, tmp_path: Path, source: str, address: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        push_store(tmp_path / source, address)


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_copy_that_lost_a_file_is_made_whole(made: Store, place: str, damage: str) -> None:
    push_store(made.path, place)
    files = MemoryFileSystem()
    if damage == "gone":
        files.rm_file(f"{place}/joints.npy")
    else:
        files.pipe_file(f"{place}/joints.npy", bytes_of(made.path)["joints.npy"][:-1])
    push_store(made.path, place)
    assert there() == bytes_of(made.path)


def test_force_copies_what_looks_the_same(made: Store, place: str) -> None:
    push_store(made.path, place)
    right = bytes_of(made.path)["joints.npy"]
    MemoryFileSystem().pipe_file(f"{place}/joints.npy", bytes(len(right)))
    push_store(made.path, place, force=True)
    assert there()["joints.npy"] == right
