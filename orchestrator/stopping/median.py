"""The median rule of Vizier (Golovin et al. 2017)."""

from __future__ import annotations

from bisect import insort
from functools import lru_cache

from orchestrator.stopping.course import Course, points_of
from orchestrator.stopping.ranking import BestSoFar, Values
from orchestrator.sweep.stopping import MedianOptions


class Median:
    """A trial ends if its best epoch so far is worse than the median of the running averages that
    the others had after as many counted epochs, in every objective.

    The others are those that have come as far, whatever became of them since; fewer than
    `min_trials` of them end nobody.
    """

    def __init__(self, options: MedianOptions) -> None:
        self._min_trials = options.min_trials
        self._points = lru_cache(maxsize=None)(lambda course: points_of(options, course))
        self._best = BestSoFar()
        self._sums: dict[str, tuple[int, Values]] = {}  # epochs and the sum of their values
        # by counted epochs, then by objective: the running averages, sorted
        self._averages: dict[int, tuple[list[float], ...]] = {}

    def ends(self, trial: str, course: Course, counted: int, values: Values) -> bool:
        best = self._best.update(trial, values)
        epochs, sums = self._sums.get(trial, (0, (0.0,) * len(values)))
        sums = tuple(a + b for a, b in zip(sums, values, strict=True))
        self._sums[trial] = (epochs + 1, sums)
        others = self._averages.setdefault(counted, tuple([] for _ in values))
        medians = [_median(each) for each in others] if len(others[0]) >= self._min_trials else []
        for averages, total in zip(others, sums, strict=True):
            insort(averages, total / (epochs + 1))
        points = self._points(course)
        if not medians or not points or counted < points[0]:
            return False
        return all(own < other for own, other in zip(best, medians, strict=True))


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
