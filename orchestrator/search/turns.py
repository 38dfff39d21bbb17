"""Which trial of a sweep runs next: the searches of all cells, asked in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from orchestrator.search.protocol import CellSearch, Outcome, Wait
from orchestrator.trials.space import Trial


def _ignore(told: object) -> None:
    """Of what nobody wants to know."""


def _never(trial: Trial) -> bool:
    """No trial is held back."""
    return False


class Turns:
    """Asks the cells in turn, so that every cell makes progress from the start.

    A trial that starts from another trial's weights is held back until all trials it may start from
    have ended, and any other as long as `hold` says.
    """

    def __init__(
        self,
        cells: Mapping[str, CellSearch],
        trials: Mapping[str, Iterable[Trial]],
        *,
        begun: Iterable[Trial] = (),
        behind: Mapping[str, Collection[str]] | None = None,
        propose: Callable[[Trial], None] = _ignore,
        exhausted: Callable[[str], None] = _ignore,
        slots: int = 0,
    ) -> None:
        """trials: by cell, those listed beforehand that have not ended. begun: proposed by an
        earlier run, one by one, and not ended: they go on first. behind: cells that are not asked
        before all trials of others have ended. propose: told of every trial that was not listed,
        before it may start. exhausted: told of every cell whose search needs no more. slots: how
        many trials may come that are not listed.
        """
        self._cells = dict(cells)
        self._exhausted = exhausted
        self._propose = propose
        self.discard: Callable[[Trial], None] = (
            _ignore  # told of those a search turns out not to need
        )
        self.hold: Callable[[Trial], bool] = _never  # asked of a trial that could start
        self._unasked = {
            cell: {trial.proposal.trial: trial for trial in listed}
            for cell, listed in trials.items()
        }
        self._held = list(begun)
        self._pending = {cell: set(listed) for cell, listed in self._unasked.items()}
        for trial in self._held:
            self._pending.setdefault(trial.proposal.cell, set()).add(trial.proposal.trial)
        self._names = {name for names in self._pending.values() for name in names}
        self.most = len(self._names) + slots  # trials that may come, or somewhat more
        self._behind = {
            cell: set(others) & self._cells.keys() for cell, others in (behind or {}).items()
        }
        self._asking = set(cells)  # cells that may want more
        self._turn = deque(cell for cell in cells if not self._behind.get(cell))
        self._asleep: set[str] = set()

    @property
    def unended(self) -> int:
        """How many trials are known and have not ended."""
        return len(self._names)

    @property
    def waits(self) -> bool:
        """Whether there are trials that can start once others have ended."""
        return bool(self._names and (self._held or self._asking))

    @property
    def over(self) -> bool:
        """Whether no cell wants more and all trials have ended; asks where that is not known."""
        self._fill()
        return not self._names and not self._held and not self._turn

    def next(self, without: Collection[str] = ()) -> Trial | None:
        """A trial that can start: the first of those held back, which the cells add to in turn;
        None where there is none now. without: cells that are not asked for more.
        """
        position = self._fill(without)
        return None if position is None else self._held.pop(position)

    def _fill(self, without: Collection[str] = ()) -> int | None:
        """Where among the held trials the first is that can start; asks until there is one."""
        while True:
            for position, held in enumerate(self._held):
                if self._names.isdisjoint(held.proposal.after) and not self.hold(held):
                    return position
            cell = next((cell for cell in self._turn if cell not in without), None)
            if cell is None:
                return None
            self._ask(cell)

    def _ask(self, cell: str) -> None:
        trial = self._cells[cell].ask()
        self._turn.remove(cell)
        if trial is None:
            self._asking.discard(cell)
            self._give_back(cell)
            self._exhausted(cell)
            self._release(cell)
        elif isinstance(trial, Wait):
            self._asleep.add(cell)
        else:
            self._turn.append(cell)
            name = trial.proposal.trial
            if self._unasked.get(cell, {}).pop(name, None) is None:
                self._propose(trial)
                self._pending.setdefault(cell, set()).add(name)
                self._names.add(name)
            self._held.append(trial)

    def _give_back(self, cell: str) -> None:
        """The cell's search needs no more: whatever it was given beyond that is not run."""
        for name, trial in self._unasked.pop(cell, {}).items():
            self._forget(cell, name)
            self.discard(trial)

    def _forget(self, cell: str, name: str) -> None:
        self._names.discard(name)
        self._pending.get(cell, set()).discard(name)

    def _release(self, cell: str) -> None:
        """Let those be asked that waited for this cell alone, where all its trials have ended."""
        if cell in self._asking or self._pending.get(cell):
            return
        for other, before in self._behind.items():
            if cell in before:
                before.discard(cell)
                if not before:
                    self._turn.append(other)

    def put_back(self, trial: Trial) -> None:
        """It cannot start now after all: it is the next one again."""
        self._held.insert(0, trial)

    def end(self, trial: Trial, outcome: Outcome | None) -> None:
        """Pass a trial's end on to its cell, and to those that wait for it; None: it was
        interrupted, of which a search learns nothing.
        """
        cell = trial.proposal.cell
        self._forget(cell, trial.proposal.trial)
        if outcome is not None:
            self._cells[cell].tell(trial.proposal.trial, outcome)
        if cell in self._asleep:
            self._asleep.discard(cell)
            self._turn.append(cell)
        self._release(cell)
