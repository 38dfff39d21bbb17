"""Poses that a detector found in the frames of a video: which persons are kept, and joints it did
not see. Knows no format.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.data.store.description import LEAST_CONFIDENCE, Channels, Joints


def hide_unseen(joints: Joints) -> Joints:
    """Joints (..., x y confidence), those not seen at (0, 0) with the confidence they have: a joint
    at zero is "not seen" in a store.
    """
    seen = joints[..., 2:] > LEAST_CONFIDENCE
    return np.concatenate(
        [np.where(seen, joints[..., :2], np.float32(0)), joints[..., 2:]], axis=-1
    )


def by_frame(
    poses: Joints, frame: npt.NDArray[np.int64], frames: int, places: int, *, ranked: bool
) -> Joints:
    """(places, frames, V, 3): the first `places` poses of each frame, in the order they have or,
    `ranked`, by falling confidence.

    poses: (N, V, x y confidence), pose n was found in frame[n]. The confidence of a pose is the sum
    over its joints; of equal ones the earlier comes first. Places for which a frame has no pose are
    zero.
    """
    confidence = poses[..., 2].sum(axis=1, dtype=np.float64)
    order = np.lexsort((-confidence, frame)) if ranked else np.argsort(frame, kind="stable")
    frame = frame[order]
    # how many of its frame come before
    place = np.arange(len(frame)) - np.searchsorted(frame, frame)
    kept = place < places
    placed = np.zeros((places, frames, *poses.shape[1:]), np.float32)
    placed[place[kept], frame[kept]] = poses[order[kept]]
    return placed


def chief_persons(joints: Joints, channels: Channels, persons: int) -> Joints:
    """At most `persons` of the persons of a clip (M, T, V, 3), in the order they have.

    Kept are those with the largest sum of confidences, or, where there are none, with the largest
    motion: the variance of each coordinate over the joints of all frames the person is in, summed
    (the motion of CTR-GCN's NTU pre-processing).
    """
    if len(joints) <= persons:
        return joints
    weight = (
        joints[..., 2].sum(axis=(1, 2), dtype=np.float64)
        if channels == "xyc"
        else np.array([_motion(person) for person in joints])
    )
    return joints[np.sort(np.argsort(-weight, kind="stable")[:persons])]


def as_imported(
    joints: Joints, channels: Channels, persons: int, *, drop_confidence: bool = False
) -> Joints:
    """A clip (M, T, V, 3) as an import of detected poses stores it. channels: those of the file,
    whose confidences choose persons and hide joints even where they are dropped afterwards.
    """
    joints = chief_persons(joints, channels, persons)
    if channels == "xyc":
        joints = hide_unseen(joints)
    if drop_confidence:
        joints[..., 2] = 0
    return joints


def _motion(person: Joints) -> float:
    there = person[(person != 0).any(axis=(1, 2))].reshape(-1, 3)
    return float(there.var(axis=0, dtype=np.float64).sum()) if len(there) else 0.0
