"""PYSKL's pipelines for skeletons in space and in images (Duan et al. 2022), decided batch by
batch. Knows no seeds and no devices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainables.contract.config import DataConfig
from trainables.data.batches.ragged import Ragged
from trainables.data.batches.sampling import Plan, Presence, tracked_rows
from trainables.data.batches.settings import aligns_spine
from trainables.data.batches.transforms import (
    Floats,
    Ints,
    aligning,
    fit_to_box,
    rotation,
    sample_uniform,
    uniform_views,
)
from trainables.data.store.description import LEAST_CONFIDENCE
from trainables.data.store.reading import Store

# pixels; recordings that reach no further in x or in y are not fitted to [-1, 1]
SMALLEST_SPAN = 10.0
CHUNK = 1 << 16  # rows looked at in one go


class PYSKL:
    """Evenly spaced frames at random places, a small random rotation, and either of two ways to
    normalise.

    Positions in space (PreNormalize3D): the person who is there in most frames becomes person 0
    (the first of equals, who changes places), frames without that person are dropped, the origin
    joint of person 0 in the first frame kept is the centre; with `align_spine` the spine in that
    frame is turned upright, then the line from the left to the right shoulder along x. Image
    coordinates (PreNormalize2D, mode auto): x and y are fitted to [-1, 1] over everything that is
    seen in the recording.

    Motion is the difference to the next frame that was kept, not to the next one sampled: two taps
    of weights -1 and 1.
    """

    largest_rotation = 0.2  # radians
    by_joint = True
    present: Presence | None = None
    turns: Floats | None = None

    def __init__(
        self, store: Store, clips: Ragged, data: DataConfig, *, training: bool, views: int
    ) -> None:
        self._training, self._frames, self._moving, self._views = (
            training,
            data.frames,
            data.stream_config.motion,
            views,
        )
        self._length = clips.length
        # so all frames of any clip are kept
        self._kept, self._first = (
            np.arange(clips.length.max()),
            np.zeros(len(clips.length), np.int64),
        )
        self.leader: Ints | None = None
        if store.info.channels == "xyz":
            self._rotation = self.largest_rotation if data.rotation is None else data.rotation
            self._follow(store, clips)
            self._centre, self._linear = self._stance(
                store, clips, upright=aligns_spine(data, store.info, store.layout)
            )
        else:
            self._rotation = 0.0
            self._centre, self._linear = fit_to_image(store, clips)

    def plan(self, clips: Ints, view: Ints, rng: np.random.Generator) -> Plan:
        length, linear = self._length[clips], self._linear[clips]
        at = (
            sample_uniform(length, self._frames, rng)
            if self._training
            else self._views_of(length, view)
        )
        if self._training and self._rotation > 0:
            linear = (
                rotation(rng.uniform(-self._rotation, self._rotation, size=(len(clips), 3)))
                @ linear
            )
        weight = np.ones((*at.shape, 1))
        taps = at[:, :, None]
        if self._moving:
            last = (length - 1)[:, None, None]
            taps = np.concatenate([taps, np.minimum(taps + 1, last)], axis=2)
            weight = np.where(taps[:, :, :1] < last, [-1.0, 1.0], 0.0)
        return Plan(
            self._kept[self._first[clips][:, None, None] + taps],
            weight,
            linear,
            self._centre[clips],
        )

    def _views_of(self, length: Ints, view: Ints) -> Ints:
        """The frames (N, T) that evaluation looks at, of those kept."""
        lengths, which = np.unique(length, return_inverse=True)
        every = np.stack([uniform_views(int(one), self._frames, self._views) for one in lengths])
        chosen: Ints = every[which, view]
        return chosen

    def _follow(self, store: Store, clips: Ragged) -> None:
        """Find whom to follow and which frames to keep where somebody is missing from some; a clip
        without anybody stays as it is.
        """
        kept, behind = [self._kept], len(self._kept)
        self._length, leader = self._length.copy(), np.zeros(len(self._length), np.int64)
        for number, there in tracked_rows(store, clips):
            leader[number] = there.sum(axis=1).argmax()
            frames = np.flatnonzero(there[leader[number]])
            if 0 < len(frames) < there.shape[1]:
                kept.append(frames)
                self._first[number], self._length[number] = behind, len(frames)
                behind += len(frames)
        self._kept = np.concatenate(kept)
        self.leader = leader if leader.any() else None

    def _stance(self, store: Store, clips: Ragged, *, upright: bool) -> tuple[Floats, Floats]:
        """Centre (n, 3) and turn (n, 3, 3) of every clip, found in the first frame kept."""
        leader = 0 if self.leader is None else self.leader
        row = (
            store.column("offset")[clips.position] + leader * clips.length + self._kept[self._first]
        )

        def place(joint: int) -> Floats:
            positions: Floats = store.joints[row, joint] * clips.units
            return positions

        centre = place(store.layout.origin)
        linear: Floats = np.tile(np.eye(3), (len(row), 1, 1))
        if upright:
            assert store.layout.spine is not None
            assert store.layout.shoulders is not None
            for (start, end), axis in ((store.layout.spine, 2), (store.layout.shoulders, 0)):
                ends = [moved(place(joint), centre) for joint in (start, end)]
                linear = (
                    aligning((linear @ (ends[1] - ends[0])[:, :, None])[:, :, 0], axis) @ linear
                )
        return centre, linear


def moved(joint: Floats, centre: Floats) -> Floats:
    """joint - centre, both (n, 3), but a joint that is exactly zero was not seen and stays."""
    shifted: Floats = (joint - centre) * (joint != 0).any(axis=1, keepdims=True)
    return shifted


def fit_to_image(store: Store, clips: Ragged) -> tuple[Floats, Floats]:
    """Centre (n, 3) and gain (n, 3, 3) that bring what is seen in each recording to [-1, 1] in x
    and y, all persons and frames together.

    Recordings that span 10 pixels or less in x or y are left alone, and so are confidences.
    """
    low, high = (np.zeros((len(clips.length), 3)) for _ in range(2))
    for part, lowest, highest in seen_extremes(store, clips):
        low[part, :2], high[part, :2] = lowest, highest
    low, high = low * clips.units, high * clips.units
    gain, middle = fit_to_box(low, high)
    wide = (high - low)[:, :2].min(axis=1, keepdims=True) > SMALLEST_SPAN
    gain, middle = np.where(wide, gain, 1.0), np.where(wide, middle, 0.0)
    gain[:, 2] = 1.0
    return middle, gain[:, :, None] * np.eye(3)


def seen_extremes(store: Store, clips: Ragged) -> Iterator[tuple[slice, Floats, Floats]]:
    """Smallest and largest x and y (k, 2) of what is seen, in units of what is stored, of k
    neighbouring clips at a time; 0 where nothing is.
    """
    rows, offset, size = (
        clips.length * clips.persons,
        store.column("offset")[clips.position],
        store.layout.size,
    )
    least = (LEAST_CONFIDENCE / clips.units[:, 2]).astype(np.float32)
    ends = np.flatnonzero(np.diff(np.cumsum(rows) // CHUNK, append=-1)) + 1
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        part = slice(int(begin), int(end))
        count = rows[part]
        first = np.cumsum(count) - count
        joints = store.joints[np.repeat(offset[part] - first, count) + np.arange(count.sum())]
        x, y, confidence = np.ascontiguousarray(joints.reshape(-1, 3).T, np.float32)
        seen = (x != 0) | (y != 0)
        if store.info.channels == "xyc":
            seen &= confidence > np.repeat(least[part], count * size)
        low, high = (
            np.stack(
                [reduce.reduceat(np.where(seen, places, edge), first * size) for places in (x, y)],
                axis=1,
            )
            for reduce, edge in ((np.minimum, np.inf), (np.maximum, -np.inf))
        )
        yield part, np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
