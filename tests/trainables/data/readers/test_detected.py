"""Which detected persons are kept, against loops over single numbers.

Only comparisons and copies are made: results are equal bit by bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests import naive_detections as naive
from trainables.data.readers.detected import by_frame, chief_persons, hide_unseen


@pytest.mark.parametrize("seed", range(8))
def test_by_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, places = 6, int(rng.integers(1, 5))
    frame = np.sort(rng.integers(0, frames, 20))
    poses = rng.random((20, 4, 3)).astype(np.float32)
    poses[:6] = poses[6:12]  # equal confidences
    for ranked in (False, True):
        found = by_frame(poses, frame, frames, places, ranked=ranked)
        for t in range(frames):
            own = [pose for pose, at in zip(poses, frame, strict=True) if at == t]
            own = sorted(own, key=lambda pose: -sum(map(float, pose[:, 2]))) if ranked else own
            wanted = np.zeros((places, 4, 3), np.float32)
            for m, pose in enumerate(own[:places]):
                wanted[m] = pose
            np.testing.assert_array_equal(found[:, t], wanted)


def test_hide_unseen() -> None:
    joints = np.random.default_rng(0).random((2, 3, 17, 3)).astype(np.float32)
    joints[..., 2] *= 0.03
    joints[0, 0, :3, 2] = (0.01, np.nextafter(np.float32(0.01), np.float32(1)), 0)
    hidden = hide_unseen(joints)
    np.testing.assert_array_equal(hidden, naive.unseen_hidden(joints))
    assert [bool(hidden[0, 0, v, :2].any()) for v in range(3)] == [False, True, False]
    assert joints[0, 0, 0, 0] != 0  # the argument stays


@pytest.mark.parametrize("channels", ["xyz", "xyc"])
@pytest.mark.parametrize("persons", [1, 2, 3, 5])
def test_chief_persons(channels: str, persons: int) -> None:
    rng = np.random.default_rng(persons)
    joints = (
        rng.normal(size=(5, 4, 17, 3)).astype(np.float32)
        * np.array([1, 0.2, 0.5, 0, 2], np.float32)[:, None, None, None]
    )
    # there in half of the frames: frames in which nobody is do not count as motion
    joints[1, :2] = 0
    joints = joints + np.float32(10) * (joints != 0) if channels == "xyz" else abs(joints)
    np.testing.assert_array_equal(
        chief_persons(joints, channels, persons), naive.chief(joints, persons, channels == "xyc")
    )
