"""What each data set's literature does to a clip before it becomes a stream, decided batch by batch. Knows no seeds and no devices.

A pipeline answers for a batch of clips: which frames, with what weights, and which affine map x' = linear (x - centre) per clip. Every step
of both published feeders between file and stream is one of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trainables.contract.config import lost_rotation
from trainables.contract.errors import UserError
from trainables.data.ragged import Ragged, each_clip
from trainables.data.store import Store
from trainables.data.transforms import (
    Floats,
    Ints,
    crop_evaluation,
    crop_training,
    fit_to_box,
    resize,
    rotation,
    sample_evaluation,
    sample_training,
    view_rotation,
)

SMALLEST_SCALE, LARGEST_SCALE = 0.5, 1.5  # of NW-UCLA's view change


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """What to do with each of N clips; `frame` counts from the clip's first."""

    frame: Ints  # (N, T, taps)
    weight: Floats  # (N, T, taps)
    linear: Floats  # (N, 3, 3)
    centre: Floats  # (N, 3)

    def take(self, clips: Ints) -> Plan:
        """The plan whose clip i is clip `clips[i]` of this one."""
        return Plan(
            frame=self.frame.take(clips, axis=0),
            weight=self.weight.take(clips, axis=0),
            linear=self.linear.take(clips, axis=0),
            centre=self.centre.take(clips, axis=0),
        )


Presence = npt.NDArray[np.bool_]
"""Per row: whether a person is there; False where all joints are zero. A byte a row: every process has its own."""


class Pipeline(Protocol):
    """Made once per set of clips; `rotation` is the largest training rotation in radians, None the published one."""

    present: Presence | None  # None: everybody always is there

    def __init__(self, store: Store, clips: Ragged, *, training: bool, rotation: float | None) -> None: ...

    def plan(self, clips: Ints, frames: int, rng: np.random.Generator) -> Plan:
        """The plan for the clips numbered `clips`; `rng` is untouched in evaluation."""
        ...


class CTR:
    """NTU RGB+D as in CTR-GCN's feeder: centre, crop, resize to `frames`, small random rotation around all three axes.

    The centre is the layout's origin joint of person 0 in the first frame that has this person; all-zero frames stay zero.
    """

    largest_rotation = 0.3  # radians

    def __init__(self, store: Store, clips: Ragged, *, training: bool, rotation: float | None) -> None:
        self._training = training
        self._rotation = self.largest_rotation if rotation is None else rotation
        self._length = clips.length
        first = store.column("offset")[clips.position]  # row of the store
        self.present: Presence | None = None
        for number, there in tracked_rows(store, clips):
            self.present = np.ones(len(clips.rows), np.bool_) if self.present is None else self.present
            self.present[clips.rows_of(number)] = there.ravel()
            first[number] += int(there[0].argmax())
        self._centre = store.joints[first, store.layout.origin] * clips.units

    def plan(self, clips: Ints, frames: int, rng: np.random.Generator) -> Plan:
        length = self._length[clips]
        crop = crop_training(length, rng) if self._training else crop_evaluation(length)
        angles = np.zeros((len(clips), 3))
        if self._training:
            angles = rng.uniform(-self._rotation, self._rotation, size=angles.shape)
        return Plan(*resize(*crop, frames), linear=rotation(angles), centre=self._centre[clips])


class UCLA:
    """NW-UCLA as in CTR-GCN's feeder: centre, random view (rotation and scale), each coordinate to [-1, 1] over the clip, sample `frames`.

    The fit to [-1, 1] undoes any shift, so the centre needs no step of its own. It looks at every frame of the clip after the rotation, not
    only at the sampled ones; the largest and the smallest coordinate are always at corners of the convex hull of all joints of all frames,
    and the hull (some 50 points in place of 700) is found once. All-zero frames take no part in the fit and stay zero.
    """

    largest_rotation = math.pi / 3  # radians; whole degrees are drawn

    def __init__(self, store: Store, clips: Ragged, *, training: bool, rotation: float | None) -> None:
        rule = lost_rotation(rotation, "ucla")
        if rule:
            raise UserError(f"data.rotation: {rule}")
        self._training = training
        self._degrees = round(math.degrees(self.largest_rotation if rotation is None else rotation))
        self._length = clips.length
        present = np.ones(len(clips.rows), np.bool_)
        turning = training and self._degrees > 0
        corners = []
        for number, joints in enumerate(each_clip(store, clips.position)):
            there = tracked(joints)
            present[clips.rows_of(number)] = there.ravel()
            points = joints[there].reshape(-1, 3) if there.any() else joints.reshape(-1, 3)  # a clip of zeros is one point
            corners.append(hull(points) if turning else box(points))
        self.present: Presence | None = None if present.all() else present
        self._corners = np.concatenate(corners).astype(np.float64)
        self._count = np.array([len(points) for points in corners])
        self._first = np.cumsum(self._count) - self._count

    def plan(self, clips: Ints, frames: int, rng: np.random.Generator) -> Plan:
        length = self._length[clips]
        linear: Floats = np.tile(np.eye(3), (len(clips), 1, 1))
        if self._training:
            degrees = rng.integers(-self._degrees, self._degrees, size=(len(clips), 2), endpoint=True)
            linear = view_rotation(degrees, rng.uniform(SMALLEST_SCALE, LARGEST_SCALE, size=len(clips)))
        frame = sample_training(length, frames, rng) if self._training else sample_evaluation(length, frames)
        gain, middle = fit_to_box(*self._extremes(clips, linear))
        centre = (np.linalg.inv(linear) @ middle[:, :, None])[:, :, 0]  # linear x - middle = linear (x - centre)
        return Plan(frame[:, :, None], np.ones((*frame.shape, 1)), gain[:, :, None] * linear, centre)

    def _extremes(self, clips: Ints, linear: Floats) -> tuple[Floats, Floats]:
        """Smallest and largest coordinates (N, 3) of each clip after its linear map."""
        count = self._count[clips][:, None]
        each = np.minimum(np.arange(count.max()), count - 1)  # the last corner again where a clip has fewer
        points = linear @ np.swapaxes(self._corners.take(self._first[clips][:, None] + each, axis=0), 1, 2)  # (N, 3, corners)
        return points.min(axis=2), points.max(axis=2)


def tracked_rows(store: Store, clips: Ragged) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Number and `tracked` of every clip in which somebody is absent from some frame; the others, nearly all, are not looked at."""
    for number in np.flatnonzero(store.column("absent")[clips.position]):
        yield int(number), tracked(store.stored(int(clips.position[number])))


def tracked(joints: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a person of a clip (M, T, V, 3), in whatever units, has a joint that is not exactly zero: (M, T)."""
    there: npt.NDArray[np.bool_] = (joints != 0).any(axis=(2, 3)).reshape(joints.shape[:2])
    return there


def box(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Two corners (2, 3) whose coordinates span those of `points` (P, 3)."""
    return np.stack([points.min(axis=0), points.max(axis=0)])


def hull(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The corners of the convex hull of `points` (P, 3); every point where they lie in a plane or are few."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except QhullError:  # no volume, no hull: then no point may be left out
        return points


PIPELINES: dict[str, type[Pipeline]] = {"ctr": CTR, "ucla": UCLA}
