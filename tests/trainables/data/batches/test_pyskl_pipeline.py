"""PYSKL's pipelines against a clip-by-clip twin with the same draws: who is followed, what is kept,
seen, fitted and sampled.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import naive_data, naive_pyskl
from trainables.contract.config import STREAMS, DataConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.data.batches.batches import Batches, Dealing, trading_places
from trainables.data.batches.ragged import compact, load_ragged
from trainables.data.batches.transforms import aligning, sample_uniform, uniform_views
from trainables.data.store.reading import (
    Clip,
    Description,
    LayoutRecord,
    ProtocolRule,
    Store,
    write_store,
)
from trainables.seeding import derive

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "pyskl_views.json").read_text())
FRAMES, SEED, CPU = 6, 4, torch.device("cpu")
CHANNELS = ("xyz", "xyc", "xy")
EVERY_STREAM = {**STREAMS, "bone_hop2_motion": StreamConfig(bone=True, motion=True, hops=2)}
LAYOUT = LayoutRecord(
    name="five",
    joints=("hip", "chest", "head", "left", "right"),
    parents=(1, 1, 1, 1, 3),
    origin=1,
    bone_parents=(0, 0, 1, 1, 3),
    spine=(0, 1),
    shoulders=(3, 4),
)


def walk(rng: np.random.Generator, persons: int, length: int, channels: str) -> np.ndarray:
    """(M, T, 5, 3): in metres before a camera, or in pixels with confidences between 0.1 and 1."""
    joints = (
        rng.normal(size=(persons, 1, 5, 3))
        + np.cumsum(rng.normal(size=(persons, length, 5, 3)) * 0.05, axis=1)
        + [0, 0, 3]
    )
    if channels != "xyz":
        joints[..., :2] = 300 + 100 * joints[..., :2]
        joints[..., 2] = rng.uniform(0.1, 1, size=joints.shape[:3]) if channels == "xyc" else 0
    return joints.astype(np.float32)


def recordings(channels: str) -> dict[str, np.ndarray]:
    """What can happen to a recording, each once."""
    rng = np.random.default_rng(0)
    made = {
        f"plain{length}": walk(rng, 1, length, channels) for length in (1, 2, 5, 6, 9, 11, 12, 17)
    }
    made["swapped"] = walk(rng, 2, 9, channels)
    made["swapped"][0, [0, 1, 5]] = 0  # person 1 is there in more frames, but not in all
    made["swapped"][1, 8] = 0
    made["late"] = walk(rng, 2, 20, channels)
    made["late"][0, :4] = 0
    made["late"][1, [2, 3, 9, 10]] = 0  # as often as person 0, who therefore is followed
    made["visited"] = walk(rng, 2, 13, channels)
    made["visited"][1, 4:9] = 0
    made["crowd"] = walk(rng, 3, 8, channels)
    made["crowd"][:2, 3:5] = 0
    made["stranger"] = walk(rng, 3, 7, channels)
    made["stranger"][:2] = 0  # only the third person is ever there
    made["unseen"] = walk(rng, 2, 10, channels)
    # single joints, the origin and both ends of a spine among them
    made["unseen"][rng.random((2, 10, 5)) < 0.3] = 0
    made["unseen"][0, 0, [0, 1]] = 0
    made["half"] = walk(rng, 1, 8, channels)
    made["half"][0, 0, [0, 3]] = 0  # one end of the spine, one shoulder
    made["nobody"] = np.zeros_like(walk(rng, 1, 4, channels))
    if channels == "xyz":
        made["upright"] = walk(rng, 1, 7, channels)
        # stands already, shoulders along x
        made["upright"][0, 0, [0, 1, 3, 4]] = [[1, 1, 3], [1, 1, 3.5], [1, 1, 4], [2, 1, 4]]
        made["fallen"] = walk(rng, 1, 7, channels)
        # exactly upside down, and turned about
        made["fallen"][0, 0, [0, 1, 3, 4]] = [[1, 1, 3], [1, 1, 2], [2, 1, 4], [1, 1, 4]]
        made["ahead"] = walk(rng, 1, 8, channels)
        made["ahead"][0, 2, [1, 2], :2] = 0  # seen, straight ahead of the camera
        made["point"] = np.full((1, 7, 5, 3), 2, np.float32)
    else:
        for name, size in (("small", 10.0), ("wide", 10.5)):
            made[name] = walk(rng, 1, 6, channels)
            made[name][..., 1] = rng.permutation(np.linspace(1, 12, 30)).reshape(1, 6, 5)
            # fitted only beyond 10 pixels, in x and in y
            made[name][..., 0] = np.linspace(0.5, 0.5 + size, 30).reshape(1, 6, 5)
    if channels == "xyc":
        made["unsure"] = walk(rng, 2, 9, channels)
        # places that no importer would have kept
        made["unsure"][rng.random((2, 9, 5)) < 0.3, 2] = 0.01
        made["unsure"][0, 3, [2, 3]] = [[2000, 2000, 0.005], [3000, 3000, 0.01]]
        made["unsure"][1, 2, 0] = [0, 0, 0.9]
    return made


def write(
    folder: Path,
    channels: str,
    storage: str = "float32",
    layout: LayoutRecord | str = LAYOUT,
    **clips: np.ndarray,
) -> Store:
    description = Description(
        name="tiny",
        layout=layout,
        classes=("a", "b"),
        channels=channels,
        persons=3,
        pipeline="pyskl",
        protocols={"half": ProtocolRule(column="label", train=(0,), test=(1,))},
    )
    clips = clips or recordings(channels)
    write_store(
        folder,
        [Clip(name, i % 2, joints) for i, (name, joints) in enumerate(clips.items())],
        description,
        storage=storage,
    )
    return Store.open(folder)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[tuple[str, str], Store]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        (c, s): write(folder / f"{c}-{s}", c, s) for c in CHANNELS for s in ("float32", "int16")
    }


def batches(
    store: Store, *, training: bool, batch_size: int = 8, views: int | None = None, **data
) -> Batches:
    config = DataConfig(**{"store": "tiny", "protocol": "half", "frames": FRAMES} | data)
    everything = np.arange(store.info.clips)
    return Batches(
        store,
        everything,
        config,
        Dealing(batch_size, training=training, seed=SEED, labelled=True, views=views),
    )


@cache
def prepared(store: Store, index: int, *, upright: bool) -> np.ndarray:
    return naive_pyskl.prepare(
        store.clip(index), store.layout, store.info.channels, upright=upright
    )


def naive_clip(
    store: Store,
    index: int,
    stream: str | StreamConfig,
    frames: list[int],
    angles=(0.0, 0.0, 0.0),
    *,
    upright: bool = True,
) -> np.ndarray:
    """(3, T, V, persons of the store), float64."""
    record = STREAMS[stream] if isinstance(stream, str) else stream
    data = (
        naive_data.rotate(prepared(store, index, upright=upright), angles)
        if any(angles)
        else prepared(store, index, upright=upright)
    )
    data = naive_pyskl.to_stream(
        data, store.layout, record, confident=store.info.channels == "xyc"
    )[:, frames].transpose(3, 1, 2, 0)
    padded = np.zeros((*data.shape[:3], store.info.persons))
    padded[..., : data.shape[3]] = data
    return padded


def kept(store: Store, index: int) -> int:
    """Frames left of a clip."""
    return prepared(store, index, upright=False).shape[1]


# float32: coordinates of some 4 m (or fitted from some 600 pixels over more than 100) carry 3e-7;
# sums of up to five joints add a few of those
CLOSE = {"atol": 5e-6, "rtol": 0}


@pytest.mark.parametrize("storage", ["float32", "int16"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stream", sorted(EVERY_STREAM))
def test_training_batches_match_naive(stores, stream, channels, storage):
    store = stores[channels, storage]
    dealt = list(
        batches(
            store, training=True, batch_size=store.info.clips, stream=EVERY_STREAM[stream]
        ).epoch(2)
    )
    (index,) = (batch.index.numpy() for batch in dealt)
    rng = np.random.default_rng(derive(SEED, "augment", 2, 0))
    frames = sample_uniform(np.array([kept(store, i) for i in index]), FRAMES, rng)
    angles = (
        rng.uniform(-0.2, 0.2, size=(len(index), 3))
        if channels == "xyz"
        else np.zeros((len(index), 3))
    )
    expected = [
        naive_clip(store, i, EVERY_STREAM[stream], list(at), tuple(a))
        for i, at, a in zip(index, frames, angles, strict=True)
    ]
    np.testing.assert_allclose(dealt[0].x.numpy(), np.stack(expected), **CLOSE)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stream", sorted(EVERY_STREAM))
def test_places_beyond_the_persons_of_a_clip_are_exactly_zero(stores, stream, channels):
    store = stores[channels, "float32"]
    config = DataConfig(store="tiny", protocol="half", frames=FRAMES, stream=EVERY_STREAM[stream])
    dealing = Dealing(8, training=True, seed=SEED, persons=True)
    for batch in Batches(store, np.arange(store.info.clips), config, dealing).epoch(0):
        assert (batch.persons < batch.x.shape[-1]).any()
        for clip, persons in zip(batch.x, batch.persons.tolist(), strict=True):
            assert not clip[..., persons:].any()


@pytest.mark.parametrize("storage", ["float32", "int16"])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stream", ["joint", "bone_motion"])
def test_evaluation_batches_match_naive(stores, stream, channels, storage):
    store = stores[channels, storage]
    dealt = list(batches(store, training=False, batch_size=7, views=4, stream=stream).epoch(0))
    assert all(len(batch.index) == 7 for batch in dealt[:-1])  # whatever the number of views
    assert (
        torch.cat([batch.index for batch in dealt]).tolist()
        == np.repeat(np.arange(store.info.clips), 4).tolist()
    )
    assert torch.equal(
        torch.cat([batch.y for batch in dealt]),
        torch.from_numpy(np.repeat(store.column("label"), 4)),
    )
    expected = [
        naive_clip(store, i, stream, at)
        for i in range(store.info.clips)
        for at in naive_pyskl.views(kept(store, i), FRAMES, 4)
    ]
    np.testing.assert_allclose(
        torch.cat([batch.x for batch in dealt]).numpy(), np.stack(expected), **CLOSE
    )


@pytest.mark.parametrize("asked", [None, True, False])
def test_spines_are_aligned_unless_they_shall_not_be(stores, asked):
    store = stores["xyz", "float32"]
    (batch,) = batches(store, training=False, views=1, batch_size=99, align_spine=asked).epoch(0)
    frames = [naive_pyskl.views(kept(store, i), FRAMES, 1)[0] for i in range(store.info.clips)]
    expected = [
        naive_clip(store, i, "joint", at, upright=asked is not False) for i, at in enumerate(frames)
    ]
    np.testing.assert_allclose(batch.x.numpy(), np.stack(expected), **CLOSE)
    other = [
        naive_clip(store, i, "joint", at, upright=asked is False) for i, at in enumerate(frames)
    ]
    assert np.abs(batch.x.numpy() - np.stack(other)).max() > 0.1


def test_first_frame_stands_upright_with_shoulders_along_x(stores):
    store = stores["xyz", "float32"]
    names = store.column("id").tolist()
    (batch,) = batches(store, training=False, views=1, batch_size=99).epoch(0)
    first = batch.x[names.index("plain5"), :, 0, :, 0]  # 5 frames for 6: the first comes first
    spine, shoulders = first[:, 1] - first[:, 0], first[:, 4] - first[:, 3]
    torch.testing.assert_close(shoulders[1:], torch.zeros(2), atol=1e-6, rtol=0)
    assert shoulders[0] > 0
    assert spine[2] > 0  # the second turn may tilt it


def test_last_frame_kept_has_no_motion_wherever_it_is_sampled(stores):
    for channels in CHANNELS:
        store = stores[channels, "float32"]
        names = store.column("id").tolist()
        (batch,) = batches(
            store, training=False, views=1, batch_size=99, stream="joint_motion"
        ).epoch(0)
        still = ~batch.x[names.index("plain5"), :, :, :, 0].any(dim=2).any(dim=0)
        assert still.tolist() == [False] * 4 + [True, False]  # the sixth frame is the first again
        assert not batch.x[names.index("plain1")].any()


def test_evaluation_looks_at_ten_views_and_at_one_where_it_is_told_so(stores):
    store = stores["xyz", "float32"]
    assert batches(store, training=False).clips == 10 * store.info.clips
    assert batches(store, training=False, views=1).clips == store.info.clips
    config = DataConfig(store="tiny", protocol="half", views=3)
    three = Batches(store, np.arange(4), config, Dealing(5))
    assert [batch.index.tolist() for batch in three.epoch(0)] == [
        [0, 0, 0, 1, 1],
        [1, 2, 2, 2, 3],
        [3, 3],
    ]
    assert batches(store, training=True, batch_size=1).clips == store.info.clips


def test_golden_views():
    for case in GOLDEN["cases"]:
        assert (
            uniform_views(case["length"], case["frames"], case["views"]).tolist() == case["index"]
        )


@pytest.mark.parametrize(("frames", "count"), [(2, 3), (8, 1), (8, 10), (100, 10)])
def test_views_match_naive_for_every_length(frames, count):
    for length in range(1, 2 * frames + 40):
        assert uniform_views(length, frames, count).tolist() == naive_pyskl.views(
            length, frames, count
        )


def test_training_samples_match_naive_for_every_length():
    lengths = np.arange(1, 60)
    chance = np.random.default_rng(3).random((len(lengths), 17))
    expected = [
        naive_pyskl.uniform(length, 16, row)
        for length, row in zip(lengths.tolist(), chance.tolist(), strict=True)
    ]
    assert sample_uniform(lengths, 16, np.random.default_rng(3)).tolist() == expected


def test_training_samples_reach_every_choice_evenly():
    rng = np.random.default_rng(5)
    starts = sample_uniform(np.full(3000, 5), 8, rng)[:, 0]
    assert np.abs(np.bincount(starts, minlength=5) / 3000 - 0.2).max() < 4 * np.sqrt(0.16 / 3000)
    pairs = [
        tuple(sorted(set(range(10)) - set(row)))
        for row in sample_uniform(np.full(3600, 10), 8, rng).tolist()
    ]
    counts = np.unique(pairs, axis=0, return_counts=True)[1]
    assert len(counts) == 36  # two of nine gaps
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100)
    long = sample_uniform(np.full(3000, 29), 8, rng)
    assert [set(column) for column in long.T.tolist()] == [
        set(range(i * 29 // 8, (i + 1) * 29 // 8)) for i in range(8)
    ]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_aligning_matches_naive(axis):
    vectors = np.random.default_rng(1).normal(size=(50, 3))
    vectors[0] = np.eye(3)[axis] * 0.3
    vectors[1] = -np.eye(3)[axis]
    vectors[2] = 0
    vectors[3] = np.eye(3)[axis] + np.roll([1e-5, 0, 0], axis + 1)
    expected = np.stack([naive_pyskl.turn(vector, np.eye(3)[axis]) for vector in vectors])
    # the arc cosine of nearly 1 has 1e-11
    np.testing.assert_allclose(aligning(vectors, axis), expected, atol=1e-10, rtol=0)
    assert np.array_equal(aligning(vectors[:3], axis), np.stack([np.eye(3)] * 3))


def test_trading_places():
    assert trading_places(
        np.array([0, 1, 2, 0, 1, 2, 0]), np.array([2, 2, 2, 0, 0, 0, 1])
    ).tolist() == [2, 1, 0, 0, 1, 2, 1]


def test_compact_copy_and_other_clips_beside_it_change_nothing(stores, monkeypatch):
    for channels in CHANNELS:
        store = stores[channels, "int16"]
        whole = torch.cat([batch.x for batch in batches(store, training=False, views=2).epoch(0)])
        with monkeypatch.context() as patch:
            patch.setattr(
                "trainables.data.batches.batches.load_ragged",
                lambda *given: compact(load_ragged(*given), CPU),
            )
            # some clips are longer than a chunk, some chunks hold several
            patch.setattr("trainables.data.batches.pyskl.CHUNK", 16)
            again = torch.cat(
                [batch.x for batch in batches(store, training=False, views=2).epoch(0)]
            )
        assert torch.equal(whole, again)
        some = Batches(
            store,
            np.array([9, 3]),
            DataConfig(store="s", protocol="p", frames=FRAMES),
            Dealing(2, views=2),
        )
        assert torch.equal(torch.cat([batch.x for batch in some.epoch(0)]), whole[[6, 7, 18, 19]])


def test_any_step_can_be_dealt_again_alone(stores):
    store = stores["xyz", "float32"]
    whole = list(batches(store, training=True, batch_size=4, stream="bone_motion").epoch(3))
    (tail,) = batches(store, training=True, batch_size=4, stream="bone_motion").epoch(
        3, first_step=len(whole) - 1
    )
    assert torch.equal(tail.x, whole[-1].x)
    assert not torch.equal(
        next(batches(store, training=True, batch_size=4).epoch(0)).x,
        next(batches(store, training=True, batch_size=4).epoch(1)).x,
    )


def test_rotation_can_be_switched_off(stores):
    store = stores["xyz", "float32"]
    names = store.column("id").tolist()
    # of a clip of two frames nothing is left to chance but the rotation
    whole = {"frames": 2, "store": "s", "protocol": "p"}
    seen = []
    for training, rotation in ((False, None), (True, 0.0), (True, None)):
        config = DataConfig(**whole, rotation=rotation)
        clip = np.array([names.index("plain2")])
        dealt = Batches(store, clip, config, Dealing(1, training=training, views=1))
        seen += [batch.x for batch in dealt.epoch(0)]
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2], atol=1e-3)
    torch.testing.assert_close(seen[0].norm(dim=1), seen[2].norm(dim=1), atol=1e-5, rtol=0)


def test_layout_without_a_spine_is_not_aligned_and_cannot_be(tmp_path):
    clip = walk(np.random.default_rng(2), 1, 8, "xyz")
    plain = LAYOUT.model_copy(update={"spine": None, "shoulders": None})
    store, known = (
        write(tmp_path / "plain", "xyz", layout=plain, clip=clip),
        write(tmp_path / "known", "xyz", clip=clip),
    )
    (got,), (expected,) = (
        list(batches(s, training=False, views=1, align_spine=a).epoch(0))
        for s, a in ((store, None), (known, False))
    )
    assert torch.equal(got.x, expected.x)
    with pytest.raises(
        UserError,
        match=(
            r"^data.align_spine: needs a layout that names its spine and shoulders, which 'five'"
            r" does not$"
        ),
    ):
        batches(store, training=False, align_spine=True)
