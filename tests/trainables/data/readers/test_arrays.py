"""Arrays, their tables and layout files: clips come back, and what is wrong is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tests.naive_detections import unseen_hidden
from tests.naive_stores import array, bytes_of, table
from tests.trainables.data.readers.reader_cases import imported, problems
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.arrays import read_arrays
from trainables.data.readers.layout_file import find_layout
from trainables.data.store.description import Channels, Description
from trainables.layouts import LAYOUTS

COCO = LAYOUTS["coco17"]


HEADER = "id,label,subject,split,split_other"


ROWS = ("b,wave,P2,train,test", "a,jump,P1,val,train", "c,wave,,test,train")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    np.save(folder / "a.npy", array(1))
    np.savez(folder / "b.npz", array(2, 2, 4, 17, 3))
    np.save(folder / "c.npy", array(3, 5, 17, 2))
    return folder


def test_arrays_come_back(clips: Path, tmp_path: Path) -> None:
    made = imported(
        read_arrays(clips, table(tmp_path / "t.csv", HEADER, *ROWS), COCO, "ctr"),
        tmp_path / "store",
    )
    assert made.column("id").tolist() == ["a", "b", "c"]
    assert made.info.classes == ("jump", "wave")
    assert made.column("label").tolist() == [0, 1, 1]
    assert made.column("subject").tolist() == ["P1", "P2", None]
    assert made.info.persons == 2
    np.testing.assert_array_equal(made.clip(0)[0], array(1))
    np.testing.assert_array_equal(made.clip(1), array(2, 2, 4, 17, 3))
    np.testing.assert_array_equal(made.clip(2)[0, ..., :2], array(3, 5, 17, 2))
    assert not made.clip(2)[..., 2].any()
    own = made.split("split", SelectionConfig(kind="protocol"))
    assert [part.tolist() for part in (own.train, own.selection, own.test)] == [[1], [0], [2]]
    other = made.split("other", SelectionConfig(kind="none"))
    assert (other.train.tolist(), other.test.tolist()) == ([0, 2], [1])


def test_one_archive_gives_the_same_clips(clips: Path, tmp_path: Path) -> None:
    listed = table(tmp_path / "t.csv", HEADER, *ROWS)
    np.savez(tmp_path / "clips.npz", a=array(1), b=array(2, 2, 4, 17, 3), c=array(3, 5, 17, 2))
    for name, src in (("folder", clips), ("archive", tmp_path / "clips.npz")):
        imported(read_arrays(src, listed, COCO, "ucla"), tmp_path / name)
    assert bytes_of(tmp_path / "folder") == bytes_of(tmp_path / "archive")
    content = (tmp_path / "clips.npz").read_bytes()
    (tmp_path / "clips.npz").write_bytes(content[:-30])
    assert (
        "clips.npz: must be a folder of .npy or .npz files, or one .npz, but it is damaged"
        in problems(lambda: read_arrays(tmp_path / "clips.npz", listed, COCO, "ctr"))
    )


@pytest.mark.parametrize("channels", ["xy", "xyc"])
def test_arrays_of_pixels(tmp_path: Path, channels: Channels) -> None:
    values = array(1, 2, 4, 17, len(channels)) * 100
    values[0, 1, :2, -1] = (0.01, 0.02)
    np.savez(tmp_path / "clips.npz", a=values, b=values[0] + 1)
    listed = table(tmp_path / "t.csv", "id,label,split", "a,0,train", "b,1,test")
    made = imported(
        read_arrays(tmp_path / "clips.npz", listed, COCO, None, channels), tmp_path / "store"
    )
    assert (made.info.channels, made.info.pipeline) == (channels, "pyskl")
    if channels == "xyc":
        np.testing.assert_array_equal(made.clip(0), unseen_hidden(values))
        assert not made.clip(0)[0, 1, 0, :2].any()
    else:
        np.testing.assert_array_equal(made.clip(0)[..., :2], values)
        assert not made.clip(0)[..., 2].any()
    np.savez(tmp_path / "clips.npz", a=array(1, 4, 17, 5 - len(channels)), b=values)
    said = problems(lambda: read_arrays(tmp_path / "clips.npz", listed, COCO, "pyskl", channels))
    assert (
        f"or (persons, frames, 17, {len(channels)}) for layout 'coco17' and channels {channels},"
        f" got (4, 17, {5 - len(channels)})" in said
    )
    with pytest.raises(
        UserError,
        match=(
            f"--pipeline must be pyskl for channels {channels}, the others need positions in space,"
            " got ctr"
        ),
    ):
        read_arrays(tmp_path / "clips.npz", listed, COCO, "ctr", channels)


def test_positions_in_space_may_go_through_any_pipeline(clips: Path, tmp_path: Path) -> None:
    listed = table(tmp_path / "t.csv", HEADER, *ROWS)
    assert read_arrays(clips, listed, COCO, None).description.pipeline == "ctr"
    assert read_arrays(clips, listed, COCO, "pyskl").description.pipeline == "pyskl"


def test_labels_may_be_numbers(clips: Path, tmp_path: Path) -> None:
    listed = table(tmp_path / "t.csv", "id,label,subject,split", "a,0,1,train", "b,3,02,test")
    made = imported(read_arrays(clips, listed, COCO, "ctr"), tmp_path / "store")
    assert made.column("label").tolist() == [0, 3]
    assert made.info.classes == ("0", "1", "2", "3")
    assert made.column("subject").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("id,split", ("a,train",), "must have the columns id and label, lacks label"),
        ("id,label", ("a,0",), "must have a column 'split' or 'split_NAME'"),
        ("id,label,split", (), "must name at least one clip"),
        ("id,label,split", ("a,0,train", "a,0,test"), "row 3: id 'a' is there already, in row 2"),
        ("id,label,split", ("a,,train", "b,0,test"), "row 2: label must not be empty"),
        (
            "id,label,split",
            ("a,0,train", "../b,0,test"),
            "row 3: id must not hold '/', '\\' or '..', got '../b'",
        ),
        ("id,label,split", ("x/a,0,train", "b,0,test"), "row 2: id must not hold"),
        ("id,label,split", ("a,0", "b,0,test"), "row 2: must have 3 entries"),
        ("id,label,split", ("a,0,train,x", "b,0,test"), "row 2: must have 3 entries"),
        ("id,label,split", ("a,-1,train", "b,0,test"), "row 2: label must be 0 or more, got -1"),
        (
            "id,label,split",
            ("a,1,train", "b,walk,test"),
            "labels must be all numbers or all names, got '1' in row 2 and 'walk'",
        ),
        (
            "id,label,split",
            ("a,0,train", "b,0,testing"),
            "row 3: split must be one of train, val, test or empty, got 'testing'",
        ),
        (
            "id,label,split",
            ("a,0,train", "b,0,val"),
            "column split must have both train and test clips, lacks test",
        ),
        ("id,label,split,hash", ("a,0,train,1",), "column names must be none of length"),
        (
            "id,label,split,absent",
            ("a,0,train,1",),
            "column names must be none of length",
        ),
        ("id,label,split,step", ("a,0,train,1",), "column names must be none of length"),
    ],
)
def test_wrong_table_is_named(
    clips: Path, tmp_path: Path, header: str, rows: tuple[str, ...], message: str
) -> None:
    said = problems(
        lambda: read_arrays(clips, table(tmp_path / "t.csv", header, *rows), COCO, "ctr")
    )
    assert str(tmp_path / "t.csv") in said
    assert message in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (array(1, 4, 18, 3), "for layout 'coco17', got (4, 18, 3)"),
        (array(1, 4, 17, 4), "for layout 'coco17', got (4, 17, 4)"),
        (array(1, 17, 3), "for layout 'coco17', got (17, 3)"),
        (array(1, 0, 17, 3), "must have at least one frame"),
        (np.full((4, 17, 3), np.inf), "every coordinate must be finite, got 204"),
        (np.full((1, 17, 3), 1e300), "every coordinate must be finite, got 51"),
        (np.full((4, 17, 3), "x"), "joints must be numbers, got <U1"),
        (np.full((4, 17, 3), None), "array of numbers or text, got Python objects"),
    ],
)
def test_wrong_array_is_named(
    clips: Path, tmp_path: Path, values: np.ndarray, message: str
) -> None:
    np.save(clips / "a.npy", values)
    said = problems(
        lambda: read_arrays(clips, table(tmp_path / "t.csv", HEADER, *ROWS), COCO, "ctr")
    )
    assert f"{clips / 'a.npy'}: " in said
    assert message in said


def test_missing_cut_and_ambiguous_arrays_are_named_at_once(clips: Path, tmp_path: Path) -> None:
    (clips / "a.npy").write_bytes((clips / "a.npy").read_bytes()[:200])
    np.savez(clips / "b.npz", x=array(1), y=array(2))
    np.savez(clips / "c.npz", array(1))
    listed = table(
        tmp_path / "t.csv", "id,label,split", "a,0,train", "b,0,test", "c,0,test", "d,0,test"
    )
    said = problems(lambda: read_arrays(clips, listed, COCO, "ctr"))
    assert "a.npy: must be a NumPy array (.npy), but its head" in said
    assert "b.npz: must hold one array, got 2: 'x', 'y'" in said
    assert "must be there as .npy or .npz, but both are there" in said
    assert "must be there as .npy or .npz, but neither is there" in said
    assert "it is not there" in problems(
        lambda: read_arrays(tmp_path / "nowhere", listed, COCO, "ctr")
    )
    buffer = io.BytesIO()
    np.savez(buffer, a=array(1))
    (tmp_path / "some.npz").write_bytes(buffer.getvalue())
    assert "some.npz[b]: the clip is missing" in problems(
        lambda: read_arrays(tmp_path / "some.npz", listed, COCO, "ctr")
    )


STICK = "name: stick\njoints: [hip, knee, foot]\nparents: [hip, hip, knee]\norigin: knee\n"


def test_layout_file(tmp_path: Path) -> None:
    file = tmp_path / "stick.yaml"
    file.write_text(STICK)
    layout = find_layout(str(file))
    assert (layout.name, layout.joints, layout.parents, layout.origin) == (
        "stick",
        ("hip", "knee", "foot"),
        (0, 0, 1),
        1,
    )
    assert (layout.spine, layout.shoulders) == (None, None)
    file.write_text(STICK + "spine: [hip, knee]\nshoulders: [foot, hip]\n")
    assert (find_layout(str(file)).spine, find_layout(str(file)).shoulders) == ((0, 1), (2, 0))
    assert find_layout("ntu25") is LAYOUTS["ntu25"]


@pytest.mark.parametrize("name", ["ntu25", "ucla20", "msr20"])
def test_built_in_layouts_in_space_say_how_a_body_stands(name: str) -> None:
    layout = LAYOUTS[name]
    assert layout.spine is not None
    assert layout.shoulders is not None
    lower, upper, left, right = (layout.joints[v] for v in (*layout.spine, *layout.shoulders))
    assert (lower in ("spine_base", "hip_centre"), upper in ("spine_mid", "spine")) == (True, True)
    assert (left, right) == ("left_shoulder", "right_shoulder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            STICK.replace("origin: knee", "origin: head"),
            "origin: must be the name of a joint, got 'head'",
        ),
        (
            STICK.replace("[hip, hip, knee]", "[hip, hip, head]"),
            "parents: must be names of joints, got 'head'",
        ),
        (STICK.replace("[hip, hip, knee]", "[hip, foot, knee]"), "joint 'knee' is in a cycle"),
        (STICK.replace("[hip, hip, knee]", "[hip, hip]"), "must name one parent per joint"),
        (STICK + "colour: red\n", "colour: Extra inputs"),
        (
            STICK + "spine: [hip, knee]\n",
            "spine and shoulders must both be given or both be left out",
        ),
        (
            STICK + "spine: [hip, knee]\nshoulders: [hip, arm]\n",
            "shoulders: must be names of joints, got 'arm'",
        ),
        (
            STICK + "spine: [hip, hip]\nshoulders: [hip, knee]\n",
            "spine must be two different joint numbers below 3, got [0, 0]",
        ),
        (STICK + "spine: [hip]\n", "spine.1: Field required"),
        ("name: [", "must be YAML"),
        ("", "must be a record with name, joints, parents and origin"),
        ("id,label\na,1\n", "must be a record with name, joints, parents and origin"),
    ],
)
def test_wrong_layout_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "stick.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        find_layout(str(file))
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_unknown_layout_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"layout must be one of ntu25, .* or a YAML file, got 'ntu26'"
    ):
        find_layout("ntu26")


def numbered(tmp_path: Path, labels: list[str], labels_from: int | None) -> Description:
    rows = [f"{name},{label},train" for name, label in zip("abc", labels, strict=True)]
    listed = table(tmp_path / "t.csv", "id,label,split", *rows, f"d,{labels[0]},test")
    return read_arrays(tmp_path, listed, COCO, None, "xyz", labels_from).description


def test_labels_of_a_table_without_a_0_are_asked_for(tmp_path: Path) -> None:
    assert "t.csv: labels run from 1 to 3, so it is not known whether they count from 0" in (
        problems(lambda: numbered(tmp_path, ["1", "2", "3"], None))
    )
    assert numbered(tmp_path, ["1", "2", "3"], 1).classes == ("0", "1", "2")
    assert numbered(tmp_path, ["1", "2", "3"], 0).classes == ("0", "1", "2", "3")
    assert numbered(tmp_path, ["0", "2", "3"], None).classes == ("0", "1", "2", "3")
    assert "labels must be 1 or more (--labels-from), got 0" in (
        problems(lambda: numbered(tmp_path, ["0", "2", "3"], 1))
    )
    assert "--labels-from goes with labels that are numbers, got 'wave' in row 2" in (
        problems(lambda: numbered(tmp_path, ["wave", "sit", "run"], 1))
    )
