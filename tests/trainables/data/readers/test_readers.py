"""NW-UCLA and MSR-Action3D give the clips they were given, in the order of ids, and what is wrong
with a source is named.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.naive_stores import UCLA_NAMES, bytes_of, msr_source, ucla_source
from tests.trainables.data.readers.reader_cases import imported, problems
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.msr_action3d import read_msr_action3d
from trainables.data.readers.nw_ucla import read_nw_ucla
from trainables.data.store.reading import write_store


@pytest.fixture
def ucla(tmp_path: Path) -> Path:
    return ucla_source(tmp_path / "ucla", UCLA_NAMES)


def test_ucla_clips_come_back(ucla: Path, tmp_path: Path) -> None:
    made = imported(read_nw_ucla(ucla), tmp_path / "store")
    assert made.column("id").tolist() == sorted(UCLA_NAMES)
    assert made.column("label").tolist() == [0, 0, 0, 1, 1]
    assert made.column("subject").tolist() == [1, 1, 2, 1, 2]
    assert made.column("camera").tolist() == [1, 3, 2, 1, 2]
    assert made.column("take").tolist() == [0, 0, 1, 0, 0]
    for position, name in enumerate(sorted(UCLA_NAMES)):
        written = json.loads((ucla / "all_sqe" / f"{name}.json").read_text())["skeletons"]
        np.testing.assert_array_equal(made.clip(position)[0], np.array(written, np.float32))
    split = made.split("xview", SelectionConfig(kind="none"))
    assert (split.train.tolist(), split.test.tolist()) == ([0, 2, 3, 4], [1])
    assert (made.layout.name, made.info.pipeline, made.info.classes[1]) == (
        "ucla20",
        "ucla",
        "pick up with two hands",
    )


def test_packed_ucla_gives_the_same_store(ucla: Path, tmp_path: Path) -> None:
    imported(read_nw_ucla(ucla), tmp_path / "folder")
    with tarfile.open(ucla / "all_sqe.tar.gz", "w:gz") as archive:
        for file in sorted((ucla / "all_sqe").iterdir(), reverse=True):
            archive.add(file, f"all_sqe/{file.name}")
    for file in (ucla / "all_sqe").iterdir():
        file.unlink()
    (ucla / "all_sqe").rmdir()
    imported(read_nw_ucla(ucla), tmp_path / "packed")
    assert bytes_of(tmp_path / "packed") == bytes_of(tmp_path / "folder")
    content = (ucla / "all_sqe.tar.gz").read_bytes()
    (ucla / "all_sqe.tar.gz").write_bytes(content[: len(content) // 2])
    assert "all_sqe.tar.gz: must be a .tar.gz archive, but it is damaged" in problems(
        lambda: read_nw_ucla(ucla)
    )


FIRST = "a01_s01_e00_v01"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skeletons": [[[0.0] * 3] * 19] * 4}, "joints must be frames x 20 x 3, got (4, 19, 3)"),
        (
            {"skeletons": [[[0.0] * 3] * 20] * 3 + [[[0.0] * 3] * 19]},
            "joints must be numbers, frames x 20 x 3",
        ),
        ({"skeletons": [[["x"] * 3] * 20] * 4}, "joints must be numbers, frames x 20 x 3"),
        ({"skeletons": [[[None] * 3] * 20] * 4}, "every coordinate must be finite, got 240"),
        (
            {"skeletons": [[[float("nan")] * 3] * 20] * 4},
            "every coordinate must be finite, got 240",
        ),
        ({"skeletons": []}, "joints must be frames x 20 x 3"),
        ({"skeletons": [[[0.0] * 3] * 20] * 5}, "ucla_train.json says 4 frames, the clip has 5"),
        ({"label": 2}, "ucla_train.json says label 1, the clip has 2"),
        ({"file_name": "a01"}, f"file_name must be '{FIRST}', got 'a01'"),
    ],
)
def test_damaged_ucla_clip_is_named(ucla: Path, change: dict[str, object], message: str) -> None:
    file = ucla / "all_sqe" / f"{FIRST}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    said = problems(lambda: read_nw_ucla(ucla))
    assert f"{FIRST}.json: " in said
    assert message in said


def test_all_damaged_ucla_clips_are_named_at_once(ucla: Path, tmp_path: Path) -> None:
    first, second, third = (ucla / "all_sqe" / f"{name}.json" for name in UCLA_NAMES[:3])
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    third.write_text("[]")
    said = problems(lambda: read_nw_ucla(ucla))
    assert f"{first.name}: must be JSON, but it is damaged, cut short" in said
    assert f"{second.name}: the clip is missing, ucla_train.json names it" in said
    assert f"{third.name}: must be a record with" in said
    assert len(said.splitlines()) == 3
    recordings = read_nw_ucla(ucla)
    with pytest.raises(UserError):
        write_store(tmp_path / "store", recordings.clips, recordings.description)
    assert [file.name for file in tmp_path.iterdir()] == ["ucla"]


def test_long_lists_of_problems_are_cut(tmp_path: Path) -> None:
    src = ucla_source(
        tmp_path / "ucla",
        [f"a01_s01_e{take:02}_v01" for take in range(30)] + ["a01_s01_e00_v03"],
        frames=1,
    )
    for file in (src / "all_sqe").iterdir():
        file.write_text("{")
    lines = problems(lambda: read_nw_ucla(src)).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 11 more problems of this kind"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [{"file_name": "a01_s01_e00_v03", "length": 4, "label": 1}],
            "[0]: camera must be 1 or 2, got 'a01_s01_e00_v03'",
        ),
        (
            [{"file_name": FIRST, "length": 4, "label": 11}],
            f"[0]: label of '{FIRST}' must be a number from 1 to 10, got 11",
        ),
        (
            [{"file_name": FIRST, "length": 4, "label": "1"}],
            f"[0]: label of '{FIRST}' must be a number from 1 to 10, got '1'",
        ),
        (
            [{"file_name": FIRST, "length": 4, "label": 1}] * 2,
            f"[1]: clip '{FIRST}' is named twice, first in ucla_train.json",
        ),
        (
            [{"file_name": FIRST, "length": None, "label": 1}],
            "must be a number of frames, got None",
        ),
        (
            [{"file_name": "b01", "length": 4, "label": 1}],
            "[0]: file_name must look like a01_s01_e00_v01, got 'b01'",
        ),
        ([{"file_name": FIRST}], "[0]: must be a record with file_name, length and label"),
        ({}, "must be a list of records"),
    ],
)
def test_wrong_ucla_list_is_named(ucla: Path, entries: object, message: str) -> None:
    (ucla / "ucla_train.json").write_text(json.dumps(entries))
    said = problems(lambda: read_nw_ucla(ucla))
    assert "ucla_train.json" in said
    assert message in said


def test_missing_ucla_parts_are_named(ucla: Path, tmp_path: Path) -> None:
    (ucla / "ucla_valid.json").unlink()
    assert f"{ucla}: must be a folder that holds all_sqe/" in (
        said := problems(lambda: read_nw_ucla(ucla))
    )
    assert said.endswith("lacks ucla_valid.json")
    (ucla / "ucla_valid.json").write_text(
        json.dumps([{"file_name": "a01_s01_e00_v03", "length": 4, "label": 1}])
    )
    (ucla / "all_sqe").rename(tmp_path / "elsewhere")
    assert "all_sqe/ or all_sqe.tar.gz, but neither is there" in problems(
        lambda: read_nw_ucla(ucla)
    )


MSR_NAMES = ("a01_s01_e01", "a01_s02_e01", "a20_s03_e02", "a20_s04_e01")


@pytest.fixture
def msr(tmp_path: Path) -> Path:
    return msr_source(tmp_path / "msr", MSR_NAMES, listed=MSR_NAMES[:3])


def test_msr_clips_come_back_without_confidence(msr: Path, tmp_path: Path) -> None:
    made = imported(read_msr_action3d(msr), tmp_path / "store")
    assert made.column("id").tolist() == list(MSR_NAMES[:3])
    assert made.column("label").tolist() == [0, 0, 19]
    assert made.column("subject").tolist() == [1, 2, 3]
    assert made.column("take").tolist() == [1, 1, 2]
    rows = np.loadtxt(
        msr / "real_world_coordinates" / "a20_s03_e02_skeleton3D.txt", dtype=np.float32
    )
    np.testing.assert_array_equal(made.clip(2)[0], rows.reshape(3, 20, 4)[..., :3])
    split = made.split("xsub", SelectionConfig(kind="none"))
    assert (split.train.tolist(), split.test.tolist()) == ([0, 2], [1])
    assert (made.layout.name, made.info.pipeline, len(made.info.classes)) == ("msr20", "ucla", 20)


def test_all_msr_clips_when_asked(msr: Path, tmp_path: Path) -> None:
    made = imported(read_msr_action3d(msr, all_clips=True), tmp_path / "store")
    assert made.column("id").tolist() == list(MSR_NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "a line must have 4 numbers"),
        (
            lambda text: "\n".join(text.splitlines()[:-1]),
            "must have 20 lines per frame, got 59 lines",
        ),
        (lambda text: text.replace(text.split()[0], "x", 1), "every entry must be a number"),
        (
            lambda text: text.replace(text.split()[0], "nan", 1),
            "every coordinate must be finite, got 1 ",
        ),
        (lambda text: "", "must have 20 lines per frame, got 0 lines"),
    ],
)
def test_damaged_msr_clip_is_named(msr: Path, change: Callable[[str], str], message: str) -> None:
    file = msr / "real_world_coordinates" / "a01_s02_e01_skeleton3D.txt"
    text = change(file.read_text())
    file.write_text(text)
    said = problems(lambda: read_msr_action3d(msr))
    assert file.name in said
    assert message in said


def test_wrong_msr_source_is_named(msr: Path, tmp_path: Path) -> None:
    assert "there is no real_world_coordinates/ in it" in problems(
        lambda: read_msr_action3d(tmp_path)
    )
    listed = msr / "real_world_coordinates" / "files_used_in_cvpr12_paper.txt"
    listed.write_text("a01_s01_e01 a01_s01_e01")
    assert "must name each clip once, got twice: a01_s01_e01" in problems(
        lambda: read_msr_action3d(msr)
    )
    listed.write_text("a21_s01_e01")
    assert "with an action from 1 to 20, got 'a21_s01_e01'" in problems(
        lambda: read_msr_action3d(msr)
    )
    listed.write_text("a01_s09_e09")
    assert (
        "a01_s09_e09_skeleton3D.txt: must be the text of a clip, but it is not there"
        in problems(lambda: read_msr_action3d(msr))
    )
    listed.unlink()
    assert "--all-clips does without" in problems(lambda: read_msr_action3d(msr))
