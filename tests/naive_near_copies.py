"""Slow and obvious: every clip is aligned with every other, by SciPy in space and by complex
numbers in an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation


def placed_distance(a: np.ndarray, b: np.ndarray, dimensions: int) -> float:
    """Least root mean square distance over rotations and translations; infinite where shapes or
    absent persons differ.
    """
    if a.shape != b.shape:
        return float("inf")
    p, q = [], []
    for person in range(a.shape[0]):
        for frame in range(a.shape[1]):
            if a[person, frame].any() != b[person, frame].any():
                return float("inf")
            if a[person, frame].any():
                p.extend(a[person, frame, :, :dimensions].astype(float))
                q.extend(b[person, frame, :, :dimensions].astype(float))
    one, other = np.array(p) - np.mean(p, axis=0), np.array(q) - np.mean(q, axis=0)
    if dimensions == 3:
        turned = Rotation.align_vectors(other, one)[0].apply(one)
        return float(np.sqrt(np.mean(np.sum((turned - other) ** 2, axis=1))))
    z, w = one[:, 0] + 1j * one[:, 1], other[:, 0] + 1j * other[:, 1]
    angle = np.angle(np.sum(w * z.conj()))
    return float(np.sqrt(np.mean(np.abs(z * np.exp(1j * angle) - w) ** 2)))


def motion(joints: np.ndarray, dimensions: int) -> float:
    """Root mean square distance of each joint from its own mean
    over the frames its person is in.
    """
    squares = []
    for person in joints:
        there = [frame[:, :dimensions].astype(float) for frame in person if frame.any()]
        squares.extend(np.sum((frame - np.mean(there, axis=0)) ** 2, axis=1) for frame in there)
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def near_groups(clips: Sequence[np.ndarray], dimensions: int, tolerance: float) -> list[int]:
    """The first clip of each clip's group: near copies, and near copies of near copies."""
    group = list(range(len(clips)))
    moving = [motion(joints, dimensions) > tolerance for joints in clips]
    for i in range(len(clips)):
        for k in range(i):
            same = np.array_equal(clips[i], clips[k])
            if same or (
                moving[i]
                and moving[k]
                and placed_distance(clips[k], clips[i], dimensions) <= tolerance
            ):
                old, new = group[i], group[k]
                group = [min(old, new) if each in (old, new) else each for each in group]
    return group
