"""A store gives back what was written, is quick to open, and refuses what is not whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.naive_stores import clip, description, store
from tests.trainables.data.store.reading_cases import CLIPS
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.batches.ragged import load_ragged
from trainables.data.store import reading as store_module
from trainables.data.store.description import describe_layout
from trainables.data.store.reading import Clip, LayoutRecord, Store, write_store
from trainables.layouts import LAYOUTS, Layout


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
import sys
import numpy as np
from trainables.data.store.reading import Store
store = Store.open({str(made.path)!r})
assert isinstance(store.joints, np.memmap)  # pages are read when they are asked for
assert len(store.column("label")) == store.info.clips
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
    with pytest.raises(
        UserError, match=r"dataset\.json: the store is damaged, it is not JSON"
    ) as no:
        Store.open(made.path)
    assert str(no.value).count("dataset.json") == 1


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
