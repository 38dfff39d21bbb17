"""Random search of a cell that ends after three trials in a row without a better one."""

from collections import deque
from collections.abc import Iterable

from orchestrator.search.protocol import Outcome
from orchestrator.trials.space import Trial


class FirstFew:
    """The trials of one cell in their order; None from `ask` ends the cell."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._waiting = deque(trials)
        self._best, self._worse = -1.0, 0

    def ask(self) -> Trial | None:
        """The next trial to run."""
        if self._worse >= 3:
            self._waiting.clear()
        return self._waiting.popleft() if self._waiting else None

    def tell(self, trial: str, outcome: Outcome) -> None:
        """How a trial ended."""
        top1 = None if outcome.result is None else outcome.result.selection_top1
        if top1 is None:  # no result, or no clips were held out to choose on
            return
        self._worse = 0 if top1 > self._best else self._worse + 1
        self._best = max(self._best, top1)
