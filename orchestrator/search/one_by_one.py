"""What all searches share that make their trials one by one: slots, no assignment twice, and the
best one repeated with other seeds at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from orchestrator.search.protocol import WAIT, Outcome, Wait
from orchestrator.trials.best import preference, within_limits
from orchestrator.trials.cell_space import CellSpace
from orchestrator.trials.proposed import Trial
from orchestrator.trials.space import Assignment, key_of


class Proposer(Protocol):
    """Finds assignments of one cell that were not tried."""

    def propose(self, index: int, tried: Mapping[str, Assignment]) -> Assignment | None:
        """A new one, the cell's number `index`; None where it finds none. It learns of it by
        `add`. Equal pasts lead to equal proposals.
        """
        ...

    def add(self, assignment: Assignment) -> None:
        """It is tried from now on."""
        ...

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        """So its trial ended."""
        ...


class Forgetful:
    """Proposes what random search does, and learns nothing."""

    def __init__(self, space: CellSpace) -> None:
        self._space = space

    def propose(self, index: int, tried: Mapping[str, Assignment]) -> Assignment | None:
        return self._space.random(index, tried)

    def add(self, assignment: Assignment) -> None:
        """Known by then as tried."""

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        """Nothing is learned."""


class OneByOne:
    """The trials of a cell as a proposer finds them, see `AskedSearch`."""

    def __init__(self, space: CellSpace, proposer: Proposer) -> None:
        self._space = space
        self._proposer = proposer
        self._tried: dict[str, Assignment] = {}  # earlier sweeps' among them
        self._firsts: dict[str, Trial] = {}  # trials with the first seed, by name
        self._outcomes: dict[str, Outcome] = {}
        self._repeats: list[Trial] = []
        self._learned: set[str] = set()  # assignments of other sweeps' trials
        self._found_none = False

    def learn(self, assignment: Assignment, outcome: Outcome) -> None:
        """A trial of another sweep, which takes no slot and is not tried again."""
        key = key_of(assignment)
        if key not in self._tried:
            self._learned.add(key)
            self._add(assignment)
            self._proposer.end(assignment, outcome)

    def recall(self, trial: Trial) -> None:
        """An earlier run has proposed this trial."""
        if trial.proposal.seed != self._space.sweep.seed:
            self._repeats.append(trial)
            return
        assignment = dict(trial.proposal.assignment)
        self._firsts[trial.proposal.trial] = trial
        if key_of(assignment) not in self._tried:
            self._add(assignment)

    def ask(self) -> Trial | Wait | None:
        if len(self._firsts) < self._space.slots and not self._found_none:
            assignment = self._proposer.propose(len(self._firsts), self._tried)
            if assignment is not None:
                trial = self._space.trial(assignment, self._space.sweep.seed)
                self._firsts[trial.proposal.trial] = trial
                self._add(assignment)
                return trial
            self._found_none = True
        return self._repeat()

    def tell(self, trial: str, outcome: Outcome) -> None:
        first = self._firsts.get(trial)
        if first is None or trial in self._outcomes:
            return
        self._outcomes[trial] = outcome
        assignment = dict(first.proposal.assignment)
        if key_of(assignment) not in self._learned:
            self._proposer.end(assignment, outcome)

    def _add(self, assignment: Assignment) -> None:
        self._tried[key_of(assignment)] = assignment
        self._proposer.add(assignment)

    def _repeat(self) -> Trial | Wait | None:
        """The cell's best assignment with the next seed, once all others have ended."""
        sweep = self._space.sweep
        if sweep.method.final_seeds == 1:
            return None
        if len(self._outcomes) < len(self._firsts):
            return WAIT
        best = self._best()
        if best is None:
            return None
        # a sweep that was extended may have repeated another one before
        repeats = [
            trial.proposal.seed
            for trial in self._repeats
            if trial.proposal.assignment == best.proposal.assignment
        ]
        seeds = range(sweep.seed + 1, sweep.seed + sweep.method.final_seeds)
        seed = next((each for each in seeds if each not in repeats), None)
        if seed is None:
            return None
        self._repeats.append(self._space.trial(dict(best.proposal.assignment), seed))
        return self._repeats[-1]

    def _best(self) -> Trial | None:
        """The finished trial that the cell's member of ensembles would be; None without any."""
        sweep, found = self._space.sweep, []
        for name, outcome in self._outcomes.items():
            if outcome.ending == "finished" and within_limits(sweep, outcome.metrics):
                found.append((preference(sweep, outcome.metrics), name))
        return self._firsts[min(found)[1]] if found else None
