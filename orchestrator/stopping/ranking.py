"""Who is better among trials: by one objective, or by non-dominated sorting."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

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
        self._fronts: list[int] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, values: Values) -> int:
        """A trial arrives; returns its number, by which it is asked for later."""
        arrival = len(self._values)
        self._values.append(values)
        if len(values) == 1:
            insort(self._sorted, (-values[0], arrival))
        return arrival

    def better(self, arrival: int) -> int:
        """How many trials are ahead of this one."""
        values = self._values[arrival]
        if len(values) == 1:
            return bisect_left(self._sorted, (-values[0], -1))
        fronts = self._sorted_fronts()
        return sum(front < fronts[arrival] for front in fronts)

    def before(self, arrival: int) -> int:
        """The same, and equal ones that arrived earlier are ahead as well: no two trials have the
        same number ahead.
        """
        values = self._values[arrival]
        if len(values) == 1:
            return bisect_left(self._sorted, (-values[0], arrival))
        fronts = self._sorted_fronts()
        own = fronts[arrival]
        return sum(front < own or (front == own and i < arrival) for i, front in enumerate(fronts))

    def _sorted_fronts(self) -> list[int]:
        if len(self._fronts) < len(self._values):
            self._fronts = fronts_of(self._values)
        return self._fronts


def fronts_of(points: Sequence[Values]) -> list[int]:
    """The front of every point, 0 the best: those that no other one dominates are front 0, those
    that none of the rest dominates front 1, and so on (Deb et al. 2002).

    A point dominates another if it is at least as good in every objective and better in one.
    """
    array = np.array(points, dtype=float)
    at_least = np.all(array[:, None] >= array[None], axis=2)
    better = np.any(array[:, None] > array[None], axis=2)
    dominates = np.asarray(at_least & better)  # (N, N): row dominates column
    fronts = np.full(len(array), -1)
    front = 0
    while (left := fronts < 0).any():
        fronts[left & ~dominates[left].any(axis=0)] = front
        front += 1
    return [int(each) for each in fronts]


def dominates(one: Values, other: Values) -> bool:
    """Whether `one` is at least as good in every objective and better in one."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
