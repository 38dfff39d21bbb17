"""Which trial of a sweep runs next: the searches of all cells, asked in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from orchestrator.search.listed import CellSearch
from orchestrator.trials.space import Trial
from trainables.contract.artifacts import TrialResult


class Turns:
    """Asks the cells in turn, so that every cell makes progress from the start.

    A trial that starts from another trial's weights is held back until all trials it may start from
    have ended.
    """

    def __init__(
        self,
        cells: Mapping[str, CellSearch],
        trials: Mapping[str, Iterable[Trial]],
        discard: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        """trials: those that have not ended yet, by cell. discard: told of every trial that its
        cell's search turns out not to need.
        """
        self._cells = dict(cells)
        self._turn = deque(cells)
        self._discard = discard
        self._unasked = {
            cell: {trial.proposal.trial: trial for trial in listed}
            for cell, listed in trials.items()
        }
        self._pending = {name for listed in self._unasked.values() for name in listed}
        self._held: list[Trial] = []

    @property
    def waits(self) -> bool:
        """Whether there are trials that can start once others have ended."""
        return bool(self._held)

    def next(self) -> Trial | None:
        """A trial that can start: the first of those held back, which the cells add to in turn;
        None where there is none now.
        """
        while True:
            for position, held in enumerate(self._held):
                if self._pending.isdisjoint(held.proposal.after):
                    return self._held.pop(position)
            if not self._turn:
                return None
            self._ask(self._turn[0])

    def _ask(self, cell: str) -> None:
        trial = self._cells[cell].ask()
        if trial is None:
            self._turn.popleft()
            self._give_back(cell)
        else:
            self._turn.rotate(-1)
            self._unasked[cell].pop(trial.proposal.trial)
            self._held.append(trial)

    def _give_back(self, cell: str) -> None:
        """The cell's search needs no more: whatever it was given beyond that is not run."""
        for name, trial in self._unasked.pop(cell).items():
            self._pending.discard(name)
            self._discard(trial)

    def end(self, trial: Trial, result: TrialResult | None) -> None:
        """Pass a trial's end on to its cell, and to those that wait for it; None: without a
        result.
        """
        self._pending.discard(trial.proposal.trial)
        self._cells[trial.proposal.cell].tell(trial.proposal.trial, result)
