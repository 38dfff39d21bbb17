"""InfoGCN's alignment of persons by their first frame, against its formula, person by person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import naive_data
from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.batches.transforms import body_axes
from trainables.data.store.reading import Clip, Store, write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout

CPU = torch.device("cpu")
NTU = load_layout("ntu25")
FRAMES = 7


def aligned(joints: np.ndarray) -> np.ndarray:
    """(M, T, 25, 3): x' = [v2 v3 v1]^-1 x with the axes of frame 0; persons without them are 0."""
    found = np.zeros_like(joints)
    for person, track in enumerate(joints):
        v1 = track[0, 1] - track[0, 0]
        if np.linalg.norm(v1) == 0:
            continue
        v1 = v1 / np.linalg.norm(v1)
        v2 = track[0, 12] - track[0, 16]
        v2 = v2 - np.dot(v1, v2) * v1
        v2 = v2 / np.linalg.norm(v2)
        v3 = np.cross(v2, v1) / np.linalg.norm(np.cross(v2, v1))
        inverse = np.linalg.inv(np.stack([v2, v3, v1], axis=1))
        for t, frame in enumerate(track):
            for joint, place in enumerate(frame):
                found[person, t, joint] = inverse @ place
    return found


def store_of(folder: Path, dtype: str = "float32") -> Store:
    """Two persons; in the third clip the second one comes late, in the fourth nobody is second."""
    config = SyntheticConfig(
        classes=2, clips_per_class=2, subjects=2, views=1, frames=20, persons=2, seed=3
    )
    recordings = synthetic_recordings(config, NTU)
    rng = np.random.default_rng(1)
    clips = []
    for number in range(4):
        joints = rng.normal(size=(1 if number == 3 else 2, 20, 25, 3)).astype(np.float32)
        joints[:, :, :, 2] += 3
        if number == 2:
            joints[1, :5] = 0
        clips.append(Clip(f"c{number}", number % 2, joints, subject=1 + number % 2))
    write_store(folder, clips, recordings.description)
    return Store.open(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return store_of(tmp_path_factory.mktemp("aligned") / "s")


def first_batch(store: Store, *, training: bool = False, **data) -> torch.Tensor:
    config = DataConfig(
        store=str(store.path), protocol="xsub", pipeline="ctr", frames=FRAMES, **data
    )
    batches = Batches(store, np.arange(4), config, Dealing(4, training=training, seed=5))
    (batch,) = batches.epoch(0)
    return batch.x[np.argsort(batch.index.numpy())]


def test_persons_are_aligned_as_in_the_released_code(store) -> None:
    found = first_batch(store, align_persons=True).numpy()
    for number in range(4):
        joints = np.asarray(store.clip(number), np.float64)
        centred = aligned(naive_data.centre_ntu(joints, NTU.origin))
        first, kept = naive_data.crop_evaluation(20)
        expected = naive_data.resize(centred, first, kept, FRAMES).transpose(3, 1, 2, 0)
        padded = np.zeros((3, FRAMES, 25, 2))
        padded[..., : expected.shape[3]] = expected
        np.testing.assert_allclose(found[number], padded, atol=2e-5)


def test_who_is_not_in_the_first_frame_is_left_out(store) -> None:
    assert not first_batch(store, align_persons=True)[2, ..., 1].any()
    assert first_batch(store)[2, ..., 1].any()


def test_training_turns_what_was_aligned(store) -> None:
    still = first_batch(store, training=True, align_persons=True, rotation=0.0)
    turned = first_batch(store, training=True, align_persons=True)
    assert not torch.allclose(still, turned)
    torch.testing.assert_close(still.norm(dim=1), turned.norm(dim=1), atol=1e-4, rtol=1e-4)


def test_a_turned_recording_looks_the_same() -> None:
    rng = np.random.default_rng(2)
    spine, hips = rng.normal(size=(2, 5, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    point = rng.normal(size=(5, 3, 1))
    before = body_axes(spine, hips) @ point
    after = body_axes(spine @ turn.T, hips @ turn.T) @ (turn @ point)
    np.testing.assert_allclose(before, after, atol=1e-12)


def test_bodies_without_axes() -> None:
    spine = np.array([[0.0, 0, 0], [0, 0, 2], [0, 0, 2]])
    hips = np.array([[1.0, 0, 0], [0, 0, 1], [3, 0, 1]])
    empty, parallel, whole = body_axes(spine, hips)
    assert not empty.any()
    assert np.array_equal(parallel, np.eye(3))
    np.testing.assert_allclose(whole, [[1, 0, 0], [0, -1, 0], [0, 0, 1]], atol=1e-15)


def test_a_layout_without_hips_is_refused(store) -> None:
    with pytest.raises(UserError, match=r"^data\.align_persons: has no effect under pipeline ucla"):
        Batches(
            store,
            np.arange(4),
            DataConfig(store=str(store.path), protocol="xsub", pipeline="ucla", align_persons=True),
            Dealing(4),
        )
