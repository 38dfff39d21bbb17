"""PYSKL's annotation files: what they hold comes back, compressed clips become what DecompressPose
makes of them, and problems are named.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import naive_detections as naive
from tests.naive_stores import bytes_of
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.pyskl import PysklOptions, read_pyskl
from trainables.data.store.reading import Store, write_store
from trainables.layouts import LAYOUTS, Layout

NTU = (
    "S001C001P001R001A001",
    "S001C002P003R002A002",
    "S017C003P008R001A060",
    "S001C001P002R001A001",
)
FRAMES = 5


def dump(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=4))
    return file


def whole(
    name: str,
    label: int = 0,
    *,
    joints: int = 17,
    coordinates: int = 2,
    persons: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    """An annotation as HRNet's or the Kinect's are, float16;
    `changes` of None take a field away.
    """
    rng = np.random.default_rng(sum(map(ord, name)))
    scale = 100 if coordinates == 2 else 1
    record = {"frame_dir": name, "label": label, "img_shape": (1080, 1920), "total_frames": FRAMES}
    record["keypoint"] = (rng.normal(size=(persons, FRAMES, joints, coordinates)) * scale).astype(
        np.float16
    )
    if coordinates == 2:
        record["keypoint_score"] = rng.random((persons, FRAMES, joints)).astype(np.float16)
    return {field: value for field, value in (record | changes).items() if value is not None}


def boxed(
    name: str,
    label: int = 0,
    *,
    boxes: int = 12,
    frames: int = 6,
    raw_file: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A compressed annotation; without `raw_file` the poses are in it."""
    rng = np.random.default_rng(sum(map(ord, name)))
    record: dict[str, Any] = {
        "frame_dir": name,
        "label": label,
        "total_frames": frames,
        "img_shape": (256, 340),
    }
    record["frame_inds"] = np.sort(rng.integers(0, frames, boxes)).astype(np.int16)
    record["box_score"] = rng.uniform(0.4, 1.0, boxes).astype(np.float32)
    if raw_file is None:
        record["keypoint"] = poses(name, boxes)
    else:
        record["raw_file"] = raw_file
    return {field: value for field, value in (record | changes).items() if value is not None}


def poses(name: str, boxes: int = 12) -> Any:
    values = np.random.default_rng(sum(map(ord, name)) + 1).random((boxes, 17, 3)) * (340, 256, 1)
    return values.astype(np.float16)


def halves(
    annotations: list[dict[str, Any]], first: str = "train", second: str = "val"
) -> dict[str, Any]:
    names = [record["frame_dir"] for record in annotations]
    middle = (len(names) + 1) // 2
    return {"split": {first: names[:middle], second: names[middle:]}, "annotations": annotations}


def imported(out: Path, file: Path, *, test: Path | None = None, **settings: Any) -> Store:
    options = PysklOptions(
        **{name: settings.pop(name) for name in list(settings) if name in PysklOptions.model_fields}
    )
    recordings = read_pyskl(file, options, test=test, **settings)
    write_store(out, recordings.clips, recordings.description)
    made = Store.open(out)
    assert made.info.clips == recordings.count
    return made


def refused(tmp_path: Path, content: Any, **settings: Any) -> str:
    """What the importer says; there must be no store."""
    file = dump(tmp_path / "bad.pkl", content)
    with pytest.raises(UserError) as caught:
        imported(tmp_path / "refused", file, **settings)
    assert not [entry for entry in tmp_path.iterdir() if "refused" in entry.name]
    assert "bad.pkl" in str(caught.value)
    return str(caught.value)


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
