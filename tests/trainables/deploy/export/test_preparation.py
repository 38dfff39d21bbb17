"""The traceable preparation gives what batches give, clip by clip."""

import numpy as np
import pytest
import torch

from tests.trainables.deploy.export.store_cases import KINDS, SHAPES, raw, seen, store_of
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.batches.settings import views_of
from trainables.data.batches.transforms import (
    aligning as slow_aligning,
)
from trainables.data.batches.transforms import (
    body_axes as slow_body_axes,
)
from trainables.data.batches.transforms import (
    crop_evaluation,
    resize,
    sample_evaluation,
    uniform_views,
)
from trainables.deploy.export.preparation import (
    Stream,
    ThreeNumbers,
    aligning,
    body_axes,
    build_preparation,
)
from trainables.deploy.export.resampling import LONGEST, Resize, Spread, Uniform

HOPS = {"hops": 2, "orientation": "infogcn"}


def of_batches(store, data, position):
    """(views, 3, T, V, M)"""
    views = views_of(data, store.info)
    return next(Batches(store, np.array([position]), data, Dealing(views)).epoch(0)).x


def prepared(store, data, clips):
    whole = torch.nn.Sequential(
        ThreeNumbers(store.info.channels),
        build_preparation(data, store.info, 130),
        Stream(data, store.info),
    )
    return whole(torch.from_numpy(clips))


def streams_of(kind):
    return ["joint", "bone", "joint_motion", "bone_motion"] + ([HOPS] if kind == "ctr" else [])


@pytest.mark.parametrize("kind", KINDS)
def test_clips_become_what_batches_make_of_them(tmp_path, kind):
    store = store_of(tmp_path / "store", kind)
    for stream in streams_of(kind):
        data = seen(store, stream)
        for position in range(len(SHAPES)):
            ours = prepared(store, data, raw(store, position))
            expected = of_batches(store, data, position)
            np.testing.assert_allclose(
                ours, expected, rtol=1e-4, atol=2e-5, err_msg=f"{stream}, clip {position}"
            )


@pytest.mark.parametrize(
    ("kind", "leaves"),
    [
        ("ctr", {"align_persons": True, "pipeline": "ctr"}),
        ("pyskl", {"align_spine": False, "views": 1}),
        ("pyskl", {"views": 3, "frames": 16}),
        ("ucla", {"frames": 52}),
        ("ctr", {"frames": 64}),
    ],
)
def test_what_a_trial_asks_for_is_done(tmp_path, kind, leaves):
    store = store_of(tmp_path / "store", kind)
    data = seen(store, "bone", **leaves)
    for position in range(len(SHAPES)):
        ours = prepared(store, data, raw(store, position))
        expected = of_batches(store, data, position)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5, err_msg=str(position))


def test_clips_of_a_batch_do_not_touch_each_other(tmp_path):
    store = store_of(tmp_path / "store", "pyskl", [(12, 2)] * 10)
    data = seen(store, "joint_motion")
    clips = [raw(store, position) for position in range(10)]
    alone = torch.cat([prepared(store, data, clip) for clip in clips])
    torch.testing.assert_close(prepared(store, data, np.concatenate(clips)), alone)


@pytest.mark.parametrize("frames", [2, 8, 52, 64])
def test_the_frames_are_those_of_evaluation_at_every_length(frames):
    spread, sizing = Spread(frames), Resize(frames)
    lengths = np.array([*range(1, 700), 999, 2048, 4081, LONGEST])
    slow = sample_evaluation(lengths, frames)
    first, kept = crop_evaluation(lengths)
    index, weight = resize(first, kept, frames)
    for length, even, taps, shares in zip(lengths, slow, index, weight, strict=True):
        np.testing.assert_array_equal(spread(int(length)), even)
        before, after, share = sizing(int(length))
        ours = (1 - share) * before + share * after
        np.testing.assert_allclose(ours, (taps * shares).sum(axis=1), rtol=1e-5, atol=1e-4)


def test_floating_point_misses_some_whole_numbers():
    """Otherwise the table of `Spread` would hold nothing."""
    assert len(Spread(52).missed) > 30


@pytest.mark.parametrize(("frames", "views"), [(8, 1), (8, 10), (100, 10)])
def test_views_are_those_of_evaluation_up_to_the_longest(frames, views):
    uniform = Uniform(frames, views, 150)
    for length in (*range(1, 40), 99, 100, 101, 149, 150):
        expected = uniform_views(length, frames, views)
        np.testing.assert_array_equal(uniform(torch.tensor([length]))[0], expected)
    beyond = uniform(torch.tensor([1000]))[0]
    edge = np.arange(frames + 1) * 1000 // frames
    assert (beyond.numpy() >= edge[:-1]).all()
    assert (beyond.numpy() < edge[1:]).all()


VECTORS = np.array(
    [
        *([1, 2, 3], [0, 0, 1], [0, 0, -1], [0, 0, 0], [1e-8, 0, 0], [1, 0, 0], [-2, 0, 0]),
        *([0, 1, 0], [3e-3, -1, 5], [0, 1e-9, 2]),
    ],
    np.float64,
)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turning_into_an_axis_needs_no_angles(axis):
    fast = aligning(torch.from_numpy(VECTORS).float(), axis)
    np.testing.assert_allclose(fast, slow_aligning(VECTORS, axis), atol=1e-6)


def test_axes_of_a_body_are_the_same_in_single_precision():
    vectors = VECTORS[:-1]  # the last is parallel to another one up to more than single precision
    spine, hips = np.repeat(vectors, len(vectors), axis=0), np.tile(vectors, (len(vectors), 1))
    fast = body_axes(torch.from_numpy(spine).float()[None], torch.from_numpy(hips).float()[None])
    np.testing.assert_allclose(fast[0], slow_body_axes(spine, hips), atol=1e-6)
