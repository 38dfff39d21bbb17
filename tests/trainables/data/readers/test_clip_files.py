"""New clips of every format are what an import of them holds; what is no clip is named."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from tests.trainables.data.readers.pyskl_files import boxed, dump
from trainables.contract.errors import UserError
from trainables.data.readers.clip_files import READERS, Wanted, clips_of
from trainables.data.readers.ntu_bodies import ntu_clip
from trainables.data.readers.pyskl import PysklOptions, read_pyskl
from trainables.data.readers.skeleton_file import parse_skeleton
from trainables.data.store.description import Description
from trainables.data.store.writing import without_absent
from trainables.layouts import LAYOUTS


def wanted(layout, channels="xyz", persons=2, unit=None, **provenance):
    description = Description(
        name="made",
        layout=layout,
        classes=("sit", "stand"),
        channels=channels,
        persons=persons,
        pipeline="ctr" if channels == "xyz" else "pyskl",
        protocols={"split": {"column": "label", "train": (0,), "test": (1,)}},
        provenance=provenance,
    )
    return Wanted.of(description, unit)


def body(layout, frames=5, persons=1, channels="xyz"):
    """Standing bodies of 1.7 m, or of 170 pixels with confidences, who move."""
    size = LAYOUTS[layout].size
    generator = np.random.default_rng(0)
    joints = generator.uniform(0.1, 1.7, size=(persons, frames, size, 3))
    if channels != "xyz":
        joints[..., :2] *= 100
        joints[..., 2] = 0.9 if channels == "xyc" else 0.0
    return joints.astype(np.float32)


def read(file, given):
    return [(place, one()) for place, one in clips_of(file, given)]


def skeleton_text(joints):
    """A .skeleton file of one body (T, 25, 3)."""
    lines = [str(len(joints))]
    for frame in joints:
        lines += ["1", "72057594037931101 0 1 1 1 1 0 0.1 0.2 2", str(len(frame))]
        lines += [" ".join(f"{v:.7g}" for v in joint) + " 0" * 8 + " 2" for joint in frame]
    return "\n".join(lines)


@pytest.mark.parametrize("doubled", [False, True])
def test_a_skeleton_file_is_prepared_as_its_import_does(tmp_path, doubled):
    file = tmp_path / "S001.skeleton"
    file.write_text(skeleton_text(body("ntu25", 12)[0]))
    provenance = {"single_actor": "duplicate"} if doubled else {}
    ((place, joints),) = read(file, wanted("ntu25", **provenance))
    assert place == str(file)
    expected = ntu_clip(parse_skeleton(file.read_bytes()))
    assert len(joints) == (2 if doubled else 1)
    for person in joints:
        np.testing.assert_array_equal(person, expected[0])


def test_arrays_are_one_clip_or_many(tmp_path):
    clips = body("ucla20", 6, persons=2)
    given = wanted("ucla20")
    np.save(tmp_path / "one.npy", clips[0])
    np.save(tmp_path / "two.npy", clips)
    np.savez(tmp_path / "named.npz", a=clips[0, :3], b=clips)
    many = np.zeros((2, 3, 9, 20, 2), np.float32)
    many[0, :, :6] = clips.transpose(3, 1, 2, 0)
    many[1, :, :4, :, :1] = clips[:1, :4].transpose(3, 1, 2, 0)
    np.save(tmp_path / "many.npy", many)
    ((_, joints),) = read(tmp_path / "one.npy", given)
    np.testing.assert_array_equal(joints, clips[:1])
    ((_, joints),) = read(tmp_path / "two.npy", given)
    np.testing.assert_array_equal(joints, clips)
    (first, a), (second, b) = read(tmp_path / "named.npz", given)
    assert (first, second) == (f"{tmp_path}/named.npz[a]", f"{tmp_path}/named.npz[b]")
    np.testing.assert_array_equal(a, clips[:1, :3])
    np.testing.assert_array_equal(b, clips)
    (first, a), (second, b) = read(tmp_path / "many.npy", given)  # zeros at the end are no frames
    assert (first, second) == (f"{tmp_path}/many.npy[0]", f"{tmp_path}/many.npy[1]")
    np.testing.assert_array_equal(a, clips)
    np.testing.assert_array_equal(b, clips[:1, :4])


@pytest.mark.parametrize("bare", [False, True])
def test_annotations_of_pyskl_need_no_labels(tmp_path, bare):
    joints = body("coco17", 6, persons=3, channels="xyc")
    joints[1, ..., 2] = 0.1  # hardly seen: the one who is left out
    record = {"frame_dir": "a", "keypoint": joints[..., :2], "keypoint_score": joints[..., 2]}
    nameless = {"keypoint": joints[:1, ..., :2], "keypoint_score": joints[:1, ..., 2]}
    records = [record, nameless]
    file = tmp_path / "clips.pkl"
    file.write_bytes(pickle.dumps(records if bare else {"annotations": records}))
    (first, a), (second, b) = read(file, wanted("coco17", "xyc"))
    assert (first, second) == (f"{file}[a]", f"{file}[1]")
    np.testing.assert_allclose(a, joints[[0, 2]], rtol=1e-6)
    np.testing.assert_allclose(b, joints[:1], rtol=1e-6)


def unsure():
    """Poses of four persons with confidences that a detector could give: who moves most is hardly
    seen, and joints that were not seen have a place.
    """
    joints = body("coco17", 6, persons=4, channels="xyc")
    joints[1, ..., :2] *= 3
    joints[1, ..., 2] = 0.1
    joints[0, :, 3, 2] = 0.0
    joints[3] = 0.0
    return joints


@pytest.mark.parametrize("persons", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"drop_confidence": True}, {"box_threshold": 0.7}, {"box_threshold": 0.0}]
)
def test_annotations_of_pyskl_are_what_their_import_stores(tmp_path, persons, options):
    joints = unsure()
    keypoint, score = joints[..., :2], joints[..., 2]
    records = [
        {"frame_dir": name, "label": label, "keypoint": keypoint, "keypoint_score": score}
        for label, name in enumerate("ab")
    ]
    if "box_threshold" in options:
        records = [boxed("a", 0, boxes=20), boxed("b", 1, boxes=25)]
    file = dump(
        tmp_path / "x.pkl", {"split": {"train": ["a"], "val": ["b"]}, "annotations": records}
    )
    imported = read_pyskl(file, PysklOptions(max_persons=persons, **options))
    new = read(file, Wanted.of(imported.description))
    for clip, (_, joints) in zip(imported.clips, new, strict=True):
        np.testing.assert_array_equal(joints, without_absent(clip.joints))


def test_a_compressed_clip_without_a_box_that_counts_is_refused(tmp_path):
    file = dump(tmp_path / "x.pkl", [boxed("a", box_score=np.full(12, 0.2, np.float32))])
    with pytest.raises(UserError, match=r"clip 'a': must have a box of score 0.5 or more, got non"):
        read(file, wanted("coco17", "xyc"))


def lines(joints, **more):
    """Frames as lines of JSON, of persons (M, T, V, 3)."""
    return "\n".join(
        json.dumps({"persons": [{"joints": person[t].tolist()} for person in joints], **more})
        for t in range(joints.shape[1])
    )


def test_lines_of_frames_are_one_clip_of_those_who_move_most(tmp_path):
    joints = body("ucla20", 5, persons=2)
    joints[1] = joints[1, :1] + 8.0  # stands still, elsewhere
    (tmp_path / "clip.jsonl").write_text(lines(joints) + "\n\n")
    ((_, both),) = read(tmp_path / "clip.jsonl", wanted("ucla20"))
    np.testing.assert_allclose(both, joints, rtol=1e-6)
    ((_, one),) = read(tmp_path / "clip.jsonl", wanted("ucla20", persons=1))
    np.testing.assert_allclose(one, joints[:1], rtol=1e-6)


def test_lines_begin_and_end_with_those_who_are_chosen(tmp_path):
    joints = np.zeros((2, 9, 20, 3), np.float32)
    joints[0, 3:7] = body("ucla20", 4)[0]
    joints[0, 5] = 0.0  # within the clip it stays
    joints[1, 1] = joints[0, 3] + 8.0  # of a single frame
    (tmp_path / "clip.jsonl").write_text(lines(joints))
    ((_, both),) = read(tmp_path / "clip.jsonl", wanted("ucla20"))
    np.testing.assert_array_equal(both[::-1], joints[:, 1:7])
    joints[1] = 0.0
    (tmp_path / "clip.jsonl").write_text(lines(joints))
    ((_, one),) = read(tmp_path / "clip.jsonl", wanted("ucla20"))
    np.testing.assert_array_equal(one, joints[:1, 3:7])
    (tmp_path / "clip.jsonl").write_text(lines(joints[:, :4]))
    with pytest.raises(UserError, match=r"must show somebody in at least 2 frames, got 1 of 4"):
        read(tmp_path / "clip.jsonl", wanted("ucla20"))


def test_a_single_actor_is_there_twice_in_every_format(tmp_path):
    alone = body("ntu25", 12)
    (tmp_path / "a.skeleton").write_text(skeleton_text(alone[0]))
    (tmp_path / "a.jsonl").write_text(lines(alone))
    np.save(tmp_path / "a.npy", alone)
    np.savez(tmp_path / "a.npz", a=alone, b=np.concatenate([alone, 0 * alone]))
    dump(tmp_path / "a.pkl", [{"keypoint": alone}])
    given = wanted("ntu25", single_actor="duplicate")
    for file in sorted(tmp_path.iterdir()):
        for _, joints in read(file, given):
            assert len(joints) == 2
            np.testing.assert_array_equal(joints[0], joints[1])
    np.save(tmp_path / "a.npy", body("ntu25", persons=2))
    ((_, two),) = read(tmp_path / "a.npy", given)
    np.testing.assert_array_equal(two, body("ntu25", persons=2))


def test_clips_of_the_data_sets_that_are_imported(tmp_path):
    ucla = body("ucla20")
    (tmp_path / "a.json").write_text(json.dumps({"skeletons": ucla[0].tolist(), "label": 3}))
    ((_, joints),) = read(tmp_path / "a.json", wanted("ucla20"))
    np.testing.assert_allclose(joints, ucla, rtol=1e-6)
    msr = body("msr20")
    rows = [" ".join(map(str, [*joint, 1])) for joint in msr.reshape(-1, 3).tolist()]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    ((_, joints),) = read(tmp_path / "a.txt", wanted("msr20"))
    np.testing.assert_allclose(joints, msr, rtol=1e-6)
    frames = [
        {
            "frame_index": t,
            "skeleton": [{"pose": [0.5 + t / 10] * 18 + [0.2] * 18, "score": [1.0] * 18}],
        }
        for t in (1, 2)
    ]
    for frame in frames:
        frame["skeleton"][0]["pose"][0] = 0.1
    (tmp_path / "k.json").write_text(json.dumps({"data": frames}))
    ((_, joints),) = read(tmp_path / "k.json", wanted("openpose18", "xyc"))
    assert joints.shape == (1, 300, 18, 3)
    assert joints[0, 0, 0, 0] == np.float32(0.1 * 340)


def test_numbers_in_another_unit_are_refused_until_it_is_said(tmp_path):
    file = tmp_path / "mm.npy"
    np.save(file, 1000 * body("ucla20"))
    with pytest.raises(UserError, match=r"mm.npy: a typical body must measure .* in mm\), got"):
        read(file, wanted("ucla20"))
    ((_, joints),) = read(file, wanted("ucla20", unit="mm"))
    np.testing.assert_allclose(joints, body("ucla20"), rtol=1e-5)
    with pytest.raises(
        UserError, match=r"^--unit: must be m, cm or mm for positions in space, got"
    ):
        wanted("ucla20", unit="px")


def saved(array):
    return lambda file: np.save(file, array)


def text(content):
    return lambda file: file.write_text(content)


ONE_FRAME = body("ucla20", 1)
BROKEN = body("ucla20")
BROKEN[0, 2, 3] = np.nan
ELSEWHERE = {"skeletons": body("ucla20")[0].tolist()}


class Hostile:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("clip.mp4", text(""), r"clip.mp4: must end in one of .skeleton, .npy, .*, got '.mp4'"),
        ("a.npy", saved(ONE_FRAME), "a.npy: a clip must have at least 2 frames to show .*, got 1"),
        ("a.npy", saved(body("ntu25")), r"a.npy: shape must be \(frames, 20, 2 or 3\) or .* 25, 3"),
        ("a.npy", saved(BROKEN), "a.npy: every coordinate must be finite, got 3 that are NaN"),
        ("a.npy", saved(0 * BROKEN[:, :1].repeat(3, 1)), "a.npy: a clip must show somebody, but"),
        ("a.npy", saved(body("ucla20", persons=3)), "a.npy: must have at most 2 persons, got 3"),
        ("a.npy", saved(np.array([None])), "must be an array of numbers or text, got Python obj"),
        (
            "a.npy",
            saved(np.zeros((2, 3, 4, 25, 1))),
            r"must be numbers \(clips, 2 or 3, frames, 20",
        ),
        ("a.npy", text("x"), "a.npy: must be a NumPy array"),
        ("a.npy", lambda file: None, "a.npy: must be a NumPy array .*it is not there"),
        ("a.npz", text("x"), "a.npz: must be an .npz archive"),
        ("a.skeleton", text("12\n"), "a.skeleton: holds layout 'ntu25' .* takes layout 'ucla20'"),
        ("a.pkl", lambda f: f.write_bytes(pickle.dumps([Hostile()])), "it asks for builtins.print"),
        ("a.pkl", lambda f: f.write_bytes(pickle.dumps(["x"])), r"must be a record with keypoint"),
        ("a.pkl", lambda f: f.write_bytes(pickle.dumps([])), "must hold a list of annotations"),
        ("a.pkl", lambda f: f.write_bytes(pickle.dumps({})), "must have keypoint, or raw_file"),
        (
            "a.pkl",
            lambda f: f.write_bytes(pickle.dumps([{"keypoint": body("ntu25")}])),
            "must have 20 joints of layout 'ucla20' and channels xyz, got 25 and xyz",
        ),
        ("a.jsonl", text('{"persons": []}\n' * 3), "must show somebody, but nobody is in any"),
        ("a.jsonl", text('{"persons": []}\n{'), "a.jsonl:2: must be a frame as JSON"),
        ("a.jsonl", text(""), "must show somebody, but nobody is in any frame"),
        ("a.json", text('{"frames": []}'), "must be a record with skeletons .* got 'frames'; fr"),
        ("a.json", text("[" * 100_000), "a.json: must be the JSON of a clip, .* nested too deeply"),
        ("a.json", text('{"data": []}'), "holds layout 'openpose18' .* the model takes"),
        ("a.txt", text("1 2 3 4"), "a.txt: holds layout 'msr20' .* the model takes layout 'ucla"),
    ],
)
def test_what_is_no_clip_is_one_clear_error(tmp_path, name, write, message):
    file = tmp_path / name
    write(file)
    with pytest.raises(UserError, match=message) as caught:
        read(file, wanted("ucla20"))
    assert len(caught.value.problems) == 1
    assert re.match(re.escape(str(file)), str(caught.value))


def test_one_damaged_clip_leaves_the_others_of_its_file(tmp_path):
    good = body("ucla20")[0]
    np.savez(tmp_path / "a.npz", a=good, b=good[:1], c=good)
    results = []
    for _, one in clips_of(tmp_path / "a.npz", wanted("ucla20")):
        try:
            results.append(one().shape)
        except UserError as error:
            results.append(str(error))
    assert results[0] == results[2] == (1, 5, 20, 3)
    assert results[1].startswith(f"{tmp_path}/a.npz[b]: a clip must have at least 2 frames")


def test_a_damaged_skeleton_file_names_its_line(tmp_path):
    file = tmp_path / "a.skeleton"
    content = skeleton_text(body("ntu25", 12)[0])
    file.write_text(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a.skeleton: line \d+: "):
        read(file, wanted("ntu25"))


def test_every_ending_is_read_by_something():
    assert set(READERS) == {
        *(".skeleton", ".npy", ".npz", ".pkl", ".pickle", ".jsonl", ".ndjson", ".json", ".txt")
    }
