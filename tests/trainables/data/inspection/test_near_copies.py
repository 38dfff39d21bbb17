"""Near copies: found wherever they are placed, and nothing else is taken for one; against aligning
every pair.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests import naive_near_copies as naive
from trainables.contract.errors import UserError
from trainables.data.inspection import near_copies
from trainables.data.inspection.near_copies import near_groups, placed_distance, sketch
from trainables.data.store.writing import quantised

MM = 1e-3


def walk(
    seed: int, persons: int = 1, frames: int = 12, joints: int = 6, reach: float = 0.3
) -> np.ndarray:
    """A body about 3 m away that moves by some centimetres per frame."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(persons, 1, joints, 3)) * reach + [0, 0, 3]
    steps = rng.normal(size=(persons, frames, joints, 3)) * 0.03
    return (pose + steps.cumsum(axis=1)).astype(np.float32)


def placed(joints: np.ndarray, seed: int, jitter: float = 0.0, *, flat: bool = False) -> np.ndarray:
    """The same motion elsewhere: turned (about z where flat), moved, and every coordinate off by
    `jitter`; absent persons stay absent.
    """
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("z", rng.uniform(-3, 3)) if flat else Rotation.random(rng=rng)
    moved = (
        turn.apply(joints.reshape(-1, 3)).reshape(joints.shape)
        + rng.normal(size=3)
        + rng.normal(size=joints.shape) * jitter
    )
    return np.where((joints != 0).any(axis=(2, 3))[..., None, None], moved, 0).astype(np.float32)


def groups(clips: list[np.ndarray], dimensions: int = 3, tolerance: float = MM) -> list[int]:
    sketches = {
        i: made
        for i, joints in enumerate(clips)
        if (made := sketch(joints, dimensions)) is not None
    }
    return near_groups(
        np.arange(len(clips)), sketches, clips.__getitem__, dimensions, tolerance
    ).tolist()


@pytest.mark.parametrize("dimensions", [3, 2])
@pytest.mark.parametrize("persons", [1, 2])
def test_groups_match_aligning_every_pair(dimensions: int, persons: int) -> None:
    clips = [walk(seed, persons) for seed in range(4)]
    if persons == 2:
        for joints in clips[1:]:
            joints[1, 4:7] = 0.0
    clips += [
        placed(clips[k], 10 + k, jitter, flat=dimensions == 2)
        for k, jitter in ((0, 0), (1, 2e-4), (1, 1e-4), (2, 4e-4), (3, 2e-3))
    ]
    clips += [walk(20, persons, frames=9), placed(clips[-1], 30, 3e-4, flat=dimensions == 2)]
    found = groups(clips, dimensions)
    assert found == naive.near_groups(clips, dimensions, MM)
    assert found == [0, 1, 2, 3, 0, 1, 1, 2, 8, 9, 8]


def test_distance_is_that_of_the_best_placement() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        a, b = walk(seed), walk(seed + 100)
        for other in (b, placed(a, seed, 0.01), a * [1, 1, -1]):
            for dimensions in (2, 3):
                # both in float64 on coordinates of some metres: the difference of two sums costs
                # half of the 16 digits
                assert placed_distance(a, other, dimensions) == pytest.approx(
                    naive.placed_distance(a, other, dimensions), abs=1e-7
                )
        turn, shift = Rotation.random(rng=rng), rng.normal(size=3)
        assert placed_distance(
            a, turn.apply(a.reshape(-1, 3)).reshape(a.shape) + shift, 3
        ) == pytest.approx(0, abs=1e-6)


def test_sketches_never_differ_by_more_than_the_clips() -> None:
    """Otherwise a near copy could be missed; and they are near enough to it to be of use."""
    ratios = []
    for seed in range(20):
        a = walk(seed, persons=2)
        a[1, :3] = 0.0
        b = placed(a, seed, 10.0 ** -(seed % 4 + 1))
        one, other = sketch(a, 3), sketch(b, 3)
        assert one is not None
        assert other is not None
        assert one.kind == other.kind
        ratios.append(np.linalg.norm(one.radii - other.radii) / placed_distance(a, b, 3))
        assert one.motion == pytest.approx(naive.motion(a, 3), rel=1e-9)
    assert 0.05 < max(ratios) <= 1 + 1e-9


def test_a_mirror_image_and_a_reversed_clip_are_no_copies() -> None:
    clip = walk(0)
    assert groups([clip, clip * np.float32([-1, 1, 1])]) == [0, 1]
    assert groups([clip, np.ascontiguousarray(clip[:, ::-1])]) == [0, 1]


def test_copies_survive_rounding_to_int16() -> None:
    clip, other = walk(0), placed(walk(0), 1)
    stored = [
        (values * step).astype(np.float32)
        for values, step in (quantised(joints, "xyz") for joints in (clip, other))
    ]
    # a coordinate is off by at most 0.05 mm, by 0.1 mm where a clip reaches beyond 3.27 m
    assert 0 < placed_distance(*stored, 3) < 0.2 * MM
    assert groups([clip, stored[0], stored[1]]) == [0, 0, 0]


def test_what_does_not_move_is_nobodys_copy() -> None:
    """People who stand alike are no copies of one another; the same pose in motion is."""
    pose = walk(0, frames=1)
    still = np.repeat(pose, 12, axis=1)
    trembling = still + np.random.default_rng(0).normal(size=still.shape).astype(np.float32) * 1e-4
    assert groups(
        [pose, placed(pose, 1), still, placed(still, 2), trembling, placed(trembling, 3)]
    ) == [0, 1, 2, 3, 4, 5]
    assert groups([np.zeros_like(still), np.zeros_like(still), still[:, :0]]) == [0, 1, 2]


def test_absence_must_be_the_same() -> None:
    clip = walk(0, persons=2)
    other = placed(clip, 1)
    other[1, 3] = 0.0
    assert groups([clip, other]) == [0, 1]
    one, two = sketch(clip, 3), sketch(other, 3)
    assert one is not None
    assert two is not None
    assert one.kind != two.kind


def test_the_tolerance_is_on_the_clips_not_on_their_sketches() -> None:
    clip, other = walk(0), placed(walk(0), 1, 1e-3)
    apart = placed_distance(clip, other, 3)
    assert groups([clip, other], tolerance=1.001 * apart) == [0, 0]
    assert groups([clip, other], tolerance=0.999 * apart) == [0, 1]


def test_groups_join_through_others_and_start_from_identical_clips() -> None:
    clips = [walk(1), walk(0), placed(walk(0), 5, 4e-4), placed(walk(0), 6, 4e-4), walk(1)]
    sketches = {i: made for i in range(4) if (made := sketch(clips[i], 3)) is not None}
    apart = placed_distance(clips[2], clips[3], 3)
    found = near_groups(np.array([0, 1, 2, 3, 0]), sketches, clips.__getitem__, 3, 0.9 * apart)
    assert placed_distance(clips[1], clips[2], 3) < 0.9 * apart
    assert found.tolist() == [0, 1, 1, 1, 0]


def test_more_pairs_than_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [placed(walk(0), seed, 1e-4) for seed in range(3)]
    monkeypatch.setattr(near_copies, "MOST_PAIRS", 3)
    monkeypatch.setattr(near_copies, "CHUNK", 2)
    assert groups(clips) == [0, 0, 0]
    monkeypatch.setattr(near_copies, "MOST_PAIRS", 2)
    with pytest.raises(
        UserError,
        match=(
            "near copies: 3 pairs of clips look alike, at most 2 can be compared; lower the"
            " tolerance"
        ),
    ):
        groups(clips)
