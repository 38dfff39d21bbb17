"""The Optuna study of one cell: what was tried, and how it ended.

It holds no more than that, so one that is rebuilt from the sweep's files equals it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.learning.leaves import Leaf, leaf_of
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import MetricLimit, Sweep
from orchestrator.trials.space import Assignment, key_of

NOT_REPORTED = 1.0
"""How far outside a limit a trial counts that does not report the metric, in units of the limit."""


@contextmanager
def quietly() -> Iterator[None]:
    """Without Optuna's remarks on what it holds for experimental, and on every study it makes."""
    if optuna.logging.get_verbosity() != optuna.logging.ERROR:  # setting it clears all loggers
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


class CellStudy:
    """Trials of one cell as Optuna knows them, in the order in which they were proposed."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self.leaves: dict[str, Leaf] = {
            name: leaf_of(sweep.parameters[name]) for name in sweep.searched
        }
        self._storage = InMemoryStorage()
        with quietly():
            self.study = optuna.create_study(
                storage=self._storage,
                # proposes nothing: samplers are made anew for every proposal
                sampler=RandomSampler(seed=0),
                directions=[each.goal for each in sweep.objectives],
            )
        self._study_id = self._storage.get_all_studies()[0]._study_id
        self._ids: dict[str, int] = {}  # by assignment
        self._blank: int | None = None  # a trial that is being proposed

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Those in these states, default all; not to be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def suggest(self, sampler: BaseSampler) -> dict[str, Any]:
        """Values of all searched leaves that the sampler proposes now."""
        if self._blank is None:
            self._blank = self._storage.create_new_trial(self._study_id)
        study, blank = self.study, self._storage.get_trial(self._blank)
        space = sampler.infer_relative_search_space(study, blank)
        found = sampler.sample_relative(study, blank, space)
        return {
            name: leaf.value(
                found[name]
                if name in found
                else sampler.sample_independent(study, blank, name, leaf.distribution)
            )
            for name, leaf in self.leaves.items()
        }

    def add(self, assignment: Assignment) -> FrozenTrial:
        """It is tried from now on; the one that was just suggested, or one from outside."""
        number = self._blank
        if number is None:
            number = self._storage.create_new_trial(self._study_id)
        self._blank = None
        self._ids[key_of(assignment)] = number
        for key in self._storage.get_trial(number).system_attrs:
            if "relative_params" in key:  # what the sampler said before it was rounded
                self._storage.set_trial_system_attr(number, key, "")
        for name, value in assignment.items():
            leaf = self.leaves.get(name)
            said = None if leaf is None else leaf.suggested(value)
            if leaf is not None and said is not None:
                internal = leaf.distribution.to_internal_repr(said)
                self._storage.set_trial_param(number, name, internal, leaf.distribution)
        return self._storage.get_trial(number)

    def drop(self) -> None:
        """Nothing that was suggested could be tried."""
        if self._blank is not None:
            self._storage.set_trial_state_values(self._blank, TrialState.FAIL)
            self._blank = None

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        """So a trial ended. Complete are those alone that finished with all objectives."""
        number = self._ids[key_of(assignment)]
        values = [value for value in outcome.values if value is not None and math.isfinite(value)]
        whole = len(values) == len(self._sweep.objectives)
        if outcome.ending == "finished" and whole:
            trial = optuna.trial.Trial(self.study, number)
            for limit in self._sweep.metric_limits:
                for key, excess in excesses(limit, outcome.metrics.get(limit.metric)).items():
                    trial.set_constraint(key, excess)
            self._tell(number, TrialState.COMPLETE, values)
        elif outcome.ending == "pruned":
            if whole and len(values) == 1:  # Optuna takes intermediate values of one objective
                optuna.trial.Trial(self.study, number).report(values[0], max(outcome.epochs, 1))
            self._tell(number, TrialState.PRUNED, None)
        else:
            self._tell(number, TrialState.FAIL, None)

    def _tell(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        with quietly():
            self.study.tell(self._storage.get_trial(number).number, values, state)

    @cached_property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Of the searched leaves."""
        return {name: leaf.distribution for name, leaf in self.leaves.items()}


def excesses(limit: MetricLimit, value: float | None) -> dict[str, float]:
    """How far a metric lies outside its limits, in units of each; at most 0: within."""
    ends = (("max", limit.max, 1.0), ("min", limit.min, -1.0))
    return {
        f"{limit.metric} {side} {end:g}": (
            NOT_REPORTED if value is None else sign * (value - end) / (abs(end) or 1.0)
        )
        for side, end, sign in ends
        if end is not None
    }
