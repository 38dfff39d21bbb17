"""Which trials of a sweep end early: one rule for each group of trials that compete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.stopping.course import Course
from orchestrator.stopping.ranking import Values
from orchestrator.stopping.rules import RULES, StoppingRule
from orchestrator.sweep import Objective
from orchestrator.sweep.stopping import Comparing
from orchestrator.trials.space import Trial

KnownMetrics = Callable[[Trial], Mapping[str, float]]
"""Metrics of a trial that are the same after every epoch, such as its size."""


def group_of(trial: Trial) -> tuple[str, bool]:
    """Names the trials that a trial competes with: those of its cell, where dense ones are a group
    of their own. They have no warm-up to wait for.
    """
    return trial.proposal.cell, trial.config.sparsity.dense


class Judge:
    """Asked after every epoch of every trial. A trial whose weights another one starts from is
    compared like the others and never ends early. One that repeats its cell's best with another
    seed is not compared: all seeds are to be known, not the lucky ones.
    """

    def __init__(
        self,
        options: Comparing,
        objectives: Sequence[Objective],
        needed: Callable[[Trial], bool],
        known: KnownMetrics,
        repeats: Callable[[Trial], bool] = lambda trial: False,
    ) -> None:
        """needed: whether others start from a trial. repeats: whether it repeats the best."""
        self._options = options
        self._signs = [(each.metric, 1 if each.goal == "maximize" else -1) for each in objectives]
        self._needed = needed
        self._known = known
        self._repeats = repeats
        self._rules: dict[tuple[str, bool], StoppingRule] = {}
        self._courses: dict[str, tuple[Course, StoppingRule, Mapping[str, float]]] = {}
        self._epochs: dict[str, int] = {}  # of training, that each trial has reported

    def is_new(self, trial: str, epoch: int) -> bool:
        """Whether this epoch (0-based) of the trial is later than all that were reported."""
        return epoch >= self._epochs.get(trial, 0)

    def epochs(self, trial: str) -> int:
        """How many epochs of training the trial has reported."""
        return self._epochs.get(trial, 0)

    def first_epoch(self, trial: Trial) -> int:
        """The first epoch (0-based) that counts; those before decide nothing."""
        course, *_ = self._courses.get(trial.proposal.trial) or self._admit(trial)
        return course.start

    def ends(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Whether the trial ends after this epoch (0-based), having reported `metrics`.

        An epoch that is reported again, and one without the objectives, decides nothing. After its
        last epoch a trial is not ended: only its scores are left to do.
        """
        name = trial.proposal.trial
        if not self.is_new(name, epoch):
            return False
        self._epochs[name] = epoch + 1
        if self._repeats(trial):
            return False
        course, rule, known = self._courses.get(name) or self._admit(trial)
        counted = epoch + 1 - course.start
        values = self._values(metrics, known)
        if counted < 1 or values is None:
            return False
        ended = rule.ends(name, course, counted, values)
        return ended and epoch + 1 < course.epochs and not self._needed(trial)

    def _admit(self, trial: Trial) -> tuple[Course, StoppingRule, Mapping[str, float]]:
        group = group_of(trial)
        if group not in self._rules:
            self._rules[group] = RULES[self._options.type](self._options)
        found = Course.of(trial.config, self._options), self._rules[group], self._known(trial)
        self._courses[trial.proposal.trial] = found
        return found

    def _values(self, metrics: Mapping[str, float], known: Mapping[str, float]) -> Values | None:
        try:
            return tuple(
                [sign * (metrics[n] if n in metrics else known[n]) for n, sign in self._signs]
            )
        except KeyError:
            return None
