"""Tune's view of the searches of all cells: which trial runs next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ray.tune.search import Searcher

from orchestrator.search.protocol import Outcome, Wait
from orchestrator.search.turns import Turns
from orchestrator.trials.space import Trial
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
    """Gives Tune the trials of `Turns`. Tune's own trial ids are translated by `trial_of`."""

    def __init__(
        self,
        turns: Turns,
        request: Callable[[Trial], dict[str, Any] | Wait | None],
        closed: Callable[[], bool],
        most: Callable[[], int] | None = None,
    ) -> None:
        """request: a trial's Tune configuration; None where no trial can start now, WAIT where
        those of other cells may, TrialFailed where it never can. closed: asked before every trial;
        once true, no new trial is started. most: how many may run or wait for a worker now; None:
        as many as Tune asks for.
        """
        super().__init__()
        self._turns = turns
        turns.discard = self._discard
        self._request = request
        self._closed = closed
        self._most = most
        self._given: dict[str, Trial] = {}
        self._living: set[str] = set()  # of those, the ones that have not ended
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
        if self._most is not None and not self._closed() and len(self._living) >= self._most():
            return None  # a search that learns would propose all its trials before one has ended
        passed: list[Trial] = []
        try:
            return self._next(trial_id, passed)
        finally:
            for trial in reversed(passed):
                self._turns.put_back(trial)

    def _next(self, trial_id: str, passed: list[Trial]) -> dict[str, Any] | str | None:
        """See `suggest`. passed: trials that cannot start now, to be put back. Their cells are not
        asked for more, so that a search that learns proposes no more than one ahead; what was
        proposed before, and waits, may be of another kind and start.
        """
        finished: str = Searcher.FINISHED
        cells: set[str] = set()  # of those passed
        while not self._closed():
            trial = self._turns.next(cells)
            if trial is None:
                return None if passed or self._turns.waits else finished
            try:
                request = self._request(trial)
            except TrialFailed as failure:
                if self._listener is not None:
                    self._listener.give_up(trial, str(failure))
                self._turns.end(trial, Outcome("failed"))
                continue
            if request is None or isinstance(request, Wait):
                passed.append(trial)
                cells.add(trial.proposal.cell)
                if request is None:
                    return None
                continue
            self._given[trial_id] = trial
            self._living.add(trial_id)
            return request
        return finished

    def _discard(self, trial: Trial) -> None:
        if self._listener is not None:
            self._listener.discard(trial)

    def tell(self, tune_id: str, outcome: Outcome | None) -> None:
        """Pass a trial's end on to its cell, and to those that wait for it; None: it was
        interrupted.
        """
        self._living.discard(tune_id)
        self._turns.end(self._given[tune_id], outcome)

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
