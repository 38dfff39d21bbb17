"""What is wrong with PYSKL's annotation files is named, and damaged or hostile ones do no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.data.readers.pyskl_files import (
    FRAMES,
    boxed,
    dump,
    halves,
    imported,
    poses,
    refused,
    whole,
)
from trainables.contract.errors import UserError
from trainables.data.readers.pyskl import PysklOptions, read_pyskl

NAN = whole("a")["keypoint"].copy()
NAN[0, 2, 3, 1] = np.nan


GOOD = whole("b")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (whole("a", joints=24), "clip 'a': keypoint must have 17 joints, got 24"),
        (whole("a", keypoint=NAN), "clip 'a': every coordinate must be finite, got 1 that are NaN"),
        (
            whole("a", keypoint_score=np.full((1, FRAMES, 17), np.nan)),
            "clip 'a': every coordinate must be finite, got 85 that are NaN",
        ),
        (
            whole("a", label=None),
            "annotations[0]: label of 'a' must be a whole number from 0 on, got None",
        ),
        (whole("a", label=-1), "label of 'a' must be a whole number from 0 on, got -1"),
        (whole("a", label=1.0), "label of 'a' must be a whole number from 0 on, got 1.0"),
        (whole("a", label=True), "label of 'a' must be a whole number from 0 on, got True"),
        (
            whole("a", total_frames=6),
            "clip 'a': total_frames must be the 5 frames of keypoint, got 6",
        ),
        (
            whole("a", keypoint_score=np.ones((1, 4, 17))),
            (
                "clip 'a': keypoint_score must be (1, 5, 17) beside a keypoint (..., 2), got (1,"
                " 4, 17)"
            ),
        ),
        (
            whole("a", keypoint=np.ones((1, FRAMES, 17, 3))),
            "clip 'a': joints must have channels xyc, as those of other clips, got xyz",
        ),
        (
            whole("a", keypoint_score=None),
            "clip 'b': joints must have channels xy, as those of other clips, got xyc",
        ),
        (
            whole("a", keypoint=np.ones((FRAMES, 17, 2))),
            "clip 'a': keypoint must be (persons, frames, joints, 2 or 3), got (5, 17, 2)",
        ),
        (
            whole("a", keypoint=np.ones((0, 10**12, 17, 3)), total_frames=10**12),
            "clip 'a': keypoint must have at most 1000000 frames and joints, got (0, 1000000000000",
        ),
        (
            whole("a", keypoint=np.ones((1, FRAMES, 17, 4))),
            "clip 'a': keypoint must be (persons, frames, joints, 2 or 3), got (1, 5, 17, 4)",
        ),
        (whole("a", keypoint=[[1.0]]), "clip 'a': keypoint must be an array of numbers"),
        (
            whole("a", keypoint=np.full((1, FRAMES, 17, 2), "x")),
            "clip 'a': keypoint must be an array of numbers",
        ),
        (
            whole("a", keypoint=None),
            "clip 'a': must have keypoint, or raw_file and frame_inds, has 'frame_dir', 'label'",
        ),
        (
            whole(
                "a",
                keypoint=np.ones((1, 0, 17, 2)),
                keypoint_score=np.ones((1, 0, 17)),
                total_frames=0,
            ),
            "a clip must have at least one frame",
        ),
        (whole("b"), "annotations[1]: clip 'b' is there already, "),
        (
            {"label": 1},
            "annotations[0]: must be a record with the clip's name as frame_dir, got None",
        ),
        ([1], "annotations[0]: must be a record with the clip's name as frame_dir, got None"),
        (
            boxed("a", frame_inds=np.arange(12)[::-1]),
            "clip 'a': frame_inds must be frame numbers that do not fall",
        ),
        (
            boxed("a", frame_inds=np.arange(12.0)),
            "clip 'a': frame_inds must be frame numbers that do not fall, got float64 (12,)",
        ),
        (
            boxed("a", box_score=np.ones(5)),
            "clip 'a': box_score must have a number for each of 12 frame_inds, got float64 (5,)",
        ),
        (
            boxed("a", total_frames=2),
            "clip 'a': total_frames must be at least the 5 frames that frame_inds name, got 2",
        ),
        (boxed("a", total_frames=None), "clip 'a': total_frames must be at least the"),
        (
            boxed("a", keypoint=poses("a", 11)),
            "clip 'a': keypoint must have a pose for each of 12 frame_inds, got 11",
        ),
        (
            boxed("a", keypoint=poses("a")[..., :2]),
            "clip 'a': keypoint must be (poses, joints, 3), got (12, 17, 2)",
        ),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, record: Any, message: str) -> None:
    content = {"split": {"train": ["a"], "val": ["b"]}, "annotations": [record, GOOD]}
    assert message in refused(tmp_path, content)


def test_all_wrong_annotations_are_named_at_once(tmp_path: Path) -> None:
    content = halves(
        [whole("a", joints=24), GOOD, whole("c", keypoint=NAN), whole("d", total_frames=6)]
    )
    said = refused(tmp_path, content).splitlines()
    assert [line.split("'")[1] for line in said] == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            {"train": ["a", "x", "y"], "val": ["b"]},
            "split 'train' must name clips that have an annotation, 2 have none: 'x', 'y'",
        ),
        (
            {"train": ["a", "b"], "val": ["b"]},
            "a clip must be in one of train, val, 1 are in two: 'b'",
        ),
        (
            {"train": ["a", "b"], "val": []},
            "split 'val' must be a list of at least one clip, got []",
        ),
        (
            {"train": "ab", "val": ["b"]},
            "split 'train' must be a list of at least one clip, got 'ab'",
        ),
        (
            {"train": ["a", "b"]},
            (
                "splits must be called train and val or test, alone or as NAME_train or train1, got"
                " 'train'"
            ),
        ),
        ({}, "splits must be called train and val or test"),
        (["a"], "split must be a record of lists of clips, got list"),
    ],
)
def test_wrong_splits_are_named(tmp_path: Path, split: Any, message: str) -> None:
    assert message in refused(tmp_path, {"split": split, "annotations": [whole("a"), whole("b")]})


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("this must not be printed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"split": {"train": ["a"], "val": ["b"]}, "annotations": {}},
            "must hold a list of annotations, got dict",
        ),
        (
            {"split": {"train": ["a"], "val": ["b"]}, "annotations": []},
            "must hold a list of annotations, got an empty one",
        ),
        (
            {"split": {"train": ["a"], "val": ["b"]}},
            "must hold a list of annotations, got NoneType",
        ),
        (
            {
                "split": {"train": ["a"], "val": ["b"]},
                "annotations": [whole("a", label=Hostile()), GOOD],
            },
            "it asks for builtins.print",
        ),
    ],
)
def test_a_wrong_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, message: str
) -> None:
    assert message in refused(tmp_path, content)
    assert not capsys.readouterr().out


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    file = dump(tmp_path / "x.pkl", halves([whole("a"), whole("b")]))
    file.write_bytes(file.read_bytes()[:-100])
    for place, message in (
        (file, "must be a whole pickle of plain arrays, but it is damaged "),
        (tmp_path / "y.pkl", "must be a whole pickle of plain arrays, but it is not there"),
    ):
        with pytest.raises(UserError, match=message):
            read_pyskl(place, PysklOptions())


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    plain = halves([whole("a"), whole("b")])
    assert "--box-threshold needs compressed clips with box_score" in refused(
        tmp_path, plain, box_threshold=0.6
    )
    assert "--valid-ratio needs compressed clips" in refused(tmp_path, plain, valid_ratio=0.5)
    unscored = halves([boxed("a", box_score=None), boxed("b", box_score=None)])
    assert "--box-threshold needs compressed clips with box_score" in refused(
        tmp_path, unscored, box_threshold=0.6
    )
    solid = halves([whole(name, joints=25, coordinates=3) for name in "ab"])
    assert "--drop-confidence needs joints with a confidence, these have channels xyz" in refused(
        tmp_path, solid, drop_confidence=True
    )


def test_a_protocol_without_clips_is_refused(tmp_path: Path) -> None:
    content = halves([boxed("a"), boxed("b")])
    said = refused(tmp_path, content, box_threshold=1.0)
    assert (
        "protocol 'split' must keep at least one train clip, got none: 2 clips have no box of score"
        " 1 and 0 too few frames" in said
    )
    short = halves([boxed("a", total_frames=90), boxed("b", total_frames=90)])
    assert "got none: 0 clips have no box of score 0.5 and 1 too few frames" in refused(
        tmp_path, short, valid_ratio=0.5
    )
    assert "must keep at least one val clip" in refused(
        tmp_path, halves([boxed("a"), boxed("b", box_score=np.zeros(12))])
    )


def test_labels_without_a_0_are_asked_for(tmp_path: Path) -> None:
    content = halves([boxed("a", 1), boxed("b", 2), boxed("c", 3), boxed("d", 1)])
    said = refused(tmp_path, content)
    assert "bad.pkl: labels run from 1 to 3, so it is not known" in said
    assert "say --labels-from 0 or --labels-from 1" in said
    made = imported(tmp_path / "one", dump(tmp_path / "one.pkl", content), labels_from=1)
    assert made.info.classes == ("0", "1", "2")
    assert made.column("label").tolist() == [0, 1, 2, 0]
    made = imported(tmp_path / "zero", dump(tmp_path / "zero.pkl", content), labels_from=0)
    assert made.column("label").tolist() == [1, 2, 3, 1]
