"""A store is written whole or not at all, and what is no clip is refused."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.naive_stores import bytes_of, clip, description, store
from tests.trainables.data.store.reading_cases import CLIPS
from trainables.contract.errors import UserError
from trainables.data.store.description import COLUMNS, replaced, unfinished
from trainables.data.store.reading import Clip, Store, write_store


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return store(tmp_path / "store", CLIPS)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_store(tmp_path / name, CLIPS, description())
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert set(bytes_of(tmp_path / "one")) == {"clips.parquet", "dataset.json", "joints.npy"}


def test_clips_may_come_in_any_order(tmp_path: Path) -> None:
    mixed = [CLIPS[number] for number in (2, 0, 3, 1)]
    made = store(tmp_path / "mixed", mixed)
    assert made.column("id").tolist() == ["a", "b", "c", "d"]
    assert made.column("offset").tolist() == [1, 8, 0, 4]
    for position, written in enumerate(CLIPS):
        np.testing.assert_array_equal(made.clip(position), written.joints)


def test_persons_that_are_never_there_are_not_stored(tmp_path: Path) -> None:
    joints = np.ones((3, 4, 17, 3), np.float32)
    late, early, nobody = joints.copy(), joints.copy(), np.zeros_like(joints)
    late[:2] = 0  # the places before a person stay, so that everybody keeps theirs
    early[1:] = 0
    early[0, 2] = 0
    clips = [
        Clip(name, 0, values, extra={"split": "train"})
        for name, values in (("early", early), ("late", late), ("nobody", nobody))
    ]
    write_store(tmp_path / "s", clips, description().model_copy(update={"persons": 4}))
    made = Store.open(tmp_path / "s")
    assert made.column("persons").tolist() == [1, 3, 1]
    assert made.column("absent").tolist() == [1, 8, 4]
    assert made.info.persons == 4
    assert made.info.rows == 4 + 12 + 4
    np.testing.assert_array_equal(made.clip(0), early[:1])
    np.testing.assert_array_equal(made.clip(1), late)


def test_places_for_persons_grow_with_the_largest_clip(tmp_path: Path) -> None:
    assert store(tmp_path / "s", [clip("a", persons=3), clip("b", split="test")]).info.persons == 3


def test_whole_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    made = store(
        tmp_path / "s", [clip("a", np.int64(1), subject=np.int32(7)), clip("b", 0, subject=8)]
    )
    assert made.column("label").tolist() == [1, 0]
    assert made.column("subject").dtype == np.int64


@pytest.mark.parametrize("name", COLUMNS)
def test_further_columns_cannot_replace_the_stores_own(tmp_path: Path, name: str) -> None:
    extra = Clip("a", 0, CLIPS[0].joints, extra={"split": "train", name: "7"})
    with pytest.raises(
        UserError,
        match=(
            f"clip 'a': further columns must be named otherwise than the store's own, got {name}$"
        ),
    ):
        write_store(tmp_path / "s", [extra], description())
    assert not list(tmp_path.iterdir())


def test_complete_store_is_replaced_only_when_forced(made: Store) -> None:
    before = bytes_of(made.path)
    with pytest.raises(UserError, match="--force"):
        write_store(made.path, [clip("z"), clip("zz", split="test")], description())
    assert bytes_of(made.path) == before
    write_store(made.path, [clip("z"), clip("zz", split="test")], description(), force=True)
    assert Store.open(made.path).column("id").tolist() == ["z", "zz"]
    assert [file.name for file in made.path.parent.iterdir()] == ["store"]


def test_a_store_that_holds_other_files_too_is_not_replaced(made: Store) -> None:
    notes = made.path / "small" / "resolved.json"  # a sweep in the store's folder
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(UserError, match=r"must hold a store and nothing else .* holds small too"):
        write_store(made.path, CLIPS, description(), force=True)
    assert notes.read_text() == "mine"
    assert len(Store.open(made.path).column("id")) == len(CLIPS)


@pytest.mark.parametrize("place", [unfinished, replaced])
def test_folders_that_no_import_made_are_not_removed(made: Store, place) -> None:
    thesis = place(made.path) / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(UserError, match="is in the way of the import, and no import made it"):
        write_store(made.path, CLIPS, description(), force=True)
    assert thesis.read_text() == "mine"
    assert len(Store.open(made.path).column("id")) == len(CLIPS)


@pytest.mark.parametrize("force", [False, True])
def test_other_files_are_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds other files"):
        write_store(tmp_path / "mine", CLIPS, description(), force=force)
    with pytest.raises(UserError, match="it is a file"):
        write_store(tmp_path / "mine" / "thesis.txt", CLIPS, description(), force=force)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_failed_import_leaves_nothing_and_keeps_the_old_store(made: Store) -> None:
    before = bytes_of(made.path)

    def broken() -> Iterator[Clip]:
        yield CLIPS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(made.path, broken(), description(), force=True)
    assert bytes_of(made.path) == before
    assert [file.name for file in made.path.parent.iterdir()] == ["store"]


def test_what_the_system_refuses_is_a_message(made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a place where no folder can be, and a source that cannot be read are told from
    one another.
    """
    before = bytes_of(made.path)

    def unreadable() -> Iterator[Clip]:
        yield CLIPS[0]
        raise PermissionError(errno.EACCES, "Permission denied", "clip_b.json")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"^clip_b\.json: cannot be read: Permission denied$"):
        write_store(made.path, unreadable(), description(), force=True)
    with pytest.raises(
        UserError, match=r"joints\.npy/s: the store cannot be written: Not a directory$"
    ):
        write_store(made.path / "joints.npy" / "s", CLIPS, description())
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(
            UserError, match=r"store: the store cannot be written: No space left on device$"
        ):
            write_store(made.path, CLIPS, description(), force=True)
    assert bytes_of(made.path) == before
    assert [file.name for file in made.path.parent.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ((CLIPS[0], CLIPS[1], CLIPS[0]), "clip 'a': ids must be unique"),
        (
            (Clip("a", 0, np.zeros((1, 2, 18, 3), np.float32)),),
            r"clip 'a': joints must be \(persons, frames, 17, 3\)",
        ),
        (
            (Clip("a", 0, np.zeros((1, 2, 17, 3), np.float32)),),
            "protocol 'split': column must be one of",
        ),
        ((), "must hold at least one frame"),
    ],
)
def test_wrong_clips_are_refused(tmp_path: Path, clips: tuple[Clip, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_store(tmp_path / "s", clips, description())
    assert not list(tmp_path.iterdir())


SLOW = """
import sys, time
from pathlib import Path
from tests.naive_stores import clip, description
from trainables.data.store.reading import write_store
def clips():
    yield clip("a")
    print("writing", flush=True)
    time.sleep(60)
write_store(Path(sys.argv[1]), clips(), description())
"""


@pytest.fixture
def slow_import(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An import in another process that has written its first clip."""
    root = Path(__file__).parents[4]
    command = [sys.executable, "-c", SLOW, str(tmp_path / "out")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_killed_import_never_looks_finished_and_is_cleaned_up(
    tmp_path: Path, slow_import: subprocess.Popen[str]
) -> None:
    out = tmp_path / "out"
    slow_import.send_signal(signal.SIGKILL)
    slow_import.wait()
    assert not out.exists()
    assert unfinished(out).is_dir()
    with pytest.raises(UserError, match=r"an interrupted import left .*\.out\.partial"):
        Store.open(out)
    with pytest.raises(UserError, match=r"no dataset\.json"):
        Store.open(unfinished(out))
    write_store(out, CLIPS, description())
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert Store.open(out).info.clips == 4


def test_two_imports_into_one_folder_do_not_mix(
    tmp_path: Path, slow_import: subprocess.Popen[str]
) -> None:
    with pytest.raises(UserError, match="another import into this folder is running"):
        write_store(tmp_path / "out", CLIPS, description())
    assert slow_import.poll() is None  # it was not waited for
    assert unfinished(tmp_path / "out").is_dir()
