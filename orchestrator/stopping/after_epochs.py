"""All but the best end after the same number of epochs: hard to beat (Bohdal et al. 2023)."""

from __future__ import annotations

from functools import lru_cache

from orchestrator.stopping.course import Course, points_of
from orchestrator.stopping.ranking import BestSoFar, Ranking, Values
from orchestrator.sweep.stopping import AfterEpochsOptions


class AfterEpochs:
    """A trial goes on past the point while fewer than `keep` of those that have reached it are
    ahead, each by the best of its counted epochs up to there; of equal ones the earlier is ahead.

    Nobody waits: a trial that arrives before enough others goes on, and ends after the epoch in
    which enough better ones have come. What remains at last are the `keep` best, and those that
    were done before they were beaten.
    """

    def __init__(self, options: AfterEpochsOptions) -> None:
        self._keep = options.keep
        self._points = lru_cache(maxsize=None)(lambda course: points_of(options, course))
        self._best = BestSoFar()
        self._reached: dict[int, Ranking] = {}
        self._arrivals: dict[str, int] = {}

    def ends(self, trial: str, course: Course, counted: int, values: Values) -> bool:
        best = self._best.update(trial, values)
        points = self._points(course)
        if not points:
            return False
        reached = self._reached.setdefault(points[0], Ranking())
        if counted == points[0]:
            self._arrivals[trial] = reached.add(best)
        if trial not in self._arrivals:
            return False
        return reached.before(self._arrivals[trial]) >= self._keep
