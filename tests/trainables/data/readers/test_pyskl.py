"""PYSKL's annotation files: what they hold comes back, and compressed clips become what
DecompressPose makes of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import naive_detections as naive
from tests.naive_stores import bytes_of
from tests.trainables.data.readers.pyskl_files import (
    boxed,
    dump,
    halves,
    imported,
    poses,
    refused,
    whole,
)
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.pyskl import PysklOptions, read_pyskl
from trainables.data.store.reading import Store
from trainables.layouts import LAYOUTS, Layout

NTU = (
    "S001C001P001R001A001",
    "S001C002P003R002A002",
    "S017C003P008R001A060",
    "S001C001P002R001A001",
)


def test_ntu_in_space(tmp_path: Path) -> None:
    """As ntu60_3danno.pkl: float16, one or two persons, protocols xsub and xview, and what the
    names say.
    """
    annotations = [
        whole(name, k, joints=25, coordinates=3, persons=1 + k % 2) for k, name in enumerate(NTU)
    ]
    split = {
        "xsub_train": [NTU[0], NTU[2]],
        "xsub_val": [NTU[1], NTU[3]],
        "xview_train": list(NTU[1:3]),
        "xview_val": [NTU[0], NTU[3]],
    }
    made = imported(
        tmp_path / "store",
        dump(tmp_path / "ntu60_3danno.pkl", {"split": split, "annotations": annotations}),
    )
    assert made.info.name == "ntu60_3danno"
    assert (made.info.channels, made.layout.name, made.info.pipeline, made.info.persons) == (
        "xyz",
        "ntu25",
        "pyskl",
        2,
    )
    order = sorted(range(4), key=lambda k: NTU[k])
    assert made.column("id").tolist() == [NTU[k] for k in order]
    assert made.column("label").tolist() == order
    assert made.column("subject").tolist() == [1, 2, 3, 8]
    assert made.column("camera").tolist() == [1, 1, 2, 3]
    assert made.column("take").tolist() == [1, 1, 2, 1]
    assert made.column("setup").tolist() == [1, 1, 1, 17]
    for position, k in enumerate(order):
        np.testing.assert_array_equal(
            made.clip(position), annotations[k]["keypoint"].astype(np.float32)
        )
    for protocol, train, test in (("xsub", [0, 3], [1, 2]), ("xview", [2, 3], [0, 1])):
        split = made.split(protocol, SelectionConfig(kind="none"))
        assert (split.train.tolist(), split.test.tolist()) == (train, test)
    assert made.split("xsub", SelectionConfig(kind="subject", fraction=0.5)).selection.size == 1


def test_poses_of_hrnet(tmp_path: Path) -> None:
    """Pixels and confidence; joints not seen are at (0, 0) and keep their confidence."""
    record = whole("v_Archery_g01_c01", persons=2)
    record["keypoint_score"][0, 1, :4] = (0.01, 0.0, 0.02, 0.009)
    file = dump(tmp_path / "x_hrnet.pkl", halves([record, whole("v_Archery_g02_c01")]))
    made = imported(tmp_path / "store", file)
    assert (made.info.channels, made.layout.name, made.info.classes) == ("xyc", "coco17", ("0",))
    both = np.concatenate([record["keypoint"], record["keypoint_score"][..., None]], axis=-1)
    np.testing.assert_array_equal(made.clip(0), naive.unseen_hidden(both))
    assert made.clip(0)[0, 1, 0, 2] == np.float16(0.01)
    assert made.column("subject").tolist() == [None, None]
    plain = imported(tmp_path / "plain", file, drop_confidence=True)
    assert plain.info.channels == "xy"
    np.testing.assert_array_equal(plain.clip(0)[..., :2], made.clip(0)[..., :2])
    assert not plain.clip(0)[..., 2].any()


def test_plane_coordinates_without_confidence(tmp_path: Path) -> None:
    annotations = [whole(name, keypoint_score=None) for name in "ab"]
    made = imported(tmp_path / "store", dump(tmp_path / "x.pkl", halves(annotations)))
    assert made.info.channels == "xy"
    np.testing.assert_array_equal(
        made.clip(0)[..., :2], annotations[0]["keypoint"].astype(np.float32)
    )


@pytest.mark.parametrize("persons", [1, 2, 3])
@pytest.mark.parametrize("joints", [17, 25])
def test_surplus_persons(tmp_path: Path, persons: int, joints: int) -> None:
    coordinates = 2 if joints == 17 else 3
    annotations = [
        whole(name, joints=joints, coordinates=coordinates, persons=count)
        for name, count in (("a", 4), ("b", 1), ("c", 0))
    ]
    made = imported(
        tmp_path / "store", dump(tmp_path / "x.pkl", halves(annotations)), max_persons=persons
    )
    assert made.info.persons == persons
    joined = annotations[0]["keypoint"].astype(np.float32)
    if coordinates == 2:
        joined = np.concatenate(
            [joined, annotations[0]["keypoint_score"][..., None].astype(np.float32)], axis=-1
        )
    wanted = naive.chief(joined, persons, coordinates == 2)
    np.testing.assert_array_equal(
        made.clip(0), naive.unseen_hidden(wanted) if coordinates == 2 else wanted
    )
    assert made.column("persons").tolist() == [persons, 1, 1]
    assert not made.clip(2).any()  # nobody was found in it


@pytest.mark.parametrize(
    ("names", "protocols", "unused"),
    [
        ({"train": "ab", "val": "cd"}, {"split": ("split", "ab", "", "cd")}, ""),
        ({"train": "ab", "test": "cd"}, {"split": ("split", "ab", "", "cd")}, ""),
        ({"train": "a", "val": "b", "test": "cd"}, {"split": ("split", "a", "b", "cd")}, ""),
        (
            {"train1": "ab", "test1": "cd", "train2": "cd", "test2": "ab"},
            {"split1": ("split1", "ab", "", "cd"), "split2": ("split2", "cd", "", "ab")},
            "",
        ),
        (
            {"sub_train": "a", "sub_test": "b", "sub_val": "c"},
            {"sub": ("split_sub", "a", "c", "b")},
            "",
        ),
        (
            {"x_y_train": "a", "x_y_val": "b", "all": "abcd", "z_val": "a"},
            {"x_y": ("split_x_y", "a", "", "b")},
            "all, z_val",
        ),
    ],
)
def test_splits_become_protocols(
    tmp_path: Path, names: dict[str, str], protocols: dict[str, tuple[str, ...]], unused: str
) -> None:
    content = {
        "split": {name: list(clips) for name, clips in names.items()},
        "annotations": [whole(name) for name in "dcba"],
    }
    file = dump(tmp_path / "x.pkl", content)
    made = imported(tmp_path / "store", file)
    assert made.info.protocols.keys() == protocols.keys()
    ids = made.column("id")
    for protocol, (column, *parts) in protocols.items():
        rule = made.rule(protocol)
        assert rule.column == column
        split = made.split(protocol, SelectionConfig(kind="protocol" if parts[1] else "none"))
        assert ["".join(ids[part]) for part in (split.train, split.selection, split.test)] == parts
    notes = read_pyskl(file, PysklOptions()).notes
    assert [note for note in notes if "make no protocol" in note] == (
        [f"splits that make no protocol, ignored: {unused}"] if unused else []
    )


def test_clips_in_no_split_are_stored_and_counted(tmp_path: Path) -> None:
    content = {
        "split": {"train": ["a"], "val": ["b"]},
        "annotations": [whole(name) for name in "abcd"],
    }
    file = dump(tmp_path / "x.pkl", content)
    made = imported(tmp_path / "store", file)
    assert made.column("split").tolist() == ["train", "val", None, None]
    assert read_pyskl(file, PysklOptions()).notes == (
        "clips in no split, stored without a part: 2",
    )
    assert made.info.provenance["clips in no split, stored without a part"] == 2


def test_lists_without_splits(tmp_path: Path) -> None:
    train, test = (
        dump(tmp_path / "train.pkl", [whole("a"), whole("b")]),
        dump(tmp_path / "test.pkl", {"annotations": [whole("c", 3)]}),
    )
    made = imported(tmp_path / "store", train, test=test)
    split = made.split("split", SelectionConfig(kind="none"))
    assert (split.train.tolist(), split.test.tolist(), made.info.name, len(made.info.classes)) == (
        [0, 1],
        [2],
        "train",
        4,
    )
    assert "--test must name the annotations that test" in refused(tmp_path, [whole("a")])
    assert "--test is for files without splits, this one has some" in refused(
        tmp_path, halves([whole("a"), whole("b")]), test=test
    )
    assert "clip 'a' is there already" in refused(tmp_path, [whole("a")], test=train)
    assert "clip 'a' is there already" in refused(tmp_path, [whole("a")], test=tmp_path / "bad.pkl")


def test_names_of_classes(tmp_path: Path) -> None:
    file, names = (
        dump(tmp_path / "x.pkl", halves([whole("a"), whole("b", 2)])),
        tmp_path / "names.txt",
    )
    names.write_text("wave\njump\n sit down \nrun\n\n")
    assert imported(tmp_path / "store", file, classes=names).info.classes == (
        "wave",
        "jump",
        "sit down",
        "run",
    )
    bare = 4 - len(set(Store.open(tmp_path / "store").column("label")))
    assert (
        f"named classes without a clip: {bare}"
        in read_pyskl(file, PysklOptions(), classes=names).notes
    )
    for text in ("wave\njump\n", "wave\n\njump\nrun\n", "wave\nwave\njump\n"):
        names.write_text(text)
        with pytest.raises(
            UserError,
            match=r"names\.txt: must hold a name of its own on each line, for at least 3 classes",
        ):
            imported(tmp_path / "refused", file, classes=names)
    with pytest.raises(
        UserError, match=r"absent\.txt: must be a list of class names, but it is not there"
    ):
        imported(tmp_path / "refused", file, classes=tmp_path / "absent.txt")


@pytest.mark.parametrize("persons", [1, 2, 3, 9])
@pytest.mark.parametrize("threshold", [None, 0.4, 0.7])
def test_compressed_clips(tmp_path: Path, persons: int, threshold: float | None) -> None:
    annotations = [boxed(name) for name in ("a", "b", "c", "d")]
    made = imported(
        tmp_path / "store",
        dump(tmp_path / "x.pkl", halves(annotations)),
        max_persons=persons,
        box_threshold=threshold,
    )
    assert (made.info.channels, made.layout.name) == ("xyc", "coco17")
    for position, record in enumerate(annotations):
        wanted = naive.decompress(
            record["frame_inds"], record["keypoint"], record["box_score"], threshold or 0.5, persons
        )
        np.testing.assert_array_equal(made.clip(position), naive.unseen_hidden(wanted))
    assert len(set(made.column("length").tolist())) > 1


def test_compressed_clips_without_scores(tmp_path: Path) -> None:
    """What PYSKL's own extraction script writes with --compress."""
    annotations = [boxed(name, box_score=None) for name in "ab"]
    made = imported(
        tmp_path / "store",
        dump(tmp_path / "x.pkl", annotations[:1]),
        test=dump(tmp_path / "y.pkl", annotations[1:]),
    )
    for position, record in enumerate(annotations):
        wanted = naive.decompress(record["frame_inds"], record["keypoint"], None, 0.5, 2)
        np.testing.assert_array_equal(made.clip(position), naive.unseen_hidden(wanted))


def kinetics(folder: Path, raw_file: str = "kpfiles/{}.pkl") -> tuple[Path, list[dict[str, Any]]]:
    """An annotation file whose joints are in two others, and the
    annotations as if they were in it.
    """
    names = {"p": "ac", "q": "bd"}
    annotations = [
        boxed(name, raw_file=raw_file.format(number))
        for number, clips in names.items()
        for name in clips
    ]
    annotations.sort(key=lambda record: record["frame_dir"])
    for number, clips in names.items():
        dump(
            folder / "kpfiles" / f"{number}.pkl",
            {name: {"keypoint": poses(name)} for name in clips},
        )
    content = {"split": {"train": ["a", "b"], "val": ["c", "d"]}, "annotations": annotations}
    return dump(folder / "k400_hrnet.pkl", content), [
        record | {"keypoint": poses(record["frame_dir"])} for record in annotations
    ]


def test_joints_in_files_of_their_own(tmp_path: Path) -> None:
    file, annotations = kinetics(tmp_path / "k400")
    made = imported(tmp_path / "store", file)
    for position, record in enumerate(annotations):
        wanted = naive.decompress(
            record["frame_inds"], record["keypoint"], record["box_score"], 0.5, 2
        )
        np.testing.assert_array_equal(made.clip(position), naive.unseen_hidden(wanted))
    (tmp_path / "k400" / "kpfiles").rename(tmp_path / "elsewhere")
    with pytest.raises(
        UserError,
        match=r"kpfiles/p\.pkl: must be a whole pickle of plain arrays, but it is not there",
    ):
        imported(tmp_path / "refused", file)
    imported(tmp_path / "again", file, raw_root=tmp_path / "elsewhere")  # by their bare names
    assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "store")
    (tmp_path / "elsewhere").rename(tmp_path / "kpfiles")
    imported(tmp_path / "below", file, raw_root=tmp_path)
    assert bytes_of(tmp_path / "below") == bytes_of(tmp_path / "store")


def test_one_file_of_joints_per_clip_and_foreign_paths(tmp_path: Path) -> None:
    file, _ = kinetics(tmp_path / "one", "/mnt/authors/machine/{}.pkl")
    made = imported(tmp_path / "store", file, raw_root=tmp_path / "one" / "kpfiles")
    single = [boxed("a", raw_file="a.pkl"), boxed("b", raw_file="b.pkl")]
    for record in single:
        dump(tmp_path / "two" / record["raw_file"], {"keypoint": poses(record["frame_dir"])})
    other = imported(tmp_path / "other", dump(tmp_path / "two" / "x.pkl", halves(single)))
    np.testing.assert_array_equal(other.clip(0), made.clip(0))


def test_damaged_files_of_joints_are_each_named_once(tmp_path: Path) -> None:
    file, _ = kinetics(tmp_path)
    p, q = tmp_path / "kpfiles" / "p.pkl", tmp_path / "kpfiles" / "q.pkl"
    p.write_bytes(p.read_bytes()[:500])
    dump(q, {"b": {"keypoint": poses("b")}, "d": {"score": 1}})
    with pytest.raises(UserError) as caught:
        imported(tmp_path / "refused", file)
    said = str(caught.value).splitlines()
    assert len(said) == 2
    assert f"{p}: must be a whole pickle of plain arrays" in said[0]
    assert said[1] == f"{q}: must hold the keypoint of clip 'd', k400_hrnet.pkl says it is there"


def test_training_clips_with_few_poses_are_left_out(tmp_path: Path) -> None:
    """Only where they train: the test part stays what it is."""
    few, many = {"frame_inds": np.array([1, 1, 3])}, {"frame_inds": np.array([0, 2, 5])}
    scores = {"box_score": np.array([0.9, 0.9, 0.6], np.float32), "boxes": 3}
    annotations = [
        boxed(name, **scores, **frames)
        for name, frames in (("a", few), ("b", many), ("c", few), ("d", many))
    ]
    content = {"split": {"train": ["a", "b"], "val": ["c", "d"]}, "annotations": annotations}
    file = dump(tmp_path / "x.pkl", content)
    assert imported(tmp_path / "all", file, valid_ratio=2 / 6).column("id").tolist() == [
        "a",
        "b",
        "c",
        "d",
    ]
    made = imported(tmp_path / "half", file, valid_ratio=0.5)
    assert made.column("id").tolist() == ["b", "c", "d"]
    assert read_pyskl(file, PysklOptions(valid_ratio=0.5)).notes == (
        "training clips with too few frames, left out: 1",
    )
    # the third box does not count
    strict = read_pyskl(file, PysklOptions(valid_ratio=0.3, box_threshold=0.8)).notes
    assert strict == ("training clips with too few frames, left out: 1",)


def test_clips_without_a_box_are_left_out(tmp_path: Path) -> None:
    annotations = [boxed("a"), boxed("b", box_score=np.full(12, 0.3)), boxed("c")]
    file = dump(tmp_path / "x.pkl", halves(annotations))
    assert imported(tmp_path / "store", file).column("id").tolist() == ["a", "c"]
    assert read_pyskl(file, PysklOptions()).notes == (
        "clips without a box of score 0.5, left out: 1",
    )


def test_a_layout_that_no_number_tells(tmp_path: Path) -> None:
    stick = Layout("stick", ("hip", "knee", "foot"), (0, 0, 1), origin=0)
    content = halves([whole("a", joints=3), whole("b", joints=3)])
    made = imported(tmp_path / "store", dump(tmp_path / "x.pkl", content), layout=stick)
    assert (made.layout.joints, made.info.channels) == (stick.joints, "xyc")
    assert "unless --layout names their skeleton; got 3 and channels xyc" in refused(
        tmp_path, content
    )
    assert "keypoint must have 25 joints, got 3" in refused(
        tmp_path, content, layout=LAYOUTS["ntu25"]
    )


def test_importing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    file, _ = kinetics(tmp_path)
    for name in ("one", "two"):
        imported(tmp_path / name, file)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
