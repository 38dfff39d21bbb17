"""Proposals of a cell's study: each by a sampler made anew, with a seed of its own, so that equal
pasts lead to equal proposals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.learning.study import CellStudy, quietly
from orchestrator.search.one_by_one import OneByOne
from orchestrator.search.protocol import Outcome
from orchestrator.trials.cell_space import CellSpace
from orchestrator.trials.space import Assignment, generator, key_of


class Learner(ABC):
    """A proposer whose first assignments are those of random search, and that then asks a sampler
    of Optuna.
    """

    learns_from: tuple[TrialState, ...] = (TrialState.COMPLETE, TrialState.PRUNED)
    # proposals in a row that were tried before or are not allowed; then a random one is taken
    attempts = 10

    def __init__(self, space: CellSpace) -> None:
        self._space = space
        self.cell_study = CellStudy(space.sweep)
        self.startup = space.startup

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """One that has proposed nothing yet."""

    def propose(self, index: int, tried: Mapping[str, Assignment]) -> Assignment | None:
        drawn = self._space.random(index, tried)
        used_up = drawn is None and self._space.listed is not None
        if used_up or not self._has_begun():
            return drawn
        with quietly():
            for attempt in range(self.attempts):
                seed = generator(self._space.sweep, self._space.cell, index, attempt)
                values = self.cell_study.suggest(self.sampler(seed.getrandbits(32)))
                found = self._space.assignment(values)
                if found is not None and key_of(found) not in tried:
                    return found
        if drawn is None:
            self.cell_study.drop()
        return drawn

    def _has_begun(self) -> bool:
        return len(self.cell_study.trials(*self.learns_from)) >= self.startup

    def add(self, assignment: Assignment) -> None:
        self.cell_study.add(assignment)

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        self.cell_study.end(assignment, outcome)


class Tpe(Learner):
    """Tree-structured Parzen estimator: of one objective over all leaves together, of several leaf
    by leaf. Trials that run count among the bad ones (constant liar).
    """

    def sampler(self, seed: int) -> BaseSampler:
        return TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)


class Gp(Learner):
    """A Gaussian process; of trials that run it expects what it predicts."""

    learns_from = (TrialState.COMPLETE,)
    attempts = 3  # each takes a second, and another seed hardly moves the optimum

    def sampler(self, seed: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)


class Nsga2(Learner):
    """A genetic algorithm with generations of `startup_trials` finished trials."""

    learns_from = (TrialState.COMPLETE,)

    def __init__(self, space: CellSpace) -> None:
        super().__init__(space)
        self._counting = self.sampler(0)  # proposes nothing

    def sampler(self, seed: int) -> NSGAIISampler:
        return NSGAIISampler(seed=seed, population_size=max(self.startup, 2))

    def add(self, assignment: Assignment) -> None:
        trial: FrozenTrial = self.cell_study.add(assignment)
        # which generation it is of is decided by those that are complete now
        study, sampler = self.cell_study.study, self._counting
        sampler.get_parent_population(study, sampler.get_trial_generation(study, trial))


def tpe(space: CellSpace) -> OneByOne:
    """The search of one cell."""
    return OneByOne(space, Tpe(space))


def gp(space: CellSpace) -> OneByOne:
    """The search of one cell."""
    return OneByOne(space, Gp(space))


def nsga2(space: CellSpace) -> OneByOne:
    """The search of one cell."""
    return OneByOne(space, Nsga2(space))
