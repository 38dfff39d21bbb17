"""Slow, obvious twins of what importers do with detected poses, written from PYSKL's and ST-GCN's
descriptions, one number at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def decompress(
    frame_inds: Any, keypoint: Any, box_score: Any, threshold: float, max_person: int
) -> Any:
    """DecompressPose with squeeze: (persons, frames with a box, V, 3)."""
    frames: dict[int, list[Any]] = {}
    for number, frame in enumerate(frame_inds):
        if box_score is None or box_score[number] >= threshold:
            frames.setdefault(int(frame), []).append(keypoint[number].astype(np.float32))
    most = max(len(poses) for poses in frames.values())
    if most > max_person:
        frames = {
            frame: sorted(poses, key=lambda pose: -sum(float(c) for c in pose[:, 2]))
            for frame, poses in frames.items()
        }
    out = np.zeros((min(most, max_person), len(frames), *keypoint.shape[1:]), np.float32)
    for t, frame in enumerate(sorted(frames)):
        for m, pose in enumerate(frames[frame][:max_person]):
            out[m, t] = pose
    return out


def unseen_hidden(joints: Any) -> Any:
    """x and y of joints with a confidence up to 0.01 are 0."""
    out = np.array(joints, np.float32)
    for place in np.ndindex(out.shape[:-1]):
        if out[place][2] <= np.float32(0.01):
            out[place][:2] = 0
    return out


def kinetics(frames: list[dict[str, Any]]) -> Any:
    """ST-GCN's feeder: of the first five persons of each frame the two with the largest sum of
    scores; (2, 300, 18, 3) in pixels.
    """
    out = np.zeros((2, 300, 18, 3), np.float32)
    for item in frames:
        persons = sorted(
            item["skeleton"][:5],
            key=lambda person: -sum(np.float32(s).astype(float) for s in person["score"]),
        )
        for m, person in enumerate(persons[:2]):
            for v in range(18):
                x, y, score = (
                    np.float32(n)
                    for n in (person["pose"][2 * v], person["pose"][2 * v + 1], person["score"][v])
                )
                seen = score > np.float32(0.01)
                out[m, item["frame_index"] - 1, v] = (
                    x * np.float32(340) * seen,
                    y * np.float32(256) * seen,
                    score,
                )
    return out


def chief(joints: Any, persons: int, confident: bool) -> Any:
    """The persons with the largest weight, in the order they have."""
    weights = []
    for person in joints:
        if confident:
            weights.append(sum(float(c) for c in person[..., 2].ravel()))
            continue
        points = [point for frame in person if frame.any() for point in frame.astype(float)]
        mean = (
            [sum(point[axis] for point in points) / len(points) for axis in range(3)]
            if points
            else []
        )
        weights.append(
            sum(
                (point[axis] - mean[axis]) ** 2 / len(points)
                for point in points
                for axis in range(3)
            )
        )
    best = sorted(range(len(joints)), key=lambda m: -weights[m])[:persons]
    return np.stack([joints[m] for m in sorted(best)])
