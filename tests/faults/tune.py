"""Stands for Tune: calls searcher, scheduler and callback in the orders that Ray's TuneController
can, chosen by a generator of random numbers.

As in Ray: a trial is asked for while fewer than `max_concurrent_trials` are unfinished; the
scheduler hears a report before the callback; a trial that the scheduler stops, or whose function
returns, is complete; a worker that dies, also one that never started, makes its trial start again
up to `max_failures` times, and then it has failed. Beyond Ray: ends and reports are now and then
told again after a trial's end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ray.tune import TuneError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tests.faults.workers import Worker
from trainables.ray_trainable import epochs_of

MOST_STEPS = 5000
"""Of one run: beyond, it does not end."""


@dataclass(eq=False)
class TuneTrial:
    """A trial as Tune knows it."""

    trial_id: str
    config: dict[str, Any]
    status: str = "PENDING"
    failures: int = 0
    last_result: dict[str, Any] = field(default_factory=dict)
    pickled_error_file: str | None = None
    worker: Worker | None = None
    undelivered: bool = False  # its worker has done something that the driver does not know yet

    @property
    def finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")


class Around(Protocol):
    """What the run happens in."""

    rng: random.Random
    again: float  # probability, per step, that an end or a report is told again
    unstarted: float  # probability that a worker dies before it starts
    unheard: float  # probability that a worker dies before its report is heard

    def start(self, config: dict[str, Any]) -> Worker: ...

    def happen(self) -> None:
        """Whatever else happens between two steps of Tune."""
        ...


class FakeTuner:
    """In the place of `tune.Tuner`. `around` is set before one is made."""

    around: Around

    def __init__(self, trainable: Any, tune_config: Any, run_config: Any) -> None:
        self._searcher, self._scheduler = tune_config.search_alg, tune_config.scheduler
        self._callbacks = run_config.callbacks
        self._stopper = run_config.stop
        self._most_failures = run_config.failure_config.max_failures
        self._samples = tune_config.num_samples
        self._at_once = tune_config.max_concurrent_trials
        self._trials: list[TuneTrial] = []
        self._search_ended = False
        self._waited = 0  # suggestions in a row that gave nothing while nothing ran
        self._rng = self.around.rng

    def fit(self) -> None:
        for _ in range(MOST_STEPS):
            if self._search_ended and all(trial.finished for trial in self._trials):
                return
            self.around.happen()
            for callback in self._callbacks:
                callback.on_step_begin(0, self._trials)
            self._ask()
            self._step()
            if self._stopper.stop_all():
                return  # as Tune does, without a word to the callback
        raise AssertionError("the run does not end")

    def speak(self) -> None:
        """All that there is to tell, once more: nobody listens."""
        for trial in self._trials:
            for event in ("start", "recover", "complete", "error"):
                self._tell(event, trial)
            self._tell("result", trial, {"epoch": 1000, "train_loss": 1.0})

    def _ask(self) -> None:
        unfinished = sum(not trial.finished for trial in self._trials)
        if self._search_ended or unfinished >= self._at_once:
            return
        number = f"t{len(self._trials)}"
        config = self._searcher.suggest(number)
        if config == Searcher.FINISHED:
            self._search_ended = True
        elif config is not None:
            self._trials.append(TuneTrial(number, config))
            self._search_ended = len(self._trials) >= self._samples
        self._waited = self._waited + 1 if config is None and not unfinished else 0
        assert self._waited < 20, "nothing runs, and the searcher waits"

    def _step(self) -> None:
        """One event, of one trial."""
        unfinished = [trial for trial in self._trials if not trial.finished]
        if unfinished:
            trial = self._rng.choice(unfinished)
            if trial.status == "PENDING":
                self._start(trial)
            else:
                self._hear(trial)
        if self._rng.random() < self.around.again and self._trials:
            self._tell_again(self._rng.choice(self._trials))

    def _start(self, trial: TuneTrial) -> None:
        if self._rng.random() < self.around.unstarted:
            self._fail(trial)
            return
        self._tell("start", trial)
        trial.status = "RUNNING"
        trial.worker = self.around.start(trial.config)

    def _hear(self, trial: TuneTrial) -> None:
        assert trial.worker is not None
        if not trial.undelivered and not trial.worker.ended:  # as one is that was killed
            trial.undelivered = trial.worker.go() != ("paused",)
            return
        trial.undelivered = False
        kind, *what = trial.worker.event
        if kind == "report" and self._rng.random() < self.around.unheard:
            self._fail(trial)
        elif kind == "report":
            self._report(trial, dict(what[0]))
        elif kind == "returned":
            trial.last_result["done"] = True
            self._complete(trial)
        elif kind in ("raised", "died"):
            self._fail(trial)

    def _report(self, trial: TuneTrial, result: dict[str, Any]) -> None:
        result["trial_id"] = trial.trial_id
        try:
            decision = self._scheduler.on_trial_result(None, trial, result)
        except Exception:  # Tune makes a text of it
            raise TuneError("Traceback (most recent call last): ...")  # noqa: B904
        if decision == TrialScheduler.STOP:
            result["done"] = True
        self._tell("result", trial, result)
        trial.last_result = result
        if decision == TrialScheduler.STOP:
            self._complete(trial)

    def _complete(self, trial: TuneTrial) -> None:
        self._scheduler.on_trial_complete(None, trial, trial.last_result)
        self._searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        self._tell("complete", trial)
        trial.status = "TERMINATED"
        self._leave(trial, "stop")

    def _fail(self, trial: TuneTrial) -> None:
        trial.failures += 1
        if trial.failures <= self._most_failures:
            self._leave(trial, "die")
            self._scheduler.on_trial_error(None, trial)
            trial.status = "PENDING"
            self._scheduler.on_trial_add(None, trial)
            self._tell("recover", trial)
            return
        self._scheduler.on_trial_error(None, trial)
        self._searcher.on_trial_complete(trial.trial_id, error=True)
        trial.status = "ERROR"
        self._leave(trial, "die")
        self._tell("error", trial)

    def _leave(self, trial: TuneTrial, command: str) -> None:
        if trial.worker is not None:
            trial.worker.end(command)
            trial.worker = None

    def _tell_again(self, trial: TuneTrial) -> None:
        """Late: what was told of a trial already, once more; of one that hangs, whose silence that
        would break, nothing.
        """
        if trial.worker is not None and trial.worker.hangs:
            return
        if epochs_of(trial.last_result):
            self._scheduler.on_trial_result(None, trial, dict(trial.last_result))
            self._tell("result", trial, dict(trial.last_result))
        if trial.finished:
            self._tell(self._rng.choice(["complete", "error"]), trial)

    def _tell(self, event: str, trial: TuneTrial, *what: Any) -> None:
        for callback in self._callbacks:
            listener: Callable[..., None] = getattr(callback, f"on_trial_{event}")
            listener(0, self._trials, trial, *what)
