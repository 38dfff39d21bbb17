"""What is left of a sweep's trials, corrected by those that have ended. Knows no Ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from orchestrator.planning.calibration import Correction, Observations, correction_of
from orchestrator.planning.expected import Expected, TrialTime
from orchestrator.planning.machine import Machine, this_machine
from orchestrator.planning.sharing import Sharing
from orchestrator.planning.sizes import Sizes
from orchestrator.planning.stopping import early_stopping
from orchestrator.record.times import Times, earlier_times, load_times, write_times
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.space import Trial
from orchestrator.tuning.sweep_run import SweepRun
from trainables.contract.disk import warn_once
from trainables.contract.errors import UserError

log = logging.getLogger(__name__)

WRITE_EVERY_S = 10.0
MORE_THREADS = 1.2
"""A trial whose processor time is so many times its wall clock had more than one thread."""


@dataclass
class History:
    """What trials have taken: in earlier sweeps, and in this one, in whatever run of it."""

    machine: Machine
    run: Path
    earlier: Correction = field(default_factory=Correction)
    seen: Observations = field(default_factory=Observations)
    # how much longer trials of this run took than their processor time
    _loads: list[float] = field(default_factory=list)
    _write_at: float = 0.0

    def add(self, expected: TrialTime, wall: float, cpu: float) -> None:
        """A trial was trained from its first epoch to its last by one worker in so many seconds.

        The processor time of its one thread is what it needs, whatever else runs on the machine;
        what it took beyond, trials to come will take, too.
        """
        one_thread = self.machine.cpus == 1 and not self.machine.gpus
        if one_thread and cpu > MORE_THREADS * wall:
            return  # of `cpus: auto`: more threads say nothing of one
        self.seen.add(expected.kind, expected.seconds, cpu if one_thread else wall)
        if one_thread and cpu > 0:
            self._loads.append(max(wall / cpu, 1.0))
        if time.monotonic() >= self._write_at:
            self.write()

    def write(self) -> None:
        """Note it for later plans; what cannot be noted is said once."""
        self._write_at = time.monotonic() + WRITE_EVERY_S
        kinds = self.seen.correction().kinds
        if not kinds:
            return
        try:
            write_times(self.run, Times(self.machine.name, kinds))
        except OSError as error:
            warn_once(log, f"{self.run}: how long its trials take cannot be noted: {error}")

    def factors(self) -> Callable[[str], float]:
        """By kind: how much longer a trial will take now than was computed."""
        load = median(self._loads) if self._loads else 1.0
        correction = self.seen.correction().over(self.earlier)
        return lambda kind: load * correction.of(kind)


class Remaining:
    """Trials that have not ended, and how long each is expected to take."""

    def __init__(
        self, time_of: Callable[[Trial], TrialTime], history: History, share: float = 1.0
    ) -> None:
        """share: of the epochs of trials that wait, those that early stopping leaves."""
        self.history = history
        self._time_of = time_of
        self._share = share
        self._left: dict[str, TrialTime] = {}
        self._ended: set[str] = set()
        self._totals: dict[str, float] = {}  # seconds of those that are left, by kind
        self._factor = history.factors()

    def know(self, trial: Trial, shared_epochs: int = 0) -> None:
        """It is to be run, or runs; shared_epochs: those that another one trains for it."""
        name = trial.proposal.trial
        if name not in self._left and name not in self._ended:
            whole = self._time_of(trial)
            self._left[name] = time = replace(whole, epochs=whole.epochs - shared_epochs)
            self._totals[time.kind] = self._totals.get(time.kind, 0.0) + self._shortened(time)

    def end(self, trial: str) -> None:
        """It has an ending."""
        time = self._left.pop(trial, None)
        self._ended.add(trial)
        if time is not None:
            self._totals[time.kind] -= self._shortened(time)

    def finished(self, trial: Trial, wall: float, cpu: float, shared_epochs: int = 0) -> None:
        """What it took, from its first epoch to its last but for those that another trained."""
        time = self._time_of(trial)
        self.history.add(replace(time, epochs=time.epochs - shared_epochs), wall, cpu)
        self._factor = self.history.factors()

    def trial_seconds(self, name: str) -> float | None:
        """Of a whole trial that has not ended; None where nothing is known of it."""
        time = self._left.get(name)
        return None if time is None else self._factor(time.kind) * time.seconds

    def waiting_seconds(self, running: Iterable[str], number: int) -> float | None:
        """Of `number` trials that wait: those that are known but not running, and others like them;
        None where none is known.
        """
        totals, known = dict(self._totals), len(self._left)
        for name in running:
            if (time := self._left.get(name)) is not None:
                totals[time.kind] -= self._shortened(time)
                known -= 1
        if number <= 0:
            return 0.0
        if known <= 0:
            return None
        seconds = sum(self._factor(kind) * total for kind, total in totals.items())
        return max(seconds, 0.0) * number / known

    def _shortened(self, time: TrialTime) -> float:
        return time.once + self._share * time.epochs * time.epoch


def remaining_of(
    context: SweepRun,
    waiting: Mapping[str, Iterable[Trial]],
    begun: Mapping[str, float],
    at_once: int,
) -> Remaining | None:
    """Of a sweep that is about to run; on a cluster only its own trials correct what is expected.
    None where its store cannot be opened, of which its trials will say more.

    waiting: its trials that have no ending, by cell. begun: epochs of the checkpoints that some of
    them go on from. at_once: trials that run at a time.
    """
    from trainables.data.store.cache import open_outline

    sweep, run = context.sweep, context.folder
    try:
        store = open_outline(sweep.data.store)
    except UserError:
        return None
    machine = this_machine(sweep.resources, context.address)
    split = store.split(sweep.data.protocol, sweep.data.selection)
    expected = Expected(Sizes(store), split, machine.pace)
    before = load_times(run)
    own = [before] if before is not None and before.machine == machine.name else []
    earlier = earlier_times(run.parent, machine.name)
    history = History(machine, run, correction_of(earlier), Observations(correction_of(own)))
    early = early_stopping(sweep, context.trials, at_once)
    share = 1.0 if early is None else (early.low + early.high) / 2 / early.total
    remaining = Remaining(lambda trial: expected.of(trial.config), history, share)
    known = [trial for trials in waiting.values() for trial in trials]
    ended = {each.proposal.trial for each in context.trials} - {t.proposal.trial for t in known}
    sharing = Sharing(shared_beginnings(sweep, context.trials), ended, begun, run)
    for trial in known:
        start = sharing.starts.get(trial.proposal.trial)
        remaining.know(trial, 0 if start is None else start.epochs)
    return remaining
