"""What a pipeline decides for a batch of clips, and what every pipeline must be.

Knows no pipeline, seed or device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trainables.contract.config import DataConfig
from trainables.data.batches.ragged import Ragged
from trainables.data.batches.transforms import Floats, Ints
from trainables.data.store.reading import Store


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
"""Per row: whether a person is there; False where all joints are zero. A byte a row: every process
has its own.
"""


class Pipeline(Protocol):
    """Made once per set of clips; `views` is how many times evaluation looks at each of them."""

    by_joint: bool
    """False: a person is there or not, frame by frame, and motion is taken between frames that are
    made. True: single joints may be unseen and stay zero, and the plan's weights take motion
    between recorded frames.
    """

    present: Presence | None
    """Who is there, where that is decided frame by frame; None: everybody always."""

    turns: Floats | None
    """(clips, M, 3, 3): the map of every person before that of the clip; None: none has one."""

    leader: Ints | None
    """(clips,): the person who changes places with person 0; None: nobody."""

    def __init__(
        self, store: Store, clips: Ragged, data: DataConfig, *, training: bool, views: int
    ) -> None: ...

    def plan(self, clips: Ints, view: Ints, rng: np.random.Generator) -> Plan:
        """The plan for view `view[i]` of the clip numbered `clips[i]`, of `data.frames` frames;
        `rng` is untouched in evaluation.
        """
        ...


def tracked_rows(store: Store, clips: Ragged) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Number and `tracked` of every clip in which somebody is absent from some frame; the others,
    nearly all, are not looked at.
    """
    for number in np.flatnonzero(store.column("absent")[clips.position]):
        yield int(number), tracked(store.stored(int(clips.position[number])))


def tracked(joints: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a person of a clip (M, T, V, 3), in whatever units, has a joint that is not exactly
    zero: (M, T).
    """
    there: npt.NDArray[np.bool_] = (joints != 0).any(axis=(2, 3)).reshape(joints.shape[:2])
    return there
