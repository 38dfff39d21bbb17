"""The arrays of ST-GCN and 2s-AGCN: clips, names, labels, and everything that can be wrong."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.naive_stores import array
from trainables.contract.errors import UserError
from trainables.data.readers.nctvm import read_nctvm
from trainables.data.store.description import Clip
from trainables.layouts import LAYOUTS

LAYOUT = LAYOUTS["ucla20"]
V = LAYOUT.size


def part(
    src: Path, kind: str, names: Any, labels: Any, data: Any, file: str = "_data_joint"
) -> None:
    src.mkdir(exist_ok=True)
    np.save(src / f"{kind}{file}.npy", data)
    (src / f"{kind}_label.pkl").write_bytes(pickle.dumps((names, labels)))


def padded(clips: list[Any], frames: int = 12, persons: int = 2) -> Any:
    """Clips (M, T, V, C) as (N, C, T, V, M)."""
    data = np.zeros((len(clips), clips[0].shape[-1], frames, V, persons), np.float32)
    for i, clip in enumerate(clips):
        data[i, :, : clip.shape[1], :, : len(clip)] = clip.transpose(3, 1, 2, 0)
    return data


CLIPS = [array(1, 2, 5, V, 3), array(2, 1, 7, V, 3), array(3, 1, 4, V, 3)]


def source(src: Path, **changed: Any) -> Path:
    content = {
        "names": ["a.skeleton", "b.skeleton"],
        "labels": [0, 2],
        "data": padded(CLIPS[:2]),
    } | changed
    part(src, "train", content["names"], content["labels"], content["data"])
    part(src, "val", ["c.json"], [1], padded(CLIPS[2:]))
    return src


def clips(src: Path, **options: Any) -> dict[str, Clip]:
    return {clip.id: clip for clip in read_nctvm(src, LAYOUT, **options).clips}


def test_clips_come_back(tmp_path: Path) -> None:
    src = source(tmp_path / "mine")
    found = clips(src)
    assert list(found) == ["a", "b", "c"]
    for clip, written in zip(found.values(), CLIPS, strict=True):
        np.testing.assert_array_equal(clip.joints[: len(written)], written)
        assert not clip.joints[len(written) :].any()
    assert [clip.label for clip in found.values()] == [0, 2, 1]
    assert [clip.extra["split"] for clip in found.values()] == ["train", "train", "val"]
    description = read_nctvm(src, LAYOUT, protocol="xsub").description
    assert (description.name, description.classes, description.persons) == (
        "mine",
        ("0", "1", "2"),
        2,
    )
    rule = description.protocols["xsub"]
    assert (rule.column, rule.train, rule.test) == ("split", ("train",), ("val",))


def test_a_clip_ends_with_its_last_frame(tmp_path: Path) -> None:
    """Frames in which nobody was found stay where they are."""
    gap = CLIPS[1].copy()
    gap[:, 2:4] = 0
    src = source(tmp_path / "src", data=padded([np.zeros_like(CLIPS[0]), gap]))
    found = clips(src)
    assert found["a"].joints.shape == (2, 1, V, 3)
    np.testing.assert_array_equal(found["b"].joints[:1], gap)


def test_names_of_ntu_say_more(tmp_path: Path) -> None:
    names = ["S001C002P003R001A001.skeleton", "S001C001P001R002A003.skeleton"]
    src = source(tmp_path / "src", names=names)
    part(src, "val", ["S001C003P001R001A002.skeleton"], [1], padded(CLIPS[2:]))
    clip = clips(src)["S001C002P003R001A001"]
    assert (clip.subject, clip.camera, clip.take, clip.label) == (3, 2, 1, 0)
    assert read_nctvm(src, LAYOUT).description.classes[0] == "drink water"


def test_two_coordinates_confidences_and_st_gcn(tmp_path: Path) -> None:
    src = tmp_path / "src"
    flat = [clip[..., :2] for clip in CLIPS]
    for kind, names, labels, data in (
        ("train", ["a", "b"], [0, 1], flat[:2]),
        ("val", ["c"], [0], flat[2:]),
    ):
        part(src, kind, names, np.array(labels), padded(data), "_data")
    assert not clips(src)["a"].joints[..., 2].any()
    assert read_nctvm(src, LAYOUT, channels="xy").description.pipeline == "pyskl"
    with pytest.raises(UserError, match=r"\(clips, 3, frames, 20, persons\).*channels xyc"):
        read_nctvm(src, LAYOUT, channels="xyc")
    unseen = CLIPS[0].copy()
    unseen[..., 2] = 0.001
    assert (
        not clips(source(tmp_path / "conf", data=padded([unseen] * 2)), channels="xyc")["a"]
        .joints[..., :2]
        .any()
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0]}, "must have a label for each name, got 1 for 2"),
        ({"labels": [0, 10**9]}, "labels must be class numbers below 10000, got 1000000000"),
        ({"labels": [0, -1]}, "label 1 must be a whole number from 0 on, got -1"),
        ({"labels": [0, 1.5]}, "label 1 must be a whole number from 0 on, got 1.5"),
        ({"names": ["a", "a"]}, "every clip must be there once, got 1 again"),
        ({"names": ["a", "c.json"]}, "a clip must be in one part, 'c' is in both"),
        ({"names": ["a", "../b"]}, "name 1 must not hold"),
        ({"names": ["a", "\x1b[31m"]}, r"name 1 must be printable text.*'\\x1b\[31m'"),
        ({"names": ["a", 3]}, "name 1 must be text, got 3"),
        ({"data": padded(CLIPS)}, "must have a clip for each of 2 labels, got 3"),
        ({"data": padded(CLIPS[:2])[..., :5, :]}, "20, persons.*got float32"),
        ({"data": padded(CLIPS[:2])[0]}, "must be numbers"),
        ({"data": padded(CLIPS[:2]).astype("U4")}, "must be numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_nctvm(source(tmp_path / "src", **changed), LAYOUT)


def test_damaged_sources(tmp_path: Path) -> None:
    src = source(tmp_path / "src")
    broken = padded(CLIPS[:2])
    broken[1, 0, 0, 0, 0] = np.nan
    np.save(src / "train_data_joint.npy", broken)
    with pytest.raises(UserError, match=r"train_data_joint\.npy\[1\]: every coordinate must be"):
        list(read_nctvm(src, LAYOUT).clips)
    np.save(src / "train_data.npy", broken)
    with pytest.raises(UserError, match="but both are there"):
        read_nctvm(src, LAYOUT)
    (src / "train_data.npy").unlink()
    file = src / "val_data_joint.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"val_data_joint\.npy: .*it was cut short"):
        read_nctvm(src, LAYOUT)
    (src / "train_label.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"must be a pair of names and labels, got \{.a.: 1\}"):
        read_nctvm(src, LAYOUT)
    with pytest.raises(UserError, match="neither is there"):
        read_nctvm(tmp_path, LAYOUT)


def test_labels_without_a_0_are_asked_for(tmp_path: Path) -> None:
    src = source(tmp_path / "src", labels=[1, 2])
    part_labels = pickle.loads((src / "val_label.pkl").read_bytes())
    (src / "val_label.pkl").write_bytes(pickle.dumps((part_labels[0], [3])))
    with pytest.raises(UserError, match=r"src: labels run from 1 to 3, .* say --labels-from 0 or"):
        read_nctvm(src, LAYOUT)
    made = read_nctvm(src, LAYOUT, labels_from=1)
    assert made.description.classes == ("0", "1", "2")
    assert sorted(clip.label for clip in made.clips) == [0, 1, 2]
    assert len(read_nctvm(src, LAYOUT, labels_from=0).description.classes) == 4
    names = tmp_path / "names.txt"
    names.write_text("none\nwave\nsit\nrun\n")
    assert read_nctvm(src, LAYOUT, classes=names).description.classes[1] == "wave"
