"""Kinetics-Skeleton's folders: the two most confident persons of every frame come back in pixels,
and problems are named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import naive_detections as naive
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.kinetics_skeleton import read_kinetics_skeleton
from trainables.data.store.reading import Store, write_store

CLIPS = {
    "-a1": ("train", 0, "abseiling"),
    "b_2": ("train", 2, "archery"),
    "c3": ("val", 0, "abseiling"),
    "d4": ("train", 2, "archery"),
}


def frames(seed: int, persons: int = 7) -> list[dict[str, Any]]:
    """A few frames in no order, rounded to three digits as the released files are; the last person
    is the most confident.
    """
    rng = np.random.default_rng(seed)
    found = []
    for index in rng.permutation(np.arange(1, 301))[:9].tolist():
        count = int(rng.integers(0, persons + 1))
        people = [
            {
                "pose": rng.random(36).round(3).tolist(),
                "score": (rng.random(18) * (m + 1) / count).round(3).tolist(),
            }
            for m in range(count)
        ]
        for person in people:
            person["pose"][4:6] = [0.0, 0.0]
            person["score"][2] = 0.0
        found.append({"frame_index": index, "skeleton": people})
    return found


def source(src: Path) -> Path:
    for part in ("train", "val"):
        (src / f"kinetics_{part}").mkdir(parents=True)
        labels = {
            name: {"has_skeleton": name != "d4", "label": text, "label_index": label}
            for name, (own, label, text) in CLIPS.items()
            if own == part
        }
        (src / f"kinetics_{part}_label.json").write_text(json.dumps(labels))
    for number, (name, (part, label, text)) in enumerate(CLIPS.items()):
        content = {
            "data": frames(number) if name != "d4" else [],
            "label": text,
            "label_index": label,
        }
        (src / f"kinetics_{part}" / f"{name}.json").write_text(json.dumps(content))
    return src


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return source(tmp_path / "kinetics-skeleton")


def imported(src: Path, out: Path) -> Store:
    recordings = read_kinetics_skeleton(src)
    write_store(out, recordings.clips, recordings.description)
    return Store.open(out)


def said(src: Path, out: Path) -> str:
    """What the importer says; there must be no store."""
    with pytest.raises(UserError) as caught:
        imported(src, out)
    assert not [entry for entry in out.parent.iterdir() if out.name in entry.name]
    return str(caught.value)


def test_clips_come_back(src: Path, tmp_path: Path) -> None:
    assert read_kinetics_skeleton(src).notes == (
        "clips without a skeleton, left out: 1 (train), 0 (val)",
    )
    made = imported(src, tmp_path / "store")
    assert (made.info.channels, made.layout.name, made.info.pipeline, made.info.persons) == (
        "xyc",
        "openpose18",
        "pyskl",
        2,
    )
    assert made.info.classes == ("abseiling", "1", "archery")
    assert made.column("id").tolist() == ["-a1", "b_2", "c3"]
    assert made.column("label").tolist() == [0, 2, 0]
    assert made.column("length").tolist() == [300] * 3
    split = made.split("split", SelectionConfig(kind="none"))
    assert (split.train.tolist(), split.test.tolist()) == ([0, 1], [2])
    for position, number in enumerate((0, 1, 2)):
        # one multiplication of the same two float32 numbers on both sides: equal bit by bit
        np.testing.assert_array_equal(made.clip(position), naive.kinetics(frames(number)))
    assert 256 < made.clip(0)[..., 0].max() <= 340
    assert made.column("absent").min() > 0


def changed(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


PERSON = {"pose": [0.5] * 36, "score": [0.5] * 18}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"frame_index": 0, "skeleton": []}], "a frame_index of its own from 1 to 300, got 0"),
        ([{"frame_index": 301, "skeleton": []}], "a frame_index of its own from 1 to 300, got 301"),
        ([{"frame_index": 5, "skeleton": []}] * 2, "a frame_index of its own from 1 to 300, got 5"),
        ([{"frame_index": "5", "skeleton": []}], "a frame_index of its own from 1 to 300, got '5'"),
        ([{"frame_index": 5}], "each frame must have a skeleton"),
        ([5], "each frame must have a skeleton"),
        (
            [{"frame_index": 5, "skeleton": [PERSON | {"pose": [0.5] * 34}]}],
            "frame 5: a person must have 36 numbers as pose and 18 as score, got [34, 18]",
        ),
        (
            [{"frame_index": 5, "skeleton": [{"pose": [0.5] * 36}]}],
            "frame 5: a person must have 36 numbers as pose and 18 as score, got [36]",
        ),
        (
            [{"frame_index": 5, "skeleton": [7]}],
            "frame 5: a person must have 36 numbers as pose and 18 as score, got []",
        ),
        (
            [{"frame_index": 5, "skeleton": [PERSON | {"pose": ["x"] * 36}]}],
            "pose and score must be numbers",
        ),
        (
            [{"frame_index": 5, "skeleton": [PERSON | {"score": [float("nan")] * 18}]}],
            "every coordinate must be finite, got 18",
        ),
        ({}, "must be a record with data, the list of frames"),
    ],
)
def test_a_wrong_clip_is_named(src: Path, tmp_path: Path, data: Any, message: str) -> None:
    file = src / "kinetics_train" / "b_2.json"
    changed(file, data=data)
    found = said(src, tmp_path / "refused")
    assert found.startswith(f"{file}: ")
    assert message in found


def test_all_wrong_clips_are_named_at_once(src: Path, tmp_path: Path) -> None:
    first, second, third = (
        src / f"kinetics_{CLIPS[name][0]}" / f"{name}.json" for name in ("-a1", "b_2", "c3")
    )
    first.write_bytes(first.read_bytes()[:200])
    second.unlink()
    changed(third, label_index=2)
    found = said(src, tmp_path / "refused").splitlines()
    assert found[0].startswith(
        f"{first}: must be the JSON of a clip, which the list of labels names, but it is damaged"
    )
    assert (
        found[1]
        == f"{second}: must be the JSON of a clip, which the list of labels names, but it is not"
        " there"
    )
    assert found[2] == f"{third}: the list of labels says label_index 0, the clip has 2"
    assert len(found) == 3


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"b_2": {"has_skeleton": True, "label": "archery"}},
            "clip 'b_2' must have has_skeleton and a label_index from 0 on",
        ),
        (
            {"b_2": {"label_index": 2, "label": "archery"}},
            "clip 'b_2' must have has_skeleton and a label_index from 0 on",
        ),
        (
            {"b_2": {"has_skeleton": True, "label": "archery", "label_index": -1}},
            "clip 'b_2' must have has_skeleton and a label_index from 0 on",
        ),
        (
            {"b_2": {"has_skeleton": True, "label": "run", "label_index": 0}},
            "label of clip 'b_2' must be 'abseiling', as that of others with index 0",
        ),
        ({"b_2": 5}, "clip 'b_2' must have has_skeleton and a label_index from 0 on, got 5"),
    ],
)
def test_a_wrong_list_is_named(
    src: Path, tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    file = src / "kinetics_train_label.json"
    changed(file, **entry)
    found = said(src, tmp_path / "refused")
    assert str(file) in found
    assert message in found


def test_lists_and_folders_belong_together(src: Path, tmp_path: Path) -> None:
    (src / "kinetics_train" / "extra.json").write_text("{}")
    assert "must name every clip of kinetics_train/, 1 are not in it: 'extra'" in said(
        src, tmp_path / "refused"
    )
    (src / "kinetics_train" / "extra.json").unlink()
    changed(
        src / "kinetics_val_label.json",
        **{"-a1": {"has_skeleton": True, "label": "abseiling", "label_index": 0}},
    )
    assert "clip '-a1' is there already, in train" in said(src, tmp_path / "refused")
    (src / "kinetics_val_label.json").write_text("[]")
    assert "must be a record of clips" in said(src, tmp_path / "refused")
    (src / "kinetics_val_label.json").write_text(
        json.dumps({"c3": {"has_skeleton": False, "label": "abseiling", "label_index": 0}})
    )
    assert "must hold clips with a skeleton in every part, has none in val" in said(
        src, tmp_path / "refused"
    )
    (src / "kinetics_val_label.json").unlink()
    assert (
        "kinetics_val_label.json: must be the list of labels, as JSON, but it is not there"
        in said(src, tmp_path / "refused")
    )
