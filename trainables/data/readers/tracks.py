"""Who is who from frame to frame. Knows no files.

A tracker's ids decide where it has some. Otherwise, and where an id is new, somebody is taken for
the person whose last pose is nearest, if it is nearer than that person is large; who has an id
already is not given another.
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
    _last: dict[int, Joints] = field(default_factory=dict)  # last pose of everybody
    _next: int = 0

    def number(self, persons: Sequence[Person]) -> list[tuple[int, Joints]]:
        """The persons of the next frame, who are those of frames before where they can be. Those
        without a single joint are left out.
        """
        there = [person for person in persons if person.joints[:, : self.dimensions].any()]
        known = {
            at: self._named[each.id] for at, each in enumerate(there) if each.id in self._named
        }
        unknown = {at: each for at, each in enumerate(there) if at not in known}
        have_ids = any(each.id is not None for each in there)  # all have one, or none
        taken = set(self._named.values()) if have_ids else set()
        found = known | self._nearest(unknown, set(self._last) - taken)
        numbered = []
        for at, person in enumerate(there):
            number = found[at] if at in found else self._new()
            if person.id is not None:
                self._named[person.id] = number
            self._last[number] = person.joints
            numbered.append((number, person.joints))
        return numbered

    def forget(self, numbers: set[int]) -> None:
        """Somebody of these numbers who comes back is somebody else."""
        for number in numbers:
            self._last.pop(number, None)
        self._named = {name: n for name, n in self._named.items() if n not in numbers}

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _nearest(self, persons: dict[int, Person], numbers: set[int]) -> dict[int, int]:
        """Which of the numbers each place in a frame has: pairs, the nearest first. A place that is
        near none has none.
        """
        pairs = sorted(
            (distance, at, number)
            for at, person in persons.items()
            for number in numbers
            if (distance := self._distance(person.joints, self._last[number])) is not None
        )
        of_place: dict[int, int] = {}
        for _, at, number in pairs:
            if at not in of_place and number not in of_place.values():
                of_place[at] = number
        return of_place

    def _distance(self, joints: Joints, last: Joints) -> float | None:
        """Mean distance of the joints that both poses have; None where it is more than the size of
        the last pose, the diagonal of its box, or they share none.
        """
        here, there = (pose[:, : self.dimensions].astype(np.float64) for pose in (joints, last))
        both = (here != 0).any(axis=1) & (there != 0).any(axis=1)
        if not both.any():
            return None
        apart = float(np.linalg.norm(here[both] - there[both], axis=1).mean())
        seen = there[(there != 0).any(axis=1)]
        size = float(np.linalg.norm(np.ptp(seen, axis=0)))
        return apart if apart <= size else None
