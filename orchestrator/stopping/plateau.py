"""A trial that does not improve any more ends, unless it is the best of its cell."""

from __future__ import annotations

from orchestrator.stopping.course import Course
from orchestrator.stopping.ranking import Values, dominates
from orchestrator.sweep.stopping import PlateauOptions


class Plateau:
    """A trial ends after `patience` counted epochs in which no objective had a better value than
    before, if another trial of the cell is better: at least as good in every objective, better in
    one. Without that condition a cell could be left without any finished trial.
    """

    def __init__(self, options: PlateauOptions) -> None:
        self._patience = options.patience
        self._best: dict[str, Values] = {}
        self._improved: dict[str, int] = {}  # counted epochs when it last improved

    def ends(self, trial: str, course: Course, counted: int, values: Values) -> bool:
        before = self._best.get(trial)
        best = values if before is None else tuple(map(max, before, values))
        if best != before:
            self._best[trial], self._improved[trial] = best, counted
            return False
        if counted - self._improved[trial] < self._patience:
            return False
        return any(dominates(other, best) for other in self._best.values())
