"""Batched transforms against per-clip twins with the same draws,
golden vectors, and distributions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import naive_data
from trainables.data.batches.transforms import (
    crop_evaluation,
    crop_training,
    first_distinct,
    fit_to_box,
    gather,
    in_float32,
    place,
    resize,
    rotation,
    sample_evaluation,
    sample_training,
    sample_uniform,
    subtract_centre,
    turn,
    view_rotation,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "data_path.json").read_text())
LENGTHS = np.array([1, 2, 7, 20, 63, 64, 65, 90, 128, 300])


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("length", sorted(GOLDEN["evaluation_crop_resized_to_64"], key=int))
def test_evaluation_crop_and_resize_of_a_ramp_matches_golden(length):
    lengths = np.array([int(length)])
    frame, weight = resize(*crop_evaluation(lengths), 64)
    ramp = torch.arange(1, lengths[0] + 1, dtype=torch.float64)[:, None].repeat(1, 3)
    resized = gather(ramp, torch.from_numpy(frame), torch.from_numpy(weight))
    # the golden numbers come from float32 code and are written with five decimals
    np.testing.assert_allclose(
        resized[0, :, 0],
        GOLDEN["evaluation_crop_resized_to_64"][length],
        atol=1e-5 + 300 * 2**-24,
        rtol=0,
    )


def test_rotation_matches_golden():
    (case,) = GOLDEN["rotation"]
    np.testing.assert_allclose(
        rotation(np.array([case["angles"]]))[0], case["matrix"], atol=1e-7, rtol=0
    )


def test_evaluation_samples_match_golden():
    lengths = np.array([int(length) for length in GOLDEN["evaluation_samples_52"]])
    assert sample_evaluation(lengths, 52).tolist() == list(GOLDEN["evaluation_samples_52"].values())


@pytest.mark.parametrize("frames", [2, 52, 64])
def test_evaluation_samples_match_naive_for_every_length(frames):
    lengths = np.arange(1, 301)
    expected = [np.linspace(0, length - 1, frames).astype(int).tolist() for length in lengths]
    assert sample_evaluation(lengths, frames).tolist() == expected


def test_evaluation_crop_matches_naive_for_every_length():
    lengths = np.arange(1, 301)
    assert np.stack(crop_evaluation(lengths), axis=1).tolist() == [
        list(naive_data.crop_evaluation(length)) for length in lengths
    ]


def test_resize_and_gather_match_naive():
    joints = rng().normal(size=(300, 4, 3))
    first, kept = crop_training(LENGTHS, rng())
    frame, weight = resize(first, kept, 16)
    got = gather(
        torch.from_numpy(joints.reshape(300, 12)), torch.from_numpy(frame), torch.from_numpy(weight)
    )
    for i in range(len(LENGTHS)):
        expected = naive_data.resize(joints[None], first[i], kept[i], 16)[0]
        np.testing.assert_allclose(got[i].numpy(), expected.reshape(16, 12), atol=1e-12, rtol=0)


def test_training_crops_obey_the_rules():
    lengths = np.repeat(LENGTHS, 200)
    first, kept = crop_training(lengths, rng())
    assert (first >= 0).all()
    assert (first + kept <= lengths).all()
    assert (kept >= np.minimum(lengths, 64)).all()
    assert (kept >= np.floor(lengths / 2)).all()
    long = lengths == 300
    assert (kept[long] < 300).all()
    assert set(first[lengths == 65] + kept[lengths == 65]) == {64, 65}  # both ends are reached
    # p ~ U(.5, 1): 3 standard errors are 43.3 / sqrt(200) * 3 = 9
    assert abs(kept[long].mean() - 225) < 9


def test_training_samples_are_sorted_frames_of_the_clip_at_most_100_times():
    samples = sample_training(LENGTHS, 52, rng())
    assert samples.shape == (len(LENGTHS), 52)
    assert (np.diff(samples, axis=1) >= 0).all()
    assert (samples >= 0).all()
    assert (samples < LENGTHS[:, None]).all()
    assert len(set(samples[-1])) > 30  # 52 of 300 frames, mostly different ones


def test_training_samples_of_a_clip_too_short_for_100_copies():
    assert (sample_training(np.array([1, 2]), 128, rng())[0] == 0).all()


def test_training_samples_are_without_replacement():
    """Of 2 frames in 100 copies each, 199 samples hold one of them 99 times and the other 100
    times.
    """
    counts = (sample_training(np.full(20, 2), 199, rng()) == 0).sum(axis=1)
    assert set(counts) == {99, 100}


def test_training_samples_are_uniform():
    samples = sample_training(np.full(400, 10), 52, rng())
    share = np.bincount(samples.ravel(), minlength=10) / samples.size
    assert np.abs(share - 0.1).max() < 4 * np.sqrt(0.09 / samples.size)


@pytest.mark.parametrize(
    ("population", "width", "count"), [(1000, 65, 52), (60, 80, 40), (6, 9, 5)]
)
def test_first_distinct_matches_naive(population, width, count):
    draws = rng().integers(0, population, size=(40, width))
    expected = [naive_data.first_distinct(row, count) for row in draws.tolist()]
    enough = [i for i, row in enumerate(expected) if row is not None]
    assert enough
    kept = first_distinct(draws[enough], count)
    assert kept is not None
    assert kept.tolist() == [expected[i] for i in enough]
    assert len(enough) == len(draws) or first_distinct(draws, count) is None


def test_rotation_and_turn_match_naive():
    joints, angles = rng().normal(size=(6, 5, 4, 3)), rng().uniform(-3, 3, size=(6, 3))
    turned = turn(
        torch.from_numpy(joints.reshape(6, 5, 12)), torch.from_numpy(rotation(angles))
    ).view(6, 3, 5, 4)
    expected = np.stack(
        [naive_data.rotate(clip, tuple(angle)) for clip, angle in zip(joints, angles, strict=True)]
    )
    np.testing.assert_allclose(turned.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-12, rtol=0)


def test_view_rotation_matches_naive():
    joints, degrees, scale = (
        rng().normal(size=(6, 5, 4, 3)),
        rng().integers(-60, 61, size=(6, 2)),
        rng().uniform(0.5, 1.5, size=6),
    )
    turned = turn(
        torch.from_numpy(joints.reshape(6, 5, 12)),
        torch.from_numpy(view_rotation(degrees, scale).copy()),
    ).view(6, 3, 5, 4)
    expected = np.stack([naive_data.view(joints[i], tuple(degrees[i]), scale[i]) for i in range(6)])
    np.testing.assert_allclose(turned.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-12, rtol=0)


def test_fit_to_box_matches_naive_and_takes_constant_coordinates_to_zero():
    joints = rng().normal(size=(3, 1, 5, 4, 3))
    joints[1, ..., 2] = 7.3
    joints[2] = joints[2, :, :1, :1]  # one point only
    gain, middle = fit_to_box(joints.min(axis=(1, 2, 3)), joints.max(axis=(1, 2, 3)))
    fitted = (joints - middle[:, None, None, None]) * gain[:, None, None, None]
    np.testing.assert_allclose(
        fitted, np.stack([naive_data.fit_to_box(clip) for clip in joints]), atol=1e-12, rtol=0
    )
    assert not fitted[1, ..., 2].any()
    assert not fitted[2].any()


def test_subtract_centre_leaves_empty_frames_alone():
    frames = torch.zeros(1, 3, 6, dtype=torch.float64)
    frames[0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    centred = subtract_centre(
        frames, torch.tensor([[1.0, 2.0, 3.0]]).double(), torch.tensor([[1.0, 0.0, 0.5]]).double()
    )
    assert centred[0].tolist() == [[0, 0, 0, 3, 3, 3], [0] * 6, [-0.5, -1, -1.5, -0.5, -1, -1.5]]


def test_place_leaves_zeros_where_nobody_is():
    placed = place(torch.ones(2, 3), torch.tensor([2, 0]), torch.tensor([1, 3]))
    assert placed.tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    "index",
    [
        [[[0, 1], [1, 2]], [[5, 5], [6, 7]]],  # frames that are shared, up to the last
        [[[0, 7], [7, 0]], [[7, 7], [0, 0]]],  # far from each other: one by one
        [[[3, 3], [3, 3]], [[3, 3], [3, 3]]],
    ],
)
def test_rows_of_int16_become_numbers_where_they_are_needed(index):
    rows = (torch.arange(8 * 3).reshape(8, 3) - 12).to(torch.int16)
    named = torch.tensor(index)
    numbers, places = in_float32(rows, named)
    assert numbers.dtype == torch.float32
    assert torch.equal(numbers[places], rows[named].float())
    assert len(numbers) <= named.numel()


def test_rows_of_int16_are_summed_as_numbers():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-900, 900, (20, 6), generator=generator).to(torch.int16)
    index = torch.randint(0, 20, (2, 5, 2), generator=generator)
    weight = torch.rand(2, 5, 2, generator=generator)
    summed = gather(rows, index, weight)
    expected = (rows[index].double() * weight[..., None].double()).sum(dim=2)
    torch.testing.assert_close(summed.double(), expected, rtol=1e-6, atol=1e-3)


def test_a_seed_draws_the_frames_that_it_drew_in_earlier_versions():
    """A trial that is trained again sees the same clips."""
    lengths = np.array([1, 7, 64, 65, 300])
    first, kept = crop_training(lengths, rng())
    assert (first.tolist(), kept.tolist()) == ([0, 0, 0, 0, 119], [1, 7, 64, 64, 172])
    assert sample_training(lengths, 5, rng()).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 2, 4, 6],
        [8, 17, 42, 42, 50],
        [13, 35, 35, 53, 63],
        [70, 105, 177, 240, 260],
    ]
    assert sample_uniform(lengths, 5, rng()).tolist() == [
        [0, 0, 0, 0, 0],
        [1, 3, 4, 5, 6],
        [7, 15, 26, 48, 59],
        [10, 20, 38, 41, 59],
        [21, 95, 134, 228, 292],
    ]
