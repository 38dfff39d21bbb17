"""Raw clips are scored as the same clips in a store of any kind; what is no recording is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.contract.config import DataConfig, ModelConfig
from trainables.contract.errors import UserError
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.readers.detected import hide_unseen
from trainables.data.store.reading import Clip, Description, ProtocolRule, Store, write_store
from trainables.deploy.form import deploy
from trainables.deploy.predict import score_clips, score_store
from trainables.layouts import LAYOUTS
from trainables.models.backbone import NetworkSpec
from trainables.models.build import build_training_form

FRAMES = 8
SPLIT = ProtocolRule(column="split", train=("train",), test=("test",))
OWN = {"split": SPLIT}
CAMERA = {"xview": ProtocolRule(column="camera", train=(1, 2), test=(3,))}
XSET = {"xset": ProtocolRule(column="setup", train=(2,), test=(1,))}
# kind of store -> layout, channels, pipeline, protocols, storage
KINDS = {
    "arrays": ("coco17", "xyz", "ctr", OWN, "float32"),
    "arrays xy": ("coco17", "xy", "pyskl", OWN, "float32"),
    "arrays xyc": ("coco17", "xyc", "pyskl", OWN, "float32"),
    "pyskl": ("ntu25", "xyz", "pyskl", {"xsub": SPLIT}, "float32"),
    "pyskl of a detector": ("coco17", "xyc", "pyskl", {"xsub": SPLIT}, "float32"),
    "kinetics-skeleton": ("openpose18", "xyc", "pyskl", OWN, "float32"),
    "ntu-npz": ("ntu25", "xyz", "ctr", {"xsub": SPLIT}, "float32"),
    "ntu-120": ("ntu25", "xyz", "ctr", XSET, "float32"),
    "nw-ucla": ("ucla20", "xyz", "ucla", CAMERA, "float32"),
    "int16": ("ntu25", "xyz", "ctr", OWN, "int16"),
}
# frames and persons of the clips
SHAPES = [(1, 1), (1, 2), (12, 1), (5, 2), (30, 2)]


def made(path, kind):
    """A store of that kind."""
    layout, channels, pipeline, protocols, storage = KINDS[kind]
    generator = np.random.default_rng(0)
    clips = []
    for number, (frames, persons) in enumerate(SHAPES):
        joints = generator.normal(size=(persons, frames, LAYOUTS[layout].size, 3))
        if channels != "xyz":
            joints = 100.0 + 50.0 * joints
            joints[..., 2] = generator.uniform(size=joints.shape[:-1]) if channels == "xyc" else 0.0
        joints = joints.astype(np.float32)
        clips.append(
            Clip(
                f"clip {number}",
                number % 2,
                hide_unseen(joints) if channels == "xyc" else joints,
                subject=1,
                camera=1 + 2 * (number % 2),
                extra={"split": "train" if number % 2 else "test", "setup": 1 + number % 2},
            )
        )
    description = Description(
        name=kind,
        layout=layout,
        channels=channels,
        classes=("sit", "stand", "wave"),
        persons=2,
        pipeline=pipeline,
        protocols=protocols,
    )
    write_store(path, clips, description, storage=storage)
    return Store.open(path)


def network_of(store):
    """An untrained network whose normalisation has statistics."""
    torch.manual_seed(0)
    model = ModelConfig(
        backbone="hpi_gcn_op", channels=8, stages=(1,), groups=4, input_block="conv"
    )
    network = build_training_form(
        NetworkSpec(model=model, parents=store.layout.parents, classes=3, persons=2)
    )
    network(torch.randn(4, 3, FRAMES, store.layout.size, 2))
    return deploy(network.eval(), frames=FRAMES)


def seen(store, stream):
    return DataConfig(
        store=str(store.path),
        protocol=next(iter(store.info.protocols)),
        stream=stream,
        frames=FRAMES,
    )


@pytest.mark.parametrize("stream", ["joint", "bone_motion"])
@pytest.mark.parametrize("kind", KINDS)
def test_raw_clips_are_scored_as_those_of_the_store(tmp_path, kind, stream):
    store = made(tmp_path / "store", kind)
    network, data = network_of(store), seen(store, stream)
    every = np.arange(len(SHAPES))
    expected = score_store(network, store, every, data, torch.device("cpu")).logits
    clips = [store.clip(number) for number in every]
    (whole,) = score_clips([(network, data)], clips, store.info)
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)
    # as people hold them: one person without its axis, lists, two coordinates where that is all
    size = 2 if store.info.channels == "xy" else 3
    held = [clip[..., :size] if len(clip) > 1 else clip[0, ..., :size].tolist() for clip in clips]
    np.testing.assert_allclose(
        score_clips([(network, data)], held, store.info)[0], whole, rtol=1e-5, atol=1e-6
    )


def test_persons_that_are_not_there_may_be_given_as_zeros(tmp_path):
    store = made(tmp_path / "store", "arrays")
    network, data = network_of(store), seen(store, "joint")
    clip = store.clip(2)
    padded = np.concatenate([clip, np.zeros((4, *clip.shape[1:]), np.float32)])
    one, many = score_clips([(network, data)], [clip, padded], store.info)[0]
    np.testing.assert_array_equal(one, many)


def test_a_single_actor_is_taken_twice_where_all_that_trained_were(tmp_path):
    store = made(tmp_path / "store", "ntu-120")
    networks = [(network_of(store), seen(store, "joint"))]
    clip = store.clip(2)
    (once,) = score_clips(networks, [clip], store.info)
    twice = np.concatenate([clip, clip])
    doubled = store.info.model_copy(update={"provenance": {"single_actor": "duplicate"}})
    one, two = score_clips(networks, [clip, twice], doubled)[0]
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, once)


BAD = np.zeros((4, 17, 3), np.float32)
BAD[0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("kind", "clips", "message"),
    [
        ("arrays", [], "clips: must be at least one, got none"),
        ("arrays", None, "^clips: must be arrays, one per clip, got NoneType$"),
        ("arrays", 5, "^clips: must be arrays, one per clip, got int$"),
        ("arrays", "clip.npy", "^clips: must be arrays, one per clip, got str$"),
        ("arrays", {"a": BAD}, "^clips: must be arrays, one per clip, got dict$"),
        ("arrays", np.float32(1), "^clips: must be arrays, one per clip, got float32$"),
        ("arrays", np.array(1.0), "^clips: must be arrays, one per clip, got ndarray$"),
        ("arrays", [None], "^clip 0: joints must be numbers"),
        ("arrays", [BAD], "clip 0: every coordinate must be finite, got 1 that are NaN"),
        ("arrays", [np.ones((4, 25, 3))], r"clip 0: shape must be \(frames, 17, 2 or 3\)"),
        ("arrays xy", [np.ones((4, 17, 3))], r"clip 0: shape must be \(frames, 17, 2\)"),
        ("arrays xyc", [np.ones((4, 17, 2))], r"clip 0: shape must be \(frames, 17, 3\)"),
        ("arrays", np.ones((4, 17, 3)), r"clip 0: shape must be .* got \(17, 3\)"),
        ("arrays", [np.ones((0, 17, 3))], "clip 0: a clip must have at least one frame"),
        ("arrays", [[[[1.0], [2.0, 3.0]]]], "clip 0: must be an array .* different lengths"),
        ("arrays", [[["a"]]], "clip 0: joints must be numbers"),
        ("arrays", [np.ones((3, 4, 17, 3))], "clip 0: must have at most 2 persons, got 3"),
    ],
)
def test_what_is_no_recording_is_named_by_its_place_in_the_list(tmp_path, kind, clips, message):
    store = made(tmp_path / "store", kind)
    with pytest.raises(UserError, match=message) as caught:
        score_clips([(network_of(store), seen(store, "joint"))], clips, store.info)
    assert "/tmp" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    store = made(tmp_path / "store", "arrays")
    clips = [BAD, np.ones((4, 17, 3)), np.ones((3, 4, 17, 3))]
    with pytest.raises(UserError) as caught:
        score_clips([(network_of(store), seen(store, "joint"))], clips, store.info)
    assert [text[:6] for text in caught.value.problems] == ["clip 0", "clip 2"]


def test_the_pipeline_that_was_asked_for_is_kept(tmp_path):
    """`data.pipeline` of a trial decides, not the store's."""
    store = made(tmp_path / "store", "arrays")
    data = seen(store, "joint").model_copy(update={"pipeline": "pyskl", "views": 1})
    network = network_of(store)
    (ours,) = score_clips([(network, data)], [store.clip(2)], store.info)
    batch = next(Batches(store, np.array([2]), data, Dealing(1)).epoch(0))
    np.testing.assert_allclose(ours, network(batch.x).numpy(), rtol=1e-4, atol=1e-5)
