"""Who is who from frame to frame. Knows no files.

A tracker's ids decide where it has some. Otherwise somebody is taken for the person whose last pose
is nearest, if it is nearer than that person is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainables.data.readers.frames import Person
from trainables.data.store.description import Joints


@dataclass
class Tracks:
    """Numbers persons from 0 in the order of their first appearance."""

    dimensions: int  # 3 in space, 2 in an image
    _named: dict[str, int] = field(default_factory=dict)
    _last: dict[int, Joints] = field(default_factory=dict)  # last pose of those without a name
    _next: int = 0

    def number(self, persons: Sequence[Person]) -> list[tuple[int, Joints]]:
        """The persons of the next frame, who are those of frames before where they can be. Those
        without a single joint are left out.
        """
        there = [person for person in persons if person.joints.any()]
        if there and there[0].id is None:
            return self._nearest([person.joints for person in there])
        numbered = []
        for person in there:
            if person.id not in self._named:
                self._named[str(person.id)] = self._new()
            numbered.append((self._named[str(person.id)], person.joints))
        return numbered

    def forget(self, numbers: set[int]) -> None:
        """Somebody of these numbers who comes back is somebody else."""
        for number in numbers:
            self._last.pop(number, None)
        self._named = {name: n for name, n in self._named.items() if n not in numbers}

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _nearest(self, poses: list[Joints]) -> list[tuple[int, Joints]]:
        """Pairs of poses and tracks, the nearest first; a pose without one begins a track."""
        pairs = sorted(
            (distance, pose, number)
            for pose, joints in enumerate(poses)
            for number, last in self._last.items()
            if (distance := self._distance(joints, last)) is not None
        )
        of_pose: dict[int, int] = {}
        for _, pose, number in pairs:
            if pose not in of_pose and number not in of_pose.values():
                of_pose[pose] = number
        numbered = []
        for pose, joints in enumerate(poses):
            number = of_pose[pose] if pose in of_pose else self._new()
            self._last[number] = joints
            numbered.append((number, joints))
        return numbered

    def _distance(self, joints: Joints, last: Joints) -> float | None:
        """Mean distance of the joints that both poses have; None where it is more than the size of
        the last pose, the diagonal of its box, or they share none.
        """
        here, there = joints[:, : self.dimensions], last[:, : self.dimensions]
        both = (here != 0).any(axis=1) & (there != 0).any(axis=1)
        if not both.any():
            return None
        apart = float(np.linalg.norm(here[both] - there[both], axis=1).mean())
        seen = there[(there != 0).any(axis=1)]
        size = float(np.linalg.norm(np.ptp(seen, axis=0)))
        return apart if apart <= size else None
