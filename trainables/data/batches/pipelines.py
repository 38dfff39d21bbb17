"""What each data set's literature does to a clip before it becomes a stream, decided batch by
batch. Knows no seeds and no devices.

A pipeline answers for a batch of clips: which frames, with what weights, and which affine map x' =
linear (x - centre) per clip. Every step of both published feeders between file and stream is one of
these.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from trainables.contract.config import DataConfig
from trainables.data.batches.hulls import hulls
from trainables.data.batches.pyskl import PYSKL
from trainables.data.batches.ragged import Ragged
from trainables.data.batches.sampling import Pipeline, Plan, Presence, tracked_rows
from trainables.data.batches.settings import hips_of
from trainables.data.batches.transforms import (
    Floats,
    Ints,
    body_axes,
    crop_evaluation,
    crop_training,
    fit_to_box,
    resize,
    rotation,
    sample_evaluation,
    sample_training,
    view_rotation,
)
from trainables.data.store.description import Pipeline as Name
from trainables.data.store.reading import Store

SMALLEST_SCALE, LARGEST_SCALE = 0.5, 1.5  # of NW-UCLA's view change


class CTR:
    """NTU RGB+D as in CTR-GCN's feeder: centre, crop, resize to `frames`, small random rotation
    around all three axes.

    The centre is the layout's origin joint of person 0 in the first frame that has this person;
    all-zero frames stay zero. With `align_persons` every person is first turned by the axes of the
    body in the clip's first frame, as in InfoGCN's data preparation.
    """

    largest_rotation = 0.3  # radians
    by_joint = False
    leader: Ints | None = None

    def __init__(
        self, store: Store, clips: Ragged, data: DataConfig, *, training: bool, views: int
    ) -> None:
        assert views == 1, views
        self._training, self._frames = training, data.frames
        self._rotation = self.largest_rotation if data.rotation is None else data.rotation
        self._length = clips.length
        first = store.column("offset")[clips.position]  # row of the store
        self.present: Presence | None = None
        for number, there in tracked_rows(store, clips):
            self.present = (
                np.ones(len(clips.rows), np.bool_) if self.present is None else self.present
            )
            self.present[clips.rows_of(number)] = there.ravel()
            first[number] += int(there[0].argmax())
        self._centre = store.joints[first, store.layout.origin] * clips.units
        self.turns: Floats | None = person_turns(store, clips) if data.align_persons else None

    def plan(self, clips: Ints, view: Ints, rng: np.random.Generator) -> Plan:
        length = self._length[clips]
        crop = crop_training(length, rng) if self._training else crop_evaluation(length)
        angles = np.zeros((len(clips), 3))
        if self._training:
            angles = rng.uniform(-self._rotation, self._rotation, size=angles.shape)
        return Plan(
            *resize(*crop, self._frames), linear=rotation(angles), centre=self._centre[clips]
        )


def person_turns(store: Store, clips: Ragged) -> Floats:
    """`body_axes` (n, M, 3, 3) of every person in a clip's first frame; zero for persons that a
    clip does not have.
    """
    spine, hips = store.layout.spine, hips_of(store.layout)
    assert spine is not None
    assert hips is not None
    turns = np.zeros((len(clips.length), store.info.persons, 3, 3))
    offset = store.column("offset")[clips.position]
    for person in range(store.info.persons):
        there = np.flatnonzero(clips.persons > person)
        row = offset[there] + person * clips.length[there]
        (low, high), (left, right) = (
            [store.joints[row, joint] * clips.units[there] for joint in ends]
            for ends in (spine, hips)
        )
        turns[there, person] = body_axes(high - low, left - right)
    return turns


class UCLA:
    """NW-UCLA as in CTR-GCN's feeder: centre, random view (rotation and scale), each coordinate to
    [-1, 1] over the clip, sample `frames`.

    The fit to [-1, 1] undoes any shift, so the centre needs no step of its own. It looks at every
    frame of the clip after the rotation, not only at the sampled ones; the largest and the smallest
    coordinate are always at corners of the convex hull of all joints of all frames (some 50 points
    in place of 700). All-zero frames take no part in the fit and stay zero.
    """

    largest_rotation = math.pi / 3  # radians; whole degrees are drawn
    by_joint = False
    leader: Ints | None = None
    turns: Floats | None = None

    def __init__(
        self, store: Store, clips: Ragged, data: DataConfig, *, training: bool, views: int
    ) -> None:
        assert views == 1, views
        self._training, self._frames = training, data.frames
        self._degrees = round(
            math.degrees(self.largest_rotation if data.rotation is None else data.rotation)
        )
        self._length = clips.length
        self.present: Presence | None = None
        partly = {}
        for number, there in tracked_rows(store, clips):
            self.present = (
                np.ones(len(clips.rows), np.bool_) if self.present is None else self.present
            )
            self.present[clips.rows_of(number)] = there.ravel()
            if there.any():  # a clip of zeros is one point
                partly[number] = there

        def points(number: int) -> npt.NDArray[np.float32]:
            joints = store.clip(int(clips.position[number]))
            return (joints[partly[number]] if number in partly else joints).reshape(-1, 3)

        numbers = range(len(clips.position))
        if training and self._degrees > 0:
            found = hulls(store, clips.position, points)
            corners = [points(number)[found[number]] for number in numbers]
        else:
            corners = [box(points(number)) for number in numbers]
        self._corners = np.concatenate(corners).astype(np.float64)
        self._count = np.array([len(own) for own in corners])
        self._first = np.cumsum(self._count) - self._count

    def plan(self, clips: Ints, view: Ints, rng: np.random.Generator) -> Plan:
        length = self._length[clips]
        linear: Floats = np.tile(np.eye(3), (len(clips), 1, 1))
        if self._training:
            degrees = rng.integers(
                -self._degrees, self._degrees, size=(len(clips), 2), endpoint=True
            )
            linear = view_rotation(
                degrees, rng.uniform(SMALLEST_SCALE, LARGEST_SCALE, size=len(clips))
            )
        frame = (
            sample_training(length, self._frames, rng)
            if self._training
            else sample_evaluation(length, self._frames)
        )
        gain, middle = fit_to_box(*self._extremes(clips, linear))
        # linear x - middle = linear (x - centre)
        centre = (np.linalg.inv(linear) @ middle[:, :, None])[:, :, 0]
        return Plan(
            frame[:, :, None], np.ones((*frame.shape, 1)), gain[:, :, None] * linear, centre
        )

    def _extremes(self, clips: Ints, linear: Floats) -> tuple[Floats, Floats]:
        """Smallest and largest coordinates (N, 3) of each clip after its linear map."""
        count = self._count[clips][:, None]
        # the last corner again where a clip has fewer
        frame = np.minimum(np.arange(count.max()), count - 1)
        # (N, 3, corners)
        points = linear @ np.swapaxes(
            self._corners.take(self._first[clips][:, None] + frame, axis=0), 1, 2
        )
        return points.min(axis=2), points.max(axis=2)


def box(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Two corners (2, 3) whose coordinates span those of `points` (P, 3)."""
    return np.stack([points.min(axis=0), points.max(axis=0)])


PIPELINES: dict[Name, type[Pipeline]] = {"ctr": CTR, "pyskl": PYSKL, "ucla": UCLA}
