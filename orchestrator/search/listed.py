"""The search whose trials are all known beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from orchestrator.search.protocol import Outcome
from orchestrator.trials.space import Trial


class ListedSearch:
    """Proposes a list in its order: grid and random search."""

    def __init__(self, proposals: Iterable[Trial]) -> None:
        self._waiting = deque(proposals)

    def ask(self) -> Trial | None:
        return self._waiting.popleft() if self._waiting else None

    def tell(self, trial: str, outcome: Outcome) -> None:
        """A listed search learns nothing."""
