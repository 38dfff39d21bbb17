"""Slow, obvious, one clip at a time: what PYSKL's pipelines do between file and network, with the
random draws passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from tests import naive_data
from trainables.contract.config import StreamConfig
from trainables.layouts import Layout


def uniform(length: int, frames: int, chance: Sequence[float]) -> list[int]:
    """Training frames, from `frames` + 1 numbers in [0, 1)."""
    if length < frames:
        start = int(chance[0] * length)
        return [(start + i) % length for i in range(frames)]
    if length < 2 * frames:
        chosen = sorted(range(frames + 1), key=chance.__getitem__)[: length - frames]
        return [i + sum(gap <= i for gap in chosen) for i in range(frames)]
    found = []
    for i in range(frames):
        begin, end = i * length // frames, (i + 1) * length // frames
        found.append(begin + int(chance[i] * (end - begin)))
    return found


def views(length: int, frames: int, count: int) -> list[list[int]]:
    """The frames of each view of evaluation, with every draw that PYSKL makes from NumPy's legacy
    generator.
    """
    legacy = np.random.RandomState(255)
    found = []
    for view in range(count):
        share = legacy.rand() * (1 - 1) + 1
        looked_at = int(share * length)
        before = legacy.randint(length - looked_at + 1)
        if looked_at < frames:
            start = view if looked_at < count else view * looked_at // count
            at = [start + i for i in range(frames)]
        elif looked_at < 2 * frames:
            gaps = legacy.choice(frames + 1, looked_at - frames, replace=False)
            at = [i + sum(gap <= i for gap in gaps) for i in range(frames)]
        else:
            edges = [i * looked_at // frames for i in range(frames + 1)]
            at = [
                edge + step
                for edge, step in zip(edges, legacy.randint(np.diff(edges)), strict=False)
            ]
        found.append([(i + before) % length for i in at])
    return found


def prepare(joints: np.ndarray, layout: Layout, channels: str, *, upright: bool) -> np.ndarray:
    """(M, T, V, 3) -> (M, T', V, 3), in float64."""
    joints = joints.astype(np.float64)
    return (
        in_space(joints, layout, upright=upright)
        if channels == "xyz"
        else in_image(joints, confident=channels == "xyc")
    )


def in_space(joints: np.ndarray, layout: Layout, *, upright: bool) -> np.ndarray:
    """PreNormalize3D."""
    there = [
        [t for t in range(joints.shape[1]) if joints[m, t].any()] for m in range(joints.shape[0])
    ]
    best = max(range(len(there)), key=lambda m: len(there[m]))  # the first of equals
    if not there[best]:
        return joints
    order = list(range(len(there)))
    order[0], order[best] = order[best], order[0]
    joints = joints[order][:, there[best]]
    centre = joints[0, 0, layout.origin].copy()
    for place in np.ndindex(joints.shape[:3]):
        if joints[place].any():
            joints[place] -= centre
    if upright:
        for (start, end), axis in (
            (layout.spine, np.array([0, 0, 1.0])),
            (layout.shoulders, np.array([1.0, 0, 0])),
        ):
            joints = joints @ turn(joints[0, 0, end] - joints[0, 0, start], axis).T
    return joints


def turn(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The rotation that takes the direction of `vector` to `axis`; none for no vector and for
    parallel ones.
    """
    normal = np.cross(vector, axis)
    if np.abs(vector).sum() < 1e-6 or np.abs(normal).sum() < 1e-6:
        return np.eye(3)
    angle = np.arccos(vector @ axis / np.linalg.norm(vector))
    return Rotation.from_rotvec(angle * normal / np.linalg.norm(normal)).as_matrix()


def in_image(joints: np.ndarray, *, confident: bool) -> np.ndarray:
    """PreNormalize2D, mode auto; a joint at (0, 0) was not seen either."""
    seen = [
        p
        for p in np.ndindex(joints.shape[:3])
        if joints[p][:2].any() and not (confident and joints[p][2] <= np.float32(0.01))
    ]
    fitted = joints.copy()
    fitted[..., :2] = 0
    spans = [
        max((joints[p][axis] for p in seen), default=0)
        - min((joints[p][axis] for p in seen), default=0)
        for axis in range(2)
    ]
    for p in seen:
        fitted[p][:2] = joints[p][:2]
        if min(spans) > 10:
            for axis in range(2):
                middle = (
                    max(joints[q][axis] for q in seen) + min(joints[q][axis] for q in seen)
                ) / 2
                fitted[p][axis] = (joints[p][axis] - middle) / spans[axis] * 2
    return fitted


def to_stream(
    joints: np.ndarray, layout: Layout, stream: StreamConfig, *, confident: bool
) -> np.ndarray:
    """(M, T, V, 3) -> (M, T, V, 3): bone, motion, then the k-hop representation; confidences are
    averaged where positions are subtracted.
    """
    data = joints
    if stream.bone:
        data = np.zeros_like(joints)
        for joint, parent in enumerate(layout.bone_parents or layout.parents):
            data[:, :, joint] = joints[:, :, joint] - joints[:, :, parent]
            if confident:
                data[:, :, joint, 2] = (joints[:, :, joint, 2] + joints[:, :, parent, 2]) / 2
    if stream.motion:
        moved = np.zeros_like(data)
        for t in range(data.shape[1] - 1):
            moved[:, t] = data[:, t + 1] - data[:, t]
            if confident:
                moved[:, t, :, 2] = (data[:, t + 1, :, 2] + data[:, t, :, 2]) / 2
        data = moved
    if stream.hops:
        confidence = data[..., 2].copy()
        data = naive_data.hops(data.transpose(3, 1, 2, 0), layout, stream).transpose(3, 1, 2, 0)
        if confident:
            data[..., 2] = confidence
    return data
