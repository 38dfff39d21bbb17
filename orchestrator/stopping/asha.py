"""Asynchronous successive halving that stops (Li et al. 2020), as Tune's ASHAScheduler does."""

from __future__ import annotations

from functools import lru_cache

from orchestrator.stopping.course import Course, points_of
from orchestrator.stopping.ranking import BestSoFar, Ranking, Values
from orchestrator.sweep.stopping import AshaOptions


class Asha:
    """At a rung a trial goes on if fewer than max(1, n // eta) of the n trials that have reached
    it, itself included, are ahead of it, each by the best of its counted epochs.

    Nobody waits: a trial is judged when it arrives, by those that came before. The first one always
    passes, of the first eta ones each that is the best so far, and nobody is judged again when
    better ones come. So more trials pass than 1/eta: of n in random order the sum of
    max(1, i // eta) / i over i = 1..n, such as 3.5 of 9 for eta 3.
    """

    def __init__(self, options: AshaOptions) -> None:
        self._eta = options.eta
        self._points = lru_cache(maxsize=None)(lambda course: frozenset(points_of(options, course)))
        self._best = BestSoFar()
        self._rungs: dict[int, Ranking] = {}

    def ends(self, trial: str, course: Course, counted: int, values: Values) -> bool:
        best = self._best.update(trial, values)
        if counted not in self._points(course):
            return False
        rung = self._rungs.setdefault(counted, Ranking())
        arrival = rung.add(best)
        return rung.better(arrival) >= max(1, len(rung) // self._eta)
