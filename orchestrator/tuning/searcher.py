"""Which trial runs next: one search per cell, taken in turn by the one Tune run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ray.tune.search import Searcher

from orchestrator.search.listed import CellSearch
from orchestrator.trials.space import Trial
from trainables.contract.artifacts import TrialResult
from trainables.contract.errors import TrialFailed


class Listener(Protocol):
    """Who is told of trials that end without having started."""

    def give_up(self, trial: Trial, reason: str) -> None:
        """It cannot start."""
        ...

    def discard(self, trial: Trial) -> None:
        """Its cell's search does not need it."""
        ...


class SweepSearcher(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Tune's view of all cells: asks them in turn, so that every cell makes progress from the
    start.

    A trial that starts from another trial's weights is held back until all trials it may start
    from have ended. Tune's own trial ids are translated by `trial_of`.
    """

    def __init__(
        self,
        cells: Mapping[str, CellSearch],
        trials: Mapping[str, Iterable[Trial]],
        request: Callable[[Trial], dict[str, Any]],
        closed: Callable[[], bool],
    ) -> None:
        """trials: those that have not ended yet, by cell. request: a trial's Tune configuration;
        TrialFailed where it cannot start. closed: asked before every trial; once true, no new trial
        is started.
        """
        super().__init__()
        self._cells = dict(cells)
        self._turn = deque(cells)
        self._request = request
        self._closed = closed
        self._unasked = {
            cell: {trial.proposal.trial: trial for trial in listed}
            for cell, listed in trials.items()
        }
        self._pending = {name for listed in self._unasked.values() for name in listed}
        self._held: list[Trial] = []
        self._given: dict[str, Trial] = {}
        self._listener: Listener | None = None

    def listen(self, listener: Listener) -> None:
        """`listener` is told of trials that end without having started."""
        self._listener = listener

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles it for a restore of its own; a sweep continues from its files instead."""
        return {}

    def trial_of(self, tune_id: str) -> Trial:
        """What runs under Tune's trial id."""
        return self._given[tune_id]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None: none can start now, but one will when those that run have ended."""
        finished: str = Searcher.FINISHED
        while not self._closed():
            trial = self._next()
            if trial is None:
                return None if self._held else finished
            try:
                request = self._request(trial)
            except TrialFailed as failure:
                if self._listener is not None:
                    self._listener.give_up(trial, str(failure))
                self._end(trial, None)
                continue
            self._given[trial_id] = trial
            return request
        return finished

    def _next(self) -> Trial | None:
        """A trial that can start: the first of those held back, which the cells add to in turn."""
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
            self._discard(cell)
        else:
            self._turn.rotate(-1)
            self._unasked[cell].pop(trial.proposal.trial)
            self._held.append(trial)

    def _discard(self, cell: str) -> None:
        """The cell's search needs no more: whatever it was given beyond that is not run."""
        for name, trial in self._unasked.pop(cell).items():
            self._pending.discard(name)
            if self._listener is not None:
                self._listener.discard(trial)

    def tell(self, tune_id: str, result: TrialResult | None) -> None:
        """Pass a trial's end on to its cell, and to those that wait for it."""
        self._end(self._given[tune_id], result)

    def _end(self, trial: Trial, result: TrialResult | None) -> None:
        self._pending.discard(trial.proposal.trial)
        self._cells[trial.proposal.cell].tell(trial.proposal.trial, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Ends are told by the callback, from the trial's own files: Tune's last report is an
        epoch, not a result.
        """

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a sweep continues from its journal and its trials' files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see `save`."""
