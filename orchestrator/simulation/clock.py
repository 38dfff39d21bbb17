"""A sweep played through on a virtual clock: workers take trials, curves say what they report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

import numpy as np

from orchestrator.search.protocol import Outcome
from orchestrator.search.turns import Turns
from orchestrator.simulation.curves import Curve
from orchestrator.stopping.judge import Judge
from orchestrator.trials.space import Trial
from trainables.contract.artifacts import TrialResult


@dataclass(frozen=True, slots=True)
class End:
    """How a trial ended; times in seconds of the virtual clock."""

    cell: str
    began: float
    ended: float
    epochs: int
    result: TrialResult | None  # None: a rule ended it


@dataclass(frozen=True)
class Played:
    """What became of a sweep."""

    ends: Sequence[End]  # in the order of their time

    @property
    def seconds(self) -> float:
        """Until the last end."""
        return self.ends[-1].ended if self.ends else 0.0

    @property
    def epochs(self) -> int:
        """Of all trials together."""
        return sum(end.epochs for end in self.ends)

    def time_of(self, epochs: float) -> float:
        """When all trials together had trained so many epochs; at the end where they never did."""
        began, ended, number = np.array(
            [(end.began, end.ended, end.epochs) for end in self.ends], dtype=float
        ).T
        rate = number / np.maximum(ended - began, 1e-12)
        low, high = 0.0, self.seconds
        for _ in range(60):
            middle = (low + high) / 2
            spent = float((rate * (np.clip(middle, began, ended) - began)).sum())
            low, high = (middle, high) if spent < epochs else (low, middle)
        return high


@dataclass(slots=True)
class _Running:
    """A trial with a worker, in epoch number `epoch` (0-based)."""

    trial: Trial
    curve: Curve
    began: float
    epoch: int


OutcomeOf = Callable[[Trial, int, TrialResult | None, Mapping[str, float]], Outcome]
"""From the trial, for how many epochs it was trained, its result (None: a rule ended it) and what
it last reported.
"""


def _plain(
    trial: Trial, epochs: int, result: TrialResult | None, last: Mapping[str, float]
) -> Outcome:
    return Outcome("pruned" if result is None else "finished", result, epochs)


def play(
    turns: Turns,
    judge: Judge | None,
    curve_of: Callable[[Trial], Curve],
    workers: int,
    outcome_of: OutcomeOf | None = None,
) -> Played:
    """Let `workers` train what the searches propose, one trial each at a time, until all have
    ended. judge: None where every trial trains to its last epoch. outcome_of: what the searches are
    told; default: no values. Nothing but epochs takes time.
    """
    events: list[tuple[float, int, _Running]] = []  # ends of epochs, of equal times the first set
    ends: list[End] = []
    number, now, free = count(), 0.0, workers
    while True:
        while free and (trial := turns.next()) is not None:
            curve = curve_of(trial)
            # the first epoch that could end it: those before decide nothing
            epoch = curve.epochs - 1 if judge is None else judge.first_epoch(trial)
            running = _Running(trial, curve, now, epoch)
            heappush(events, (now + (epoch + 1) * curve.epoch_seconds, next(number), running))
            free -= 1
        if not events:
            return Played(ends)
        now, _, running = heappop(events)
        trial, curve, epoch = running.trial, running.curve, running.epoch
        early = judge is not None and judge.ends(trial, epoch, curve.report(epoch))
        if early or epoch + 1 >= curve.epochs:
            result = None if early else curve.result
            ends.append(End(trial.proposal.cell, running.began, now, epoch + 1, result))
            tell = outcome_of or _plain
            turns.end(trial, tell(trial, epoch + 1, result, curve.report(epoch)))
            free += 1
        else:
            running.epoch += 1
            heappush(events, (now + curve.epoch_seconds, next(number), running))
