"""A store gives back what was written, is quick to open, and refuses what is not whole."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.naive_stores import bytes_of, clip, description, store
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.batches.ragged import load_ragged
from trainables.data.store import reading as store_module
from trainables.data.store.description import COLUMNS, describe_layout, replaced, unfinished
from trainables.data.store.reading import Clip, LayoutRecord, Store, write_store
from trainables.layouts import LAYOUTS, Layout

CLIPS = (
    clip("a", 0, frames=3, subject=1, camera=2, take=0),
    clip("b", 1, frames=7, persons=2, split="val", subject=2, camera=1),
    clip("c", 1, frames=1, split="test", subject=3, camera=1),
    clip("d", 0, frames=4, split=None, subject=3, camera=1),
)


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return store(tmp_path / "store", CLIPS)


def test_gives_back_every_clip(made: Store) -> None:
    assert made.info.clips == 4
    assert made.info.persons == 2
    assert made.info.rows == 3 + 14 + 1 + 4 == made.joints.shape[0]
    for position, written in enumerate(CLIPS):
        np.testing.assert_array_equal(made.clip(position), written.joints)


def test_rows_are_person_major(made: Store) -> None:
    offset, length = made.column("offset")[1], made.column("length")[1]
    for m in range(2):
        for t in range(length):
            np.testing.assert_array_equal(
                made.joints[offset + m * length + t], CLIPS[1].joints[m, t]
            )


def test_columns_are_numbers_where_all_are_known(made: Store) -> None:
    assert made.column("subject").dtype == np.int64
    assert made.column("camera").tolist() == [2, 1, 1, 1]
    assert made.column("take").tolist() == [0, None, None, None]
    assert made.column("split").tolist() == ["train", "val", "test", None]
    with pytest.raises(UserError, match=r"column must be one of id, label, .* got 'camra'"):
        made.column("camra")


def test_joints_cannot_be_changed(made: Store) -> None:
    with pytest.raises(ValueError, match="read-only"):
        made.joints[0] = 0


def test_hash_tells_content_and_shape(tmp_path: Path) -> None:
    flat = np.arange(4 * 17 * 3, dtype=np.float32)
    shapes = {"a": (1, 4), "b": (2, 2), "c": (1, 4)}
    clips = [
        Clip(name, 0, flat.reshape(*shape, 17, 3), extra={"split": split})
        for (name, shape), split in zip(shapes.items(), ("train", "train", "test"), strict=True)
    ]
    a, b, c = store(tmp_path / "s", clips).column("hash")
    assert a == c != b


def test_clean_test_leaves_out_copies_of_training_and_selection_clips(tmp_path: Path) -> None:
    clips = [
        clip("a", fill=1),
        clip("b", fill=2, split="val"),
        clip("c", fill=1, split="test"),
        clip("d", fill=2, split="test"),
        clip("e", fill=3, split="test"),
        clip("f", fill=3, split="test"),
    ]
    made = store(tmp_path / "s", clips)
    assert made.clean_test(made.split("split", SelectionConfig(kind="protocol"))).tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert made.clean_test(made.split("split", SelectionConfig(kind="none"))).tolist() == [
        False,
        True,
        True,
        True,
    ]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_store(tmp_path / name, CLIPS, description())
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert set(bytes_of(tmp_path / "one")) == {"clips.parquet", "dataset.json", "joints.npy"}


def test_a_layout_of_ones_own_is_written_out(tmp_path: Path) -> None:
    own = Layout("stick", ("hip", "knee", "foot"), (0, 0, 1), origin=0)
    joints = np.zeros((1, 2, 3, 3), np.float32)
    clips = [
        Clip("a", 0, joints, extra={"split": "train"}),
        Clip("b", 1, joints + 1, extra={"split": "test"}),
    ]
    recorded = describe_layout(own)
    assert isinstance(recorded, LayoutRecord)
    write_store(tmp_path / "s", clips, description().model_copy(update={"layout": recorded}))
    assert Store.open(tmp_path / "s").layout == own
    assert describe_layout(LAYOUTS["ntu25"]) == "ntu25"
    with pytest.raises(UserError, match="'ntu25' is built in with other joints"):
        describe_layout(Layout("ntu25", own.joints, own.parents, origin=0))


def test_unknown_protocol_lists_the_known_ones(made: Store) -> None:
    with pytest.raises(UserError, match="protocol must be one of split, got 'xview'"):
        made.split("xview", SelectionConfig())


def test_opening_reads_neither_joints_nor_pandas(made: Store) -> None:
    code = f"""
import sys, time
import pyarrow.parquet
from trainables.data.store.reading import Store
Store.open({str(made.path)!r})
start = time.perf_counter()
Store.open({str(made.path)!r}).column("label")
assert time.perf_counter() - start < 0.1
assert not {{"torch", "pandas", "ray", "mlflow"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("bytes_left", [0, 50, 200, -1])
def test_joints_cut_short_are_refused(made: Store, bytes_left: int) -> None:
    file = made.path / "joints.npy"
    file.write_bytes(file.read_bytes()[:bytes_left])
    with pytest.raises(UserError, match=r"joints\.npy: the store is damaged"):
        Store.open(made.path)


def test_joints_with_bytes_too_many_are_refused(made: Store) -> None:
    with (made.path / "joints.npy").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(UserError, match=r"joints\.npy: the store is damaged"):
        Store.open(made.path)


@pytest.mark.parametrize("name", ["joints.npy", "clips.parquet"])
def test_missing_file_is_named(made: Store, name: str) -> None:
    (made.path / name).unlink()
    with pytest.raises(
        UserError, match=rf"{name}: the store is damaged, it is (missing|not there)"
    ):
        Store.open(made.path)


def test_clips_cut_short_are_refused(made: Store) -> None:
    file = made.path / "clips.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"clips\.parquet: the store is damaged, it cannot be read"):
        Store.open(made.path)


def test_clips_of_another_store_are_refused(made: Store, tmp_path: Path) -> None:
    other = store(tmp_path / "other", [*CLIPS, clip("e")])
    (made.path / "clips.parquet").write_bytes((other.path / "clips.parquet").read_bytes())
    with pytest.raises(UserError, match=r"it has 5 clips, dataset\.json says 4"):
        Store.open(made.path)
    longer = store(tmp_path / "longer", [*CLIPS[:3], clip("d", frames=9)])
    (made.path / "clips.parquet").write_bytes((longer.path / "clips.parquet").read_bytes())
    with pytest.raises(UserError, match=r"it is of a store with 27 rows, dataset\.json says 22"):
        Store.open(made.path)


def test_opening_reads_no_column(made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clips there are: their columns wait until they are asked for."""
    read: list[str] = []
    whole = store_module._read_column
    monkeypatch.setattr(
        store_module, "_read_column", lambda file, name: read.append(name) or whole(file, name)
    )
    opened = Store.open(made.path)
    assert read == []
    opened.column("label")
    opened.column("label")
    assert read == ["label"]


def test_a_damaged_column_is_refused_when_it_is_read(made: Store) -> None:
    file = made.path / "clips.parquet"
    whole = file.read_bytes()
    chunks = pq.ParquetFile(file).metadata.row_group(0)
    for number in range(chunks.num_columns):
        chunk = chunks.column(number)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        damaged = bytearray(whole)
        # the last byte of the last page, behind its header
        damaged[start + chunk.total_compressed_size - 1] ^= 1
        file.write_bytes(damaged)
        opened = Store.open(made.path)
        with pytest.raises(
            UserError, match=r"clips\.parquet: the store is damaged, it cannot be read"
        ):
            opened.column(chunk.path_in_schema)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("offset", -1),
        ("offset", 21),
        ("length", 23),
        ("length", -1),
        ("length", 2**62),
        ("persons", 0),
        ("persons", 3),
        ("persons", None),
    ],
)
def test_rows_that_are_not_there_are_refused_before_they_are_read(
    made: Store, column: str, value: int | None
) -> None:
    file = made.path / "clips.parquet"
    table = pq.read_table(file)
    values = table[column].to_pylist()
    changed = pa.array([value, *values[1:]], pa.int64())
    pq.write_table(table.set_column(table.column_names.index(column), column, changed), file)
    opened = Store.open(made.path)
    for use in (
        lambda: opened.clip(3),
        lambda: opened.stored(0),
        lambda: load_ragged(opened, np.array([1]), torch.device("cpu")),
    ):
        with pytest.raises(
            UserError,
            match=(
                r"clips\.parquet: the store is damaged, it names rows that the 22 of joints\.npy do"
                r" not have"
            ),
        ):
            use()


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version must be 2, got 1"),
        ({"clips": 0}, "clips: Input should be greater"),
        ({"colour": 1}, "colour: Extra inputs"),
        ({"layout": "coco18"}, "layout must be one of"),
    ],
)
def test_wrong_dataset_json_is_refused(
    made: Store, change: dict[str, object], message: str
) -> None:
    file = made.path / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=message):
        Store.open(made.path)


def test_dataset_json_cut_short_is_refused(made: Store) -> None:
    file = made.path / "dataset.json"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"dataset\.json: the store is damaged, it is not JSON"):
        Store.open(made.path)


def test_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: must be a store .* /\S*/nowhere is not there"):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"must be a store .* no dataset\.json"):
        Store.open(tmp_path)


def test_verify_names_the_file_that_changed(made: Store) -> None:
    made.verify()
    file = made.path / "joints.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    changed = Store.open(made.path)
    with pytest.raises(UserError, match=r"joints\.npy: its content must match"):
        changed.verify()


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
    start = time.monotonic()
    with pytest.raises(UserError, match="another import into this folder is running"):
        write_store(tmp_path / "out", CLIPS, description())
    assert time.monotonic() - start < 5
    assert slow_import.poll() is None
    assert unfinished(tmp_path / "out").is_dir()
