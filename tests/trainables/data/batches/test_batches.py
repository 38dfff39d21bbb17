"""Batches against a per-clip feeder with the same draws, and what training relies on: order,
reproducible steps, zeros, labels.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import naive_data
from tests.trainables.data.batches.drawing import drawn
from trainables.contract.config import STREAMS, DataConfig
from trainables.contract.errors import UserError
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.batches.hulls import hull
from trainables.data.batches.pipelines import CTR, PIPELINES, UCLA
from trainables.data.batches.ragged import compact, load_ragged
from trainables.data.batches.transforms import rotation
from trainables.data.store.reading import (
    Clip,
    Description,
    LayoutRecord,
    ProtocolRule,
    Store,
    write_store,
)
from trainables.seeding import derive

FRAMES = 6
CPU = torch.device("cpu")
LENGTHS = (1, 3, 20, 70, 90, 2, 33, 66, 5)
SEED = 4


def recording(number: int, rng: np.random.Generator) -> Clip:
    """A walk in front of a camera; odd clips have two persons,
    every third clip has empty frames.
    """
    length, persons = LENGTHS[number], 1 + number % 2
    joints = (
        rng.normal(size=(persons, 1, 5, 3))
        + np.cumsum(rng.normal(size=(persons, length, 5, 3)) * 0.05, axis=1)
        + [0, 0, 3]
    )
    if number % 3 == 0:
        joints[0, : length // 4] = 0  # person 0 comes late
        joints[-1, length // 2 : length // 2 + 2] = 0
    return Clip(f"clip{number}", number % 3, joints.astype(np.float32))


def write(folder: Path, clips: list[Clip]) -> Store:
    layout = LayoutRecord(
        name="five",
        joints=("hip", "chest", "head", "left", "right"),
        parents=(1, 1, 1, 1, 3),
        origin=1,
    )
    description = Description(
        name="tiny",
        layout=layout,
        classes=("a", "b", "c"),
        pipeline="ctr",
        protocols={"half": ProtocolRule(column="label", train=(0, 1), test=(2,))},
    )
    write_store(folder, clips, description)
    return Store.open(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    rng = np.random.default_rng(0)
    return write(
        tmp_path_factory.mktemp("stores") / "tiny",
        [recording(number, rng) for number in range(len(LENGTHS))],
    )


def batches(
    store: Store,
    *,
    training: bool,
    indices=None,
    batch_size=4,
    labelled=True,
    seed=SEED,
    persons=False,
    **data,
) -> Batches:
    config = DataConfig(**{"store": "tiny", "protocol": "half", "frames": FRAMES} | data)
    indices = np.arange(len(LENGTHS)) if indices is None else np.asarray(indices)
    return Batches(
        store,
        indices,
        config,
        Dealing(
            batch_size, training=training, seed=seed, labelled=labelled, views=1, persons=persons
        ),
    )


def made(pipeline, store, clips, *, training, rotation=None):
    config = DataConfig(store="tiny", protocol="half", frames=FRAMES, rotation=rotation)
    return pipeline(store, clips, config, training=training, views=1)


def first_draws(epoch: int) -> np.random.Generator:
    """What the first steps of an epoch draw from."""
    return np.random.default_rng(derive(SEED, "augment", epoch, 0))


def fixed(length: int) -> naive_data.Draws:
    """What evaluation does to a clip of this length."""
    first, kept = naive_data.crop_evaluation(length)
    return naive_data.Draws(
        first=first, kept=kept, frames=np.linspace(0, length - 1, FRAMES).astype(int)
    )


def naive_clip(
    store: Store, index: int, pipeline: str, stream: str, draws: naive_data.Draws
) -> np.ndarray:
    """(3, T, V, persons of the store), float64."""
    joints = np.asarray(store.clip(index))
    data = (
        naive_data.ucla(joints, store.layout, draws)
        if pipeline == "ucla"
        else naive_data.ntu(joints, store.layout, draws, FRAMES)
    )
    streamed = naive_data.to_stream(data, store.layout, STREAMS[stream])
    padded = np.zeros((*streamed.shape[:3], store.info.persons))
    padded[..., : streamed.shape[3]] = streamed
    return padded


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pipeline", ["ctr", "ucla"])  # PYSKL's has tests of its own
@pytest.mark.parametrize("stream", sorted(STREAMS))
def test_batches_match_naive(store, stream, pipeline, training):
    labels, lengths = store.column("label"), store.column("length")
    dealt = list(batches(store, training=training, stream=stream, pipeline=pipeline).epoch(2))
    index = torch.cat([batch.index for batch in dealt]).numpy()
    draws = (
        drawn(pipeline, lengths[index], FRAMES, first_draws(2))
        if training
        else [fixed(length) for length in lengths[index]]
    )
    expected = np.stack(
        [naive_clip(store, i, pipeline, stream, d) for i, d in zip(index, draws, strict=True)]
    )
    assert [len(batch.index) for batch in dealt] == ([4, 4] if training else [4, 4, 1])
    got = torch.cat([batch.x for batch in dealt])
    assert got.dtype == torch.float32
    assert got.shape == (len(index), 3, FRAMES, 5, 2)
    # float32: coordinates of some 4 m carry 2.4e-7; centring, the fit to [-1, 1] and up to four
    # joints per bone sum add a few of those
    np.testing.assert_allclose(got.numpy(), expected, atol=5e-6, rtol=0)
    assert torch.cat([batch.y for batch in dealt]).tolist() == labels[index].tolist()


def test_evaluation_is_ascending_and_complete(store):
    dealt = batches(store, training=False, indices=[7, 2, 4, 8, 0])
    assert (dealt.steps, dealt.clips) == (2, 5)
    assert [batch.index.tolist() for batch in dealt.epoch(0)] == [[0, 2, 4, 7], [8]]


def test_training_deals_every_clip_at_most_once_per_pass(store):
    dealt = batches(store, training=True, batch_size=3, repeat=2)
    assert (dealt.steps, dealt.clips) == (6, 18)
    order = [index for batch in dealt.epoch(0) for index in batch.index.tolist()]
    assert sorted(order[:9]) == sorted(order[9:]) == list(range(9))
    assert order[:9] != order[9:]


def test_training_drops_a_short_last_batch_unless_it_is_the_only_one(store):
    assert (batches(store, training=True).steps, batches(store, training=True).clips) == (2, 8)
    short = batches(store, training=True, batch_size=64)
    assert (short.steps, short.clips) == (1, 9)
    assert [len(batch.index) for batch in short.epoch(0)] == [9]


@pytest.mark.parametrize("first_step", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_any_step_can_be_dealt_again_alone(store, pipeline, first_step, monkeypatch):
    # two batches are made in one go
    monkeypatch.setattr("trainables.data.batches.batches.AHEAD", 4)
    whole = list(batches(store, training=True, batch_size=2, pipeline=pipeline).epoch(3))
    tail = list(
        batches(store, training=True, batch_size=2, pipeline=pipeline).epoch(
            3, first_step=first_step
        )
    )
    assert len(whole) == 4
    assert len(tail) == len(whole) - first_step
    for again, first in zip(tail, whole[first_step:], strict=True):
        assert torch.equal(again.index, first.index)
        assert torch.equal(again.y, first.y)
        assert torch.equal(again.x, first.x)


def test_batches_made_in_one_go_do_not_share_draws(store, monkeypatch):
    for ahead in (1, 64):
        monkeypatch.setattr("trainables.data.batches.batches.AHEAD", ahead)
        steps = list(batches(store, training=True, batch_size=1, repeat=2, indices=[4]).epoch(0))
        assert not torch.equal(steps[0].x, steps[1].x)


def test_epochs_steps_and_seeds_differ(store):
    def first(epoch: int, seed: int) -> torch.Tensor:
        # a single clip: only augmentation can differ
        return next(batches(store, training=True, seed=seed, indices=[4]).epoch(epoch)).x

    assert torch.equal(first(0, 1), first(0, 1))
    assert not torch.equal(first(0, 1), first(1, 1))
    assert not torch.equal(first(0, 1), first(0, 2))
    steps = list(batches(store, training=True, batch_size=1, repeat=2, indices=[4]).epoch(0))
    assert not torch.equal(steps[0].x, steps[1].x)
    orders = [
        [b.index.tolist() for b in batches(store, training=True, batch_size=1).epoch(epoch)]
        for epoch in (0, 1)
    ]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("stream", ["joint", "bone_motion", "infogcn_hop1"])
@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_missing_persons_are_exactly_zero(store, pipeline, stream):
    persons = store.column("persons")
    dealt = batches(store, training=True, pipeline=pipeline, stream=stream, persons=True)
    for batch in dealt.epoch(0):
        assert batch.persons.tolist() == persons[batch.index.numpy()].tolist()
        alone = batch.persons == 1
        assert alone.any()
        assert not batch.x[alone][..., 1].any()
        assert batch.x[~alone][..., 1].any()


def test_persons_are_counted_only_where_that_is_asked_for(store):
    assert next(batches(store, training=True).epoch(0)).persons is None


def test_empty_frames_stay_exactly_zero(store):
    # person 0 comes after 8 of 33 frames
    (batch,) = batches(store, training=False, indices=[6], frames=33).epoch(0)
    assert not batch.x[0, :, :7].any()
    assert batch.x[0, :, 8:15].any()


@pytest.mark.parametrize("training", [True, False])
def test_lost_frames_do_not_shrink_the_person_in_the_box(tmp_path, training):
    rng = np.random.default_rng(3)
    joints = rng.normal(loc=9, size=(1, 8, 5, 3)).astype(np.float32)
    joints[0, 3:5] = 0
    store = write(
        tmp_path / "lost", [Clip("lost", 0, joints), Clip("nobody", 0, np.zeros_like(joints))]
    )
    (batch,) = batches(store, training=training, indices=[0], pipeline="ucla", frames=64).epoch(0)
    frames = batch.x[0, :, :, :, 0]
    empty = ~frames.any(dim=2).any(dim=0)
    assert empty.any()
    assert not empty.all()
    # float32 at some 9 m
    assert frames[:, ~empty].amin(dim=(1, 2)).tolist() == pytest.approx([-1] * 3, abs=1e-5)
    assert frames[:, ~empty].amax(dim=(1, 2)).tolist() == pytest.approx([1] * 3, abs=1e-5)
    (batch,) = batches(store, training=training, indices=[1], pipeline="ucla").epoch(0)
    assert not batch.x.any()


def test_ucla_knows_nobody_missing_where_no_frame_is_lost(store):
    numbers = [1, 2, 4, 5, 7, 8]
    clips = load_ragged(store, np.array(numbers), CPU)
    # and so does what it did without the rule
    assert made(UCLA, store, clips, training=False).present is None


def test_ucla_rotation_that_rounds_to_nothing_is_refused(store):
    with pytest.raises(
        UserError,
        match=(
            r"data.rotation: must be 0 or more than 0.00873 radians under pipeline ucla, .* got"
            r" 0.008 radians"
        ),
    ):
        batches(store, training=True, pipeline="ucla", rotation=0.008)
    assert batches(store, training=True, pipeline="ctr", rotation=0.008).steps == 2


@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
@pytest.mark.parametrize("training", [True, False])
def test_clip_of_one_frame_is_a_still(store, pipeline, training):
    (batch,) = batches(store, training=training, indices=[0], pipeline=pipeline).epoch(0)
    assert batch.x.isfinite().all()
    assert torch.equal(batch.x, batch.x[:, :, :1].expand_as(batch.x))


def test_clip_whose_joints_never_part_is_zero_in_the_box(tmp_path):
    point = np.broadcast_to(np.float32([0.3, 1.7, 3.1]), (1, 9, 5, 3))
    store = write(tmp_path / "point", [Clip("point", 0, point)])
    for epoch in range(5):
        (batch,) = batches(store, training=True, indices=[0], pipeline="ucla").epoch(epoch)
        assert not batch.x.any()


def test_rotation_can_be_switched_off_and_widened(store):
    (still,) = batches(store, training=True, indices=[2], rotation=0.0).epoch(0)
    (plain,) = batches(store, training=True, indices=[2]).epoch(0)
    (wide,) = batches(store, training=True, indices=[2], rotation=3.0).epoch(0)
    ratio = (wide.x - still.x).norm() / (plain.x - still.x).norm()
    assert ratio > 2
    torch.testing.assert_close(still.x.norm(), plain.x.norm(), rtol=1e-5, atol=0)


def test_ucla_rotation_is_drawn_in_whole_degrees_up_to_the_largest(store):
    clips = load_ragged(store, np.arange(len(LENGTHS)), CPU)
    pipeline = made(UCLA, store, clips, training=True, rotation=math.radians(2))
    plan = pipeline.plan(np.full(400, 3), np.zeros(400, np.int64), np.random.default_rng(0))
    # the fit scales rows
    unscaled = plan.linear / np.linalg.norm(plan.linear, axis=2, keepdims=True)
    views = [(x, y) for x in range(-2, 3) for y in range(-2, 3)]
    known = np.stack(
        [
            (rotation(np.radians([[0, y, 0]])) @ rotation(np.radians([[x, 0, 0]])))[0].T
            for x, y in views
        ]
    )
    nearest = np.abs(unscaled[:, None] - known).max(axis=(2, 3))
    assert nearest.min(axis=1).max() < 1e-12
    assert len(set(nearest.argmin(axis=1))) == 25


def test_labels_are_not_read_unless_asked_for(store, monkeypatch):
    read: list[str] = []
    column = Store.column
    monkeypatch.setattr(Store, "column", lambda self, name: read.append(name) or column(self, name))
    assert all(batch.y is None for batch in batches(store, training=False, labelled=False).epoch(0))
    assert "label" not in read
    batches(store, training=False, labelled=True)
    assert "label" in read


def test_autocast_of_the_caller_does_not_reach_the_joints(store):
    (plain,) = batches(store, training=False, batch_size=16, stream="bone").epoch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (under,) = batches(store, training=False, batch_size=16, stream="bone").epoch(0)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(plain.x, under.x)


def test_persons_fold_into_clips_without_a_copy(store):
    batch = next(batches(store, training=True, stream="bone_motion").epoch(0))
    assert batch.x.movedim(-1, 1).is_contiguous()


def test_rows_are_the_memory_map_itself(store):
    clips = load_ragged(store, np.arange(3), CPU)
    assert clips.rows.data_ptr() == store.joints.ctypes.data


def test_compact_copy_gives_the_same_joints(store):
    mapped = load_ragged(store, np.array([6, 1, 4]), CPU)
    packed = compact(mapped, CPU)
    assert len(packed.rows) == sum(LENGTHS[i] * (1 + i % 2) for i in (6, 1, 4))
    for clip in range(3):
        assert torch.equal(packed.rows[packed.rows_of(clip)], mapped.rows[mapped.rows_of(clip)])
    first, second = (made(CTR, store, clips, training=False) for clips in (mapped, packed))
    for clip in range(3):
        assert np.array_equal(
            first.present[mapped.rows_of(clip)], second.present[packed.rows_of(clip)]
        )


def test_hull_has_the_extremes_of_every_direction():
    points = np.random.default_rng(5).normal(size=(300, 3)).astype(np.float32)
    corners = points[hull(points)]
    assert len(corners) < 100
    turned = rotation(np.random.default_rng(6).uniform(-3, 3, size=(50, 3)))
    for ends in (np.max, np.min):
        np.testing.assert_allclose(
            ends(turned @ corners.T, axis=2), ends(turned @ points.T, axis=2), atol=1e-12, rtol=0
        )


@pytest.mark.parametrize(
    "points",
    [
        np.ones((4, 3)),
        np.eye(3),
        np.pad(np.random.default_rng(7).normal(size=(30, 2)), ((0, 0), (0, 1))),
    ],
)
def test_flat_clips_keep_every_point(points):
    assert np.array_equal(hull(points.astype(np.float32)), np.arange(len(points)))


def test_no_clips_is_refused(store):
    with pytest.raises(UserError, match="training needs at least one clip, got none"):
        batches(store, training=True, indices=np.array([], dtype=np.int64))


def test_clips_without_frames_or_with_nan_are_named(tmp_path):
    rng = np.random.default_rng(1)
    broken = recording(1, rng)
    broken.joints[0, 1, 2, 0] = np.nan
    empty = Clip("clip2", 0, np.zeros((1, 0, 5, 3), np.float32))
    store = write(tmp_path / "broken", [recording(0, rng), broken, empty])
    assert batches(store, training=False, indices=[0]).steps == 1
    with pytest.raises(UserError, match=r"clip 'clip1' must have.*\n.*clip 'clip2' must have"):
        batches(store, training=False, indices=[0, 1, 2])
