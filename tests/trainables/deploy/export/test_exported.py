"""What an opened file takes, and what is no such file."""

import json

import numpy as np
import pytest

from trainables.contract.errors import LaterForm, UserError
from trainables.data.store.description import Description
from trainables.data.store.protocols import ProtocolRule
from trainables.deploy.export.about import About, ExportedMember
from trainables.deploy.export.exported import Exported, import_runtime, open_exported

COORDINATES = {"xyz": ("x", "y", "z"), "xy": ("x", "y"), "xyc": ("x", "y", "confidence")}


def about_of(channels="xyz", persons=2, **more):
    description = Description(
        name="made",
        layout="coco17",
        classes=("sit", "stand", "wave"),
        channels=channels,
        persons=persons,
        pipeline="ctr" if channels == "xyz" else "pyskl",
        protocols={"split": ProtocolRule(column="split", train=("train",), test=("test",))},
    )
    member = ExportedMember(
        trial="one",
        backbone="hpi_gcn_op",
        stream="joint",
        frames=16,
        pipeline=description.pipeline,
        views=1,
        deploy_sha256="0" * 64,
    )
    content = {
        "name": "one",
        "kind": "trial",
        "precision": "fp32",
        "description": description,
        "joints": tuple(map(str, range(17))),
        "coordinates": COORDINATES[channels],
        "persons": persons,
        "members": (member,),
        "recipe": {"trial": "one"},
    }
    return About.model_validate(content | more)


def opened(channels="xyz", persons=2):
    """A file whose logits are sums over what the network was given, and the shapes it was given."""
    given = []

    def run(clips):
        given.append(clips)
        return np.repeat(clips.sum(axis=(2, 3)).sum(axis=1)[:, :1], 3, axis=1)

    return Exported("one.onnx", about_of(channels, persons), run), given


def clips_of(clips=2, coordinates=3, frames=5, joints=17, persons=2):
    return np.ones((clips, coordinates, frames, joints, persons), np.float32)


@pytest.mark.parametrize(
    ("channels", "clips", "message"),
    [
        ("xyz", None, r"clips: must be numbers \(clips, 3, frames, 17, persons\), got object"),
        ("xyz", np.ones((3, 5, 17, 2)), r"clips: must be \(clips, 3, .* got \(3, 5, 17, 2\)"),
        ("xyz", clips_of(joints=25), r"clips: must be .* got \(2, 3, 5, 25, 2\)"),
        ("xyz", clips_of(coordinates=4), "clips: must be "),
        ("xyc", clips_of(coordinates=2), "clips: must be "),
        ("xyz", clips_of(clips=0), "clips: must have at least one clip"),
        ("xyz", clips_of(frames=0), "clips: must have at least one frame"),
        ("xyz", clips_of(persons=0), "clips: must have at least one person"),
        ("xyz", clips_of(persons=3), "clips: must have at most 2 persons, got 3"),
        ("xy", clips_of(), r"clips: must have 2 coordinates \(x, y\), got 3"),
        ("xyz", clips_of() * np.float64(1e39), "clip 0: every coordinate must be finite, got 510"),
        ("xyz", clips_of().astype(str), "clips: must be numbers"),
    ],
)
def test_what_are_no_clips_is_said(channels, clips, message):
    with pytest.raises(UserError, match=message):
        opened(channels)[0].logits(clips)


def test_the_clip_that_is_not_finite_is_named():
    clips = clips_of(clips=4)
    clips[2, 0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"clip 2: .* got 1 .* 1 of 4 clips"):
        opened()[0].logits(clips)


@pytest.mark.parametrize(
    ("channels", "shape"),
    [("xyz", {"coordinates": 2}), ("xyz", {"persons": 1}), ("xy", {"coordinates": 2})],
)
def test_what_is_missing_is_zero(channels, shape):
    file, given = opened(channels)
    file.logits(clips_of(**shape))
    assert given[0].shape == (2, len(COORDINATES[channels]), 5, 17, 2)
    assert given[0].sum() == clips_of(**shape).sum()


def test_persons_and_coordinates_that_are_not_there_may_be_given_as_zeros():
    file, given = opened()
    clips = np.pad(clips_of(), [(0, 0)] * 4 + [(0, 3)])
    file.logits(clips)
    np.testing.assert_array_equal(given[0], clips_of())
    file, given = opened("xy")
    clips = clips_of()
    clips[:, 2] = 0
    file.logits(clips)
    np.testing.assert_array_equal(given[0], clips_of(coordinates=2))


def test_many_clips_are_run_in_batches():
    file, given = opened()
    clips = np.arange(130, dtype=np.float32)[:, None, None, None, None] * clips_of(clips=1)
    logits = file.logits(clips)
    assert [len(each) for each in given] == [64, 64, 2]
    np.testing.assert_array_equal(logits[:, 0], np.arange(130) * 5 * 17 * 3)
    np.testing.assert_allclose(file.probabilities(clips).sum(axis=1), 1.0)


@pytest.mark.parametrize("name", ["one.pt2", "one.onnx", "one.xml"])
def test_what_is_no_exported_file_is_said(tmp_path, name):
    with pytest.raises(UserError, match="no such file"):
        open_exported(tmp_path / name)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(UserError, match=f"{name}: must be a readable exported file"):
        open_exported(tmp_path / name)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"must end in .pt2, .onnx, .xml, got '.pt'"):
        open_exported(tmp_path / "deploy.pt")


def test_a_missing_runtime_is_named_with_what_installs_it():
    with pytest.raises(UserError, match=r"pip install 'orchestrate\[export\]'"):
        import_runtime("no_such_runtime", "opening one.onnx")


def test_what_a_file_says_of_itself_is_read_again(tmp_path):
    about = about_of()
    assert About.read(tmp_path, about.model_dump_json()) == about
    assert about.classes == ("sit", "stand", "wave")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, UserError, "must be a file that `orchestrate export` wrote"),
        ("[]", UserError, "is damaged"),
        ("{", UserError, "is damaged"),
        ('{"form": 1}', UserError, "is damaged: .*name"),
        (json.dumps({"form": 99, "new": 1}), LaterForm, "form up to 1, got 99"),
    ],
)
def test_what_says_nothing_of_itself_is_refused(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        About.read(tmp_path / "one.onnx", text)
