"""NTU RGB+D in slow and obvious words: a writer of `.skeleton` files, and their preparation written
down step by step from its description.

A file is a list of frames, a frame a list of (body id, joints (25, 3)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Frames = Sequence[Sequence[tuple[int, np.ndarray]]]
FIRST_ID = 72057594037931101  # beyond 2**53: neighbours are the same number in double precision


def skeleton_text(frames: Frames, end: str = "\r\n") -> str:
    """The text of a file as the Kinect's recorder writes it."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for ident, joints in bodies:
            lines.append(f"{ident} 0 1 1 1 1 0 0.02764709 0.05745083 2")
            lines.append(str(len(joints)))
            for x, y, z in joints:
                lines.append(
                    f"{x:.7g} {y:.7g} {z:.7g} 277.419 191.8218 1036.233 519.1677 -0.2059419"
                    " 0.05349901 0.9692109 -0.1239193 2"
                )
    return end.join(lines) + end


def pose(seed: int, *, wide: bool = False, size: float = 1.0) -> np.ndarray:
    """A standing body (25, 3) some 3 m away, with seven digits as in a file; `wide`: lying; a
    larger one moves more.
    """
    joints = np.random.default_rng(seed).uniform(-1, 1, size=(25, 3)) * (
        [1.8, 0.3, 0.2] if wide else [0.2, 0.9, 0.2]
    ) * size + [0, 0, 3]
    return np.array([[float(f"{value:.7g}") for value in joint] for joint in joints])


@dataclass(frozen=True)
class Part:
    """A body in some frames of a made-up file; the first `wide` of them lying."""

    body: int
    frames: Sequence[int]
    size: float = 1.0
    wide: int = 0

    def joints(self, frame: int) -> np.ndarray:
        return pose(
            1000 * self.body + frame, wide=frame in list(self.frames)[: self.wide], size=self.size
        )


def made(total: int, *parts: Part) -> Frames:
    """A file of `total` frames; bodies stand in a frame in the order of `parts`."""
    return [
        [(FIRST_ID + part.body, part.joints(frame)) for part in parts if frame in part.frames]
        for frame in range(total)
    ]


def written(folder: Path, clips: dict[str, Frames], end: str = "\r\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in clips.items():
        (folder / f"{name}.skeleton").write_bytes(skeleton_text(frames, end).encode())
    return folder


@dataclass
class Tracked:
    """One body id: the frames it is said to be in, and its joints there."""

    interval: list[int] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)
    motion: float = 0.0


def moved(frames: Sequence[np.ndarray]) -> float:
    rows = np.array([joint for frame in frames for joint in frame], np.float64)
    return sum(float(np.mean((rows[:, axis] - np.mean(rows[:, axis])) ** 2)) for axis in range(3))


def is_noisy(frame: np.ndarray) -> bool:
    width, height = (float(max(frame[:, axis]) - min(frame[:, axis])) for axis in (0, 1))
    return not width <= 0.8 * height


def prepared(frames: Frames, *, duplicate: bool) -> np.ndarray | None:
    """(T, 150) float32 as the released pipeline saves it, without padding; None where it has no
    answer.
    """
    seen = [bodies for bodies in frames if len(bodies) > 0]
    tracks: dict[int, Tracked] = {}
    for index, bodies in enumerate(seen):
        for ident, joints in bodies:
            if ident not in tracks:
                tracks[ident] = Tracked([index], [joints.astype(np.float32)])
            else:
                tracks[ident].interval.append(tracks[ident].interval[-1] + 1)
                tracks[ident].joints.append(joints.astype(np.float32))
    total = len(seen)
    if not tracks:
        return None
    if len(tracks) == 1:
        (only,) = tracks.values()
        data = np.zeros((total, 75), np.float32)
        if not write(data, only, 0):
            return None
        return finish(data, duplicate)

    for track in tracks.values():
        track.motion = moved(track.joints)
    for ident in list(tracks):
        if len(tracks[ident].interval) <= 11:
            del tracks[ident]
    if not tracks:
        return None
    for ident in list(tracks):
        if len(tracks) == 1:
            break
        track = tracks[ident]
        good = [frame for frame in track.joints if not is_noisy(frame)]
        noise = len(track.joints) - len(good)
        if noise == 0:
            continue
        if noise / len(track.joints) >= 0.69754:
            del tracks[ident]
        else:
            track.motion = min(track.motion, moved(good))
    order = sorted(tracks.values(), key=lambda track: -track.motion)

    if len(order) == 1:
        data = np.zeros((total, 75), np.float32)
        if not write(data, order[0], 0):
            return None
    else:
        data = np.zeros((total, 150), np.float32)
        if not write(data, order[0], 0):
            return None
        first, second = [order[0].interval[0], order[0].interval[-1]], [0, 0]
        for track in order[1:]:
            start, end = track.interval[0], track.interval[-1]
            if min(first[1], end) - max(first[0], start) <= 0:
                column, span = 0, first
            elif min(second[1], end) - max(second[0], start) <= 0:
                column, span = 75, second
            else:
                continue
            if not write(data, track, column):
                return None
            span[0], span[1] = min(span[0], start), max(span[1], end)
    data = np.array([row for row in data if sum(row) != 0], np.float32).reshape(-1, data.shape[1])
    return finish(data, duplicate)


def write(data: np.ndarray, track: Tracked, column: int) -> bool:
    """False where the track runs past the end, on which the released scripts stop."""
    for index, joints in zip(track.interval, track.joints, strict=True):
        if index >= len(data):
            return False
        data[index, column : column + 75] = joints.reshape(75)
    return True


def finish(data: np.ndarray, duplicate: bool) -> np.ndarray | None:
    """Centre, and give the second place its content."""
    origin = None
    for row in data:
        if any(row[:75] != 0):
            origin = row[3:6].copy()
            break
    if origin is None:
        return None
    out = data.copy()
    for t in range(len(data)):
        for joint in range(data.shape[1] // 3):
            out[t, 3 * joint : 3 * joint + 3] = data[t, 3 * joint : 3 * joint + 3] - origin
        if data.shape[1] == 150:
            for column in (0, 75):
                if sum(data[t, column : column + 75]) == 0:
                    out[t, column : column + 75] = 0
    if out.shape[1] == 75:
        out = np.concatenate([out, out if duplicate else np.zeros_like(out)], axis=1)
    return out


def padded(clips: Sequence[np.ndarray], frames: int = 300) -> np.ndarray:
    """(N, frames, 150): the array the pipeline saves."""
    everything = np.zeros((len(clips), frames, 150), np.float32)
    for row, clip in zip(everything, clips, strict=True):
        row[: len(clip)] = clip
    return everything


def one_hot(labels: Sequence[int], classes: int) -> np.ndarray:
    return np.array([[1.0 if k == label else 0.0 for k in range(classes)] for label in labels])
