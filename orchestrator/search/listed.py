"""What a search is, and the one whose trials are all known beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from orchestrator.trials.space import Trial
from trainables.contract.artifacts import TrialResult


class CellSearch(Protocol):
    """Proposes the trials of one cell.

    Trials of different cells never compete, so each cell has a search of its own.
    """

    def ask(self) -> Trial | None:
        """The next trial to run; None when the cell needs no more: those not asked for by then are
        discarded.
        """
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
