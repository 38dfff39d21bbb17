"""Which trial runs next: one search per cell, taken in turn by the one Tune run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ray.tune.search import Searcher

from orchestrator.space import Trial
from trainables.contract.artifacts import TrialResult


class CellSearch(Protocol):
    """Proposes the trials of one cell. Trials of different cells never compete, so each cell has a search of its own."""

    def ask(self) -> Trial | None:
        """The next trial to run; None when the cell has no more."""
        ...

    def tell(self, trial: str, result: TrialResult | None) -> None:
        """How a proposed trial ended; None: it failed."""
        ...


class ListedSearch:
    """A cell whose trials are all known beforehand: grid and random search."""

    def __init__(self, proposals: Iterable[Trial]) -> None:
        self._waiting = deque(proposals)

    def ask(self) -> Trial | None:
        return self._waiting.popleft() if self._waiting else None

    def tell(self, trial: str, result: TrialResult | None) -> None:
        """A listed search learns nothing."""


class SweepSearcher(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Tune's view of all cells: asks them in turn, so that every cell makes progress from the start.

    request: makes a trial's Tune configuration from its proposal. Tune's own trial ids are translated by `proposal_of`.
    """

    def __init__(self, cells: Mapping[str, CellSearch], request: Callable[[Trial], dict[str, Any]], closed: Callable[[], bool]) -> None:
        """closed: asked before every proposal; once true, no new trial is started."""
        super().__init__()
        self._cells = dict(cells)
        self._turn = deque(cells)
        self._request = request
        self._closed = closed
        self._given: dict[str, Trial] = {}

    def proposal_of(self, tune_id: str) -> Trial:
        """What runs under Tune's trial id."""
        return self._given[tune_id]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        while self._turn and not self._closed():
            proposal = self._cells[self._turn[0]].ask()
            if proposal is None:
                self._turn.popleft()
                continue
            self._turn.rotate(-1)
            self._given[trial_id] = proposal
            return self._request(proposal)
        finished: str = Searcher.FINISHED
        return finished

    def tell(self, tune_id: str, result: TrialResult | None) -> None:
        """Pass a trial's end on to its cell."""
        planned = self._given[tune_id].planned
        self._cells[planned.cell].tell(planned.trial, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends are told by the callback, from the trial's own files: Tune's last report is an epoch, not a result."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a sweep continues from its journal and its trials' files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see `save`."""


SEARCHES: dict[str, Callable[[Iterable[Trial]], CellSearch]] = {"grid": ListedSearch, "random": ListedSearch}
"""method.name -> the search of one cell."""
