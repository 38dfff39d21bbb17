"""Stores of int16: what rounding may do and what it must leave alone, and batches that read it as
they read float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import naive_data
from tests.naive_stores import bytes_of
from tests.trainables.data.batches.drawing import drawn
from trainables.contract.config import STREAMS, DataConfig
from trainables.contract.errors import UserError
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.batches.transforms import gather, in_float32
from trainables.data.store.description import (
    CONFIDENCE_STEP,
    STEP,
    Channels,
    Clip,
    Description,
    LayoutRecord,
)
from trainables.data.store.protocols import ProtocolRule
from trainables.data.store.reading import Store, write_store
from trainables.data.store.writing import quantised
from trainables.seeding import derive

FRAMES = 6
SEED = 4
LAYOUT = LayoutRecord(
    name="five", joints=("hip", "chest", "head", "left", "right"), parents=(1, 1, 1, 1, 3), origin=1
)


def description(channels: Channels = "xyz", persons: int = 1) -> Description:
    rule = ProtocolRule(column="label", train=(0, 1), test=(2,))
    return Description(
        name="tiny",
        layout=LAYOUT,
        classes=("a", "b", "c"),
        channels=channels,
        persons=persons,
        pipeline="ctr",
        protocols={"half": rule},
    )


def walk(number: int, persons: int = 1, length: int = 9, reach: float = 2.0) -> np.ndarray:
    """Joints (M, T, V, 3), metres: a random walk before a
    camera, its largest coordinate `reach`.
    """
    rng = np.random.default_rng(number)
    joints = (
        rng.normal(size=(persons, 1, 5, 3))
        + np.cumsum(rng.normal(size=(persons, length, 5, 3)) * 0.05, axis=1)
        + [0, 0, 3]
    )
    return (joints * reach / np.abs(joints).max()).astype(np.float32)


def written(out: Path, clips: Sequence[Clip], **kwargs: object) -> Store:
    write_store(out, clips, description(**kwargs), storage="int16")  # type: ignore[arg-type]
    return Store.open(out)


@pytest.mark.parametrize(
    ("channels", "reach", "step"),
    [
        ("xyz", 2.0, 1e-4),
        ("xyz", 3.2766, 1e-4),
        ("xyz", 3.2769, 2e-4),
        ("xyz", 6.5, 2e-4),
        ("xyz", 6.56, 4e-4),
        ("xyz", 1e4, 1e-4 * 2**12),
        ("xy", 640.0, 0.05),
        ("xy", 1920.0, 0.1),
        ("xyc", 640.0, 0.05),
        ("xyc", 1920.0, 0.1),
    ],
)
def test_rounding_is_at_most_half_a_step(channels: Channels, reach: float, step: float) -> None:
    joints = walk(1, reach=reach).astype(np.float64)
    if channels == "xyc":
        joints[..., 2] = np.random.default_rng(2).uniform(0, 1, size=joints.shape[:3])
        joints[0, 0, 0, 0] = reach
    stored, got = quantised(joints.astype(np.float32), channels)
    assert stored.dtype == np.int16
    assert got == step
    units = np.array([step, step, CONFIDENCE_STEP if channels == "xyc" else step])
    error = np.abs(stored * units - joints.astype(np.float32))
    assert (error <= units / 2 * (1 + 1e-9)).all()  # float64 rounds the product itself by 1e-16
    # of some hundred values one is far from a whole step
    assert (error.max(axis=(0, 1, 2)) > units / 8).all()


def test_zero_stays_zero() -> None:
    joints = walk(3, persons=2)
    joints[1, 2:4] = 0
    joints[0, 1, 2, 1] = -0.0
    stored, _ = quantised(joints, "xyz")
    assert not stored[1, 2:4].any()
    assert np.array_equal(stored == 0, joints == 0)


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(tmp_path: Path, worst: float) -> None:
    joints = walk(4)
    joints[0, 3, 1, 2] = worst
    with pytest.raises(
        UserError,
        match="clip 'bad': coordinates must be finite to be stored as int16, got 1 that are not",
    ):
        written(tmp_path / "s", [Clip("bad", 0, joints)])
    assert not list(tmp_path.iterdir())


def test_confidences_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    joints = walk(4, reach=300.0)
    joints[..., 2] = 3.2766
    written(tmp_path / "fits", [Clip("good", 0, joints)], channels="xyc")
    joints[0, 1, 2, 2] = 4.0
    with pytest.raises(
        UserError,
        match=r"clip 'bad': confidences must be at most 3\.2767 to be stored as int16, got 4",
    ):
        written(tmp_path / "s", [Clip("bad", 0, joints)], channels="xyc")


def test_a_store_gives_back_metres_pixels_and_confidences(tmp_path: Path) -> None:
    joints = walk(5, reach=1920.0)
    joints[0, 0, 0, 0] = 1920
    joints[..., 2] = np.linspace(0, 1, joints[..., 2].size).reshape(joints.shape[:3])
    far = written(
        tmp_path / "image",
        [Clip("far", 0, joints), Clip("near", 1, joints / [4, 4, 1])],
        channels="xyc",
    )
    assert far.joints.dtype == np.int16
    assert far.column("step").tolist() == [0.1, 0.05]
    assert far.units.tolist() == [[0.1, 0.1, CONFIDENCE_STEP], [0.05, 0.05, CONFIDENCE_STEP]]
    assert (np.abs(far.clip(0) - joints) <= np.array([0.051, 0.051, 0.51e-4])).all()
    assert (np.abs(far.clip(1) - joints / [4, 4, 1]) <= np.array([0.026, 0.026, 0.51e-4])).all()
    metres = written(
        tmp_path / "metres",
        [Clip("far", 0, walk(6, reach=6.0)), Clip("near", 1, walk(6, reach=1.0))],
    )
    assert metres.column("step").tolist() == [2 * STEP["xyz"], STEP["xyz"]]
    assert metres.clip(1).dtype == np.float32
    np.testing.assert_allclose(metres.clip(1), walk(6, reach=1.0), rtol=0, atol=0.51e-4)


def test_hash_tells_steps_apart(tmp_path: Path) -> None:
    joints = walk(7, reach=2.0)
    joints = (np.rint(joints / 2e-4) * 2e-4).astype(np.float32)
    clips = [Clip("near", 0, joints), Clip("far", 1, 2 * joints), Clip("again", 0, joints)]
    made = written(tmp_path / "s", clips)
    again, far, near = (made.stored(position) for position in range(3))
    assert np.array_equal(near, far)
    hashes = dict(zip(made.column("id"), made.column("hash"), strict=True))
    assert hashes["near"] == hashes["again"] != hashes["far"]
    assert np.array_equal(again, near)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    clips = [Clip("b", 1, walk(8, persons=2)), Clip("a", 0, walk(9))]
    for name in ("one", "two"):
        written(tmp_path / name, clips, persons=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Clips of one and two persons, short and long, near and far, with empty frames."""
    lengths = (1, 3, 20, 70, 90, 2, 33, 66, 5)
    clips = []
    for number, length in enumerate(lengths):
        joints = walk(number, persons=1 + number % 2, length=length, reach=2.0 + number)
        if number % 3 == 0:
            joints[0, : length // 4] = 0
            joints[-1, length // 2 : length // 2 + 2] = 0
        clips.append(Clip(f"clip{number}", number % 3, joints))
    return written(tmp_path_factory.mktemp("stores") / "tiny", clips, persons=2)


def dequantised(store: Store, index: int) -> np.ndarray:
    """The joints of one clip, in float64."""
    return store.stored(index).astype(np.float64) * store.units[index]


@pytest.mark.parametrize("stream", ["joint", "bone_motion", "infogcn_hop1"])
@pytest.mark.parametrize("pipeline", ["ctr", "ucla"])
def test_batches_match_naive_on_the_dequantised_joints(
    store: Store, pipeline: str, stream: str
) -> None:
    data = DataConfig(
        store="tiny", protocol="half", frames=FRAMES, stream=stream, pipeline=pipeline
    )
    everything = np.arange(store.info.clips)
    batches = Batches(store, everything, data, Dealing(9, training=True, seed=SEED, labelled=True))
    (batch,) = batches.epoch(0)
    index = batch.index.numpy()
    lengths = store.column("length")[index]
    rng = np.random.default_rng(derive(SEED, "augment", 0, 0))
    for got, i, draws in zip(
        batch.x.numpy(), index, drawn(pipeline, lengths, FRAMES, rng), strict=True
    ):
        joints = dequantised(store, i)
        moved = (
            naive_data.ucla(joints, store.layout, draws)
            if pipeline == "ucla"
            else naive_data.ntu(joints, store.layout, draws, FRAMES)
        )
        expected = naive_data.to_stream(moved, store.layout, STREAMS[stream])
        # float32: coordinates of some 10 m carry 1e-6 (in units of the box 2e-7), and a stream adds
        # a few of those
        np.testing.assert_allclose(got[..., : expected.shape[3]], expected, atol=1e-5, rtol=0)
        assert not got[..., expected.shape[3] :].any()


# of a track's frames: close together, and farther apart than it is worth to read them all
@pytest.mark.parametrize("spread", [3, 400])
@pytest.mark.parametrize("taps", [1, 2])
def test_gather_of_int16_matches_naive(spread: int, taps: int) -> None:
    rng = np.random.default_rng(11)
    rows = rng.integers(-32768, 32767, size=(1000, 15), endpoint=True).astype(np.int16)
    # in no order
    index = rng.integers(0, spread, size=(4, 7, taps)) + np.array([0, 100, 599, 20])[:, None, None]
    weight = rng.uniform(size=index.shape)
    expected = (rows.astype(np.float64)[index] * weight[..., None]).sum(axis=2)
    got = gather(
        torch.from_numpy(rows), torch.from_numpy(index), torch.from_numpy(weight.astype(np.float32))
    )
    # a rounding of float32 per product
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=32768 * taps * 2**-23)
    converted, where = in_float32(torch.from_numpy(rows), torch.from_numpy(index))
    assert np.array_equal(converted.numpy()[where.numpy()], rows[index])
    assert len(converted) <= index.size
