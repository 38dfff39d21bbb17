"""Who is better among trials: by one objective, or by non-dominated sorting."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

Values = tuple[float, ...]
"""One number per objective; larger is better."""


class BestSoFar:
    """Of every trial the best value of each objective up to now."""

    def __init__(self) -> None:
        self._best: dict[str, Values] = {}

    def update(self, trial: str, values: Values) -> Values:
        """Its best ones, `values` included."""
        before = self._best.get(trial)
        if before is not None:
            values = tuple(map(max, before, values))
        self._best[trial] = values
        return values


class Ranking:
    """The trials that have reached one point of their training, with their values there.

    One objective: a trial is ahead of another by a larger value. Several: by an earlier front of
    non-dominated sorting; trials of one front are equal.
    """

    def __init__(self) -> None:
        self._values: list[Values] = []  # in the order of arrival
        self._sorted: list[tuple[float, int]] = []  # (-value, arrival) where there is one objective
        self._fronts = Fronts()  # where there are several

    def __len__(self) -> int:
        return len(self._values)

    def add(self, values: Values) -> int:
        """A trial arrives; returns its number, by which it is asked for later."""
        arrival = len(self._values)
        self._values.append(values)
        if len(values) == 1:
            insort(self._sorted, (-values[0], arrival))
        else:
            self._fronts.add(values)
        return arrival

    def better(self, arrival: int) -> int:
        """How many trials are ahead of this one."""
        values = self._values[arrival]
        if len(values) == 1:
            return bisect_left(self._sorted, (-values[0], -1))
        return sum(map(len, self._fronts.members[: self._fronts.of(arrival)]))

    def before(self, arrival: int) -> int:
        """The same, and equal ones that arrived earlier are ahead as well: no two trials have the
        same number ahead.
        """
        values = self._values[arrival]
        if len(values) == 1:
            return bisect_left(self._sorted, (-values[0], arrival))
        equal = self._fronts.members[self._fronts.of(arrival)]
        return self.better(arrival) + sum(other < arrival for other in equal)


class Fronts:
    """Non-dominated sorting of points that come one after the other: those that no other one
    dominates are front 0, those that none of the rest dominates front 1, and so on (Deb et al.
    2002).

    A point dominates another if it is at least as good in every objective and better in one. A new
    point pushes those of its front that it dominates to the next one, where they do the same
    (Li et al. 2017): only neighbouring fronts are compared.
    """

    def __init__(self) -> None:
        self.members: list[list[int]] = []  # by front: numbers of points, in any order
        self._points = np.empty((0, 0))
        self._front: list[int] = []

    def of(self, number: int) -> int:
        """The front of a point, which is called by its number of arrival."""
        return self._front[number]

    def add(self, values: Values) -> None:
        """Another point."""
        number = len(self._front)
        if number == len(self._points):  # make room for as many again
            room = np.empty((max(number, 8), len(values)))
            self._points = np.concatenate([self._points, room]) if number else room
        self._points[number] = values
        above = self._dominated(np.arange(number), [number], by_them=True)
        front = max((self._front[int(each)] + 1 for each in above), default=0)
        self._front.append(front)
        moved = [number]
        while moved:
            if front == len(self.members):
                self.members.append([])
            pushed = set(map(int, self._dominated(np.array(self.members[front], int), moved)))
            stay = [each for each in self.members[front] if each not in pushed]
            self.members[front] = [*stay, *moved]
            for each in moved:
                self._front[each] = front
            moved, front = sorted(pushed), front + 1

    def _dominated(
        self, points: NDArray[np.int_], others: list[int], *, by_them: bool = False
    ) -> NDArray[np.int_]:
        """Those of `points` that one of the others dominates; by_them: that dominate one."""
        ours, theirs = self._points[points][:, None], self._points[others][None]
        better, worse = (ours, theirs) if by_them else (theirs, ours)
        found = np.all(better >= worse, axis=2) & np.any(better > worse, axis=2)
        chosen: NDArray[np.int_] = points[found.any(axis=1)]
        return chosen


def dominates(one: Values, other: Values) -> bool:
    """Whether `one` is at least as good in every objective and better in one."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
