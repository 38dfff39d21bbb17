"""Slow, obvious, one clip at a time: what CTR-GCN's feeders do between file and stream, with the
random draws passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.contract.config import StreamConfig
from trainables.layouts import Layout


@dataclass(frozen=True)
class Draws:
    """What chance decided for one clip; the pipelines use what they need."""

    first: int = 0
    kept: int = 0
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    degrees: tuple[int, int] = (0, 0)
    scale: float = 1.0
    frames: Sequence[int] = ()


def centre_ntu(joints: np.ndarray, origin: int) -> np.ndarray:
    """joints: (M, T, V, 3). The origin joint of person 0's first non-zero frame is taken from every
    non-zero frame of everybody.
    """
    centred = joints.copy()
    point = np.zeros(3)
    for frame in joints[0]:
        if frame.any():
            point = frame[origin]
            break
    for person in range(joints.shape[0]):
        for t in range(joints.shape[1]):
            if joints[person, t].any():
                centred[person, t] = joints[person, t] - point
    return centred


def crop_evaluation(valid: int) -> tuple[int, int]:
    """First frame and number of frames of the middle 95 %."""
    bias = int((1 - 0.95) * valid / 2)
    return bias, valid - 2 * bias


def resize(joints: np.ndarray, first: int, kept: int, frames: int) -> np.ndarray:
    """(M, T, V, 3) -> (M, frames, V, 3), linear with half-pixel centres."""
    cropped = joints[:, first : first + kept]
    resized = np.zeros((joints.shape[0], frames, *joints.shape[2:]), joints.dtype)
    for i in range(frames):
        at = min(max((i + 0.5) * kept / frames - 0.5, 0.0), kept - 1.0)
        left = int(np.floor(at))
        right = min(left + 1, kept - 1)
        resized[:, i] = (1 - (at - left)) * cropped[:, left] + (at - left) * cropped[:, right]
    return resized


def axis_matrices(x: float, y: float, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rx = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rx, ry, rz


def rotate(joints: np.ndarray, angles: tuple[float, float, float]) -> np.ndarray:
    """x' = Rz Ry Rx x for every joint."""
    rx, ry, rz = axis_matrices(*angles)
    rotated = joints.copy()
    for place in np.ndindex(joints.shape[:-1]):
        rotated[place] = rz @ ry @ rx @ joints[place]
    return rotated


def view(joints: np.ndarray, degrees: tuple[int, int], scale: float) -> np.ndarray:
    """Row vectors: X (Ry (Rx s))."""
    rx, ry, _ = axis_matrices(np.radians(degrees[0]), np.radians(degrees[1]), 0.0)
    return joints @ (ry @ (rx @ np.diag([scale] * 3)))


def fit_to_box(joints: np.ndarray) -> np.ndarray:
    """Each coordinate to [-1, 1] over everything; a constant one to 0."""
    fitted = joints.copy()
    for axis in range(3):
        low, high = joints[..., axis].min(), joints[..., axis].max()
        fitted[..., axis] = (joints[..., axis] - low) / (high - low) * 2 - 1 if high > low else 0
    return fitted


def first_distinct(draws: Sequence[int], count: int) -> list[int] | None:
    """The first `count` distinct values, sorted."""
    seen: list[int] = []
    for value in draws:
        if value not in seen:
            seen.append(value)
        if len(seen) == count:
            return sorted(seen)
    return None


def to_stream(clip: np.ndarray, layout: Layout, stream: StreamConfig) -> np.ndarray:
    """(C, T, V, M): bone, then motion, then the k-hop representation, joint by joint."""
    data = clip
    if stream.bone:
        data = np.zeros_like(clip)
        for joint, parent in enumerate(layout.bone_parents or layout.parents):
            data[:, :, joint] = clip[:, :, joint] - clip[:, :, parent]
    if stream.motion:
        moved = np.zeros_like(data)
        for t in range(data.shape[1] - 1):
            moved[:, t] = data[:, t + 1] - data[:, t]
        data = moved
    return hops(data, layout, stream) if stream.hops else data


def hops(data: np.ndarray, layout: Layout, stream: StreamConfig) -> np.ndarray:
    """Every joint minus its k-th ancestor (child_parent), or minus all its descendants k levels
    below (parent_children).
    """
    theirs = "parent_children" if layout.name == "ucla20" else "child_parent"
    up = "child_parent" in (
        stream.orientation,
        theirs if stream.orientation == "infogcn" else "",
    )
    parents = (layout.hop_parents or layout.parents) if up else layout.parents
    out = data.copy()
    for joint in range(layout.size):
        ancestor: int | None = joint
        for _ in range(stream.hops):
            ancestor = (
                None if ancestor is None or parents[ancestor] == ancestor else parents[ancestor]
            )
        if ancestor is not None:
            near, far = (joint, ancestor) if up else (ancestor, joint)
            out[:, :, near] -= data[:, :, far]
    return out


def ntu(joints: np.ndarray, layout: Layout, draws: Draws, frames: int) -> np.ndarray:
    """(M, T, V, 3) -> (3, frames, V, M)."""
    data = centre_ntu(joints.astype(np.float64), layout.origin)
    return rotate(resize(data, draws.first, draws.kept, frames), draws.angles).transpose(3, 1, 2, 0)


def ucla(joints: np.ndarray, layout: Layout, draws: Draws) -> np.ndarray:
    """(M, T, V, 3) -> (3, frames, V, M).

    Only frames with a person in them are moved and fitted, the others stay zero.
    """
    data = joints.astype(np.float64)
    real = [(m, t) for m, t in np.ndindex(data.shape[:2]) if data[m, t].any()]
    if real:
        shown = np.stack([data[place] for place in real]) - data[0, 0, layout.origin]
        for place, frame in zip(
            real, fit_to_box(view(shown, draws.degrees, draws.scale)), strict=True
        ):
            data[place] = frame
    return data[:, list(draws.frames)].transpose(3, 1, 2, 0)
