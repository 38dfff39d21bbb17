"""A cell whose trials are all known beforehand, and the table of searches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.trials.space import Trial
from trainables.contract.artifacts import TrialResult


class CellSearch(Protocol):
    """Proposes the trials of one cell.

    Trials of different cells never compete, so each cell has a search of its own.
    """

    def ask(self) -> Trial | None:
        """The next trial to run; None when the cell has no more."""
        ...

    def tell(self, trial: str, result: TrialResult | None) -> None:
        """How a proposed trial ended; None: without a result."""
        ...


class ListedSearch:
    """Proposes a list in its order: grid and random search."""

    def __init__(self, proposals: Iterable[Trial]) -> None:
        self._waiting = deque(proposals)

    def ask(self) -> Trial | None:
        return self._waiting.popleft() if self._waiting else None

    def tell(self, trial: str, result: TrialResult | None) -> None:
        """A listed search learns nothing."""


SEARCHES: dict[str, Callable[[Iterable[Trial]], CellSearch]] = {
    "grid": ListedSearch,
    "random": ListedSearch,
}
"""method.name -> the search of one cell."""
