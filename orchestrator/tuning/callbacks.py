"""Tune's events, passed on to the journal, the tracker and the display.

How a trial ended is read from its folder.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from orchestrator.record.copies import bring
from orchestrator.record.journal import Event
from orchestrator.record.past import headline
from orchestrator.record.states import Ending
from orchestrator.record.stop_requests import Stop
from orchestrator.search.protocol import Outcome
from orchestrator.tracking.tracker import Send
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.space import Trial
from orchestrator.tuning.early import EarlyStops
from orchestrator.tuning.progress import Display
from orchestrator.tuning.retaining import Retaining
from orchestrator.tuning.searcher import SweepSearcher
from orchestrator.tuning.signals import StopSwitch
from orchestrator.tuning.stalls import Stalls
from orchestrator.tuning.sweep_run import SweepRun
from orchestrator.tuning.workers import DIED, Death, count_as_failure, death_of, kill
from trainables.contract.artifacts import EPOCH_METRICS, TrialResult
from trainables.contract.disk import disk_problem
from trainables.ray_trainable import (
    AWAY,
    BEGAN,
    BRANCHED,
    CPU_S,
    DISK,
    FAILED,
    IN_EPOCH,
    SHARED,
    SHARED_EPOCHS,
    SHARED_S,
    STEP,
    STEPS,
    WALL_S,
    WARNING,
    epochs_of,
)

LOST_NODES = 10
"""A trial that loses so many nodes before it finishes another epoch may be what ends them: then
every further one costs it a restart.
"""


CUT_OFF = 3
"""So many trials in a row were given up because no node reached their address, or the store, and
none finished an epoch meanwhile: the sweep ends, to be resumed.
"""


def guarded(method: Callable[..., None]) -> Callable[..., None]:
    """An exception within ends the sweep and is kept as it is: Tune would make a text of it."""

    @wraps(method)
    def call(self: SweepCallback, *args: Any, **info: Any) -> None:
        if self.closed:
            return
        try:
            method(self, *args, **info)
        except Exception as error:
            self.error = self.error or error
            self.halt(disk_problem(error) or f"{type(error).__name__}: {error}")

    return call


class SweepCallback(Callback):  # type: ignore[misc]  # Ray ships no types
    """Listener on the one Tune run of a sweep."""

    def __init__(
        self,
        context: SweepRun,
        searcher: SweepSearcher,
        switch: StopSwitch,
        display: Display,
        early: EarlyStops,
        retaining: Retaining,
        sender: Callable[[str], Send | None],
    ) -> None:
        """early: knows the trials that a stopping rule has ended. retaining: frees the space of
        checkpoints. sender: of a trial that has just ended, what sends its files from its node.
        """
        self._context = context
        self._searcher = searcher
        self._switch = switch
        self._display = display
        self._early = early
        self._restarts: Counter[str] = Counter()  # those that count
        self._lost_nodes: Counter[str] = Counter()  # since the trial's last epoch
        self._away: dict[str, str] = {}  # trials whose last attempt was cut off -> of what
        self._cut_off = 0  # trials given up for that since an epoch was finished
        self._stalls = Stalls(context.sweep.failure)
        self._stalled: dict[str, str] = {}  # trials whose worker was ended for its silence -> why
        self._retaining = retaining
        self._sender = sender
        self._remaining = display.remaining  # is told what trials take
        self._epochs: Counter[str] = Counter()  # that a trial's last attempt has reported
        self._used: dict[str, tuple[float, float]] = {}  # wall clock and processor, seconds
        self._running: dict[str, Proposal] = {}
        self._delivered: set[str] = set()  # trials whose end was told; Tune may tell it again
        self._last_epoch: dict[str, int] = {}
        self.ended: set[str] = set()  # trials that have an ending, and need no other run
        self.error: Exception | None = None  # the first within this listener
        self.closed = False
        searcher.listen(self)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore of its own; a sweep continues from its files
        instead.
        """
        return {}

    @guarded
    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Tune asks for the next event: time to end workers that have gone silent."""
        silent = self._stalls.silent(time.monotonic())
        for trial in trials if silent else ():
            reason = silent.get(self._proposal(trial).trial)
            if reason is not None:
                self._stalled[self._proposal(trial).trial] = reason
                kill(trial)

    @guarded
    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """A worker has the trial, for the first time or after a restart."""
        started = self._searcher.trial_of(trial.trial_id)
        proposal = started.proposal
        source = trial.config["source"]
        self._context.journal.append(
            "trial_started",
            trial=proposal.trial,
            cell=proposal.cell,
            **({"source": source} if source else {}),
        )
        self._context.tracker.start_trial(
            proposal.trial, proposal.cell, started.config, proposal.axes, proposal.assignment
        )
        self._running[proposal.trial] = proposal
        self._away.pop(proposal.trial, None)
        self._stalls.started(proposal.trial)
        self._retaining.started(proposal)
        self._epochs[proposal.trial] = 0
        if self._remaining is not None:
            self._remaining.know(started)
        self._display.started(proposal.cell, proposal.trial, started.config.total_epochs)

    @guarded
    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        proposal = self._proposal(trial)
        name, epochs = proposal.trial, epochs_of(result)
        self._stalls.heard(name, epochs=sum(SHARED not in told for told in epochs))
        if BEGAN in result or BRANCHED in result:
            self._on_a_beginning(proposal, result)
        if WARNING in result:
            self._warned(proposal, str(result[WARNING]))
        if DISK in result:
            self.halt(result[DISK])
        if AWAY in result:
            self._away[name] = str(result[AWAY])
        for told in epochs:
            self._on_an_epoch(name, told)
        if STEP in result:
            self._display.step(name, result[IN_EPOCH], result[STEP], result[STEPS])
        if WALL_S in result:
            self._used[name] = (float(result[WALL_S]), float(result[CPU_S]))

    def _on_an_epoch(self, name: str, told: Mapping[str, Any]) -> None:
        self._epochs[name] += 1
        self._cut_off = 0
        epoch = int(told["epoch"])
        metrics = {key: float(told[key]) for key in EPOCH_METRICS if key in told}
        if epoch > self._last_epoch.get(name, -1):
            self._last_epoch[name] = epoch
            self._lost_nodes.pop(name, None)
            self._context.tracker.log_epoch(name, epoch, metrics)
        self._display.epoch(name, {"epoch": epoch, **metrics}, shared=SHARED in told)

    def _on_a_beginning(self, proposal: Proposal, result: dict[str, Any]) -> None:
        """The trial has left one to others, or starts from one."""
        event: Event = "beginning_trained" if BEGAN in result else "beginning_used"
        self._context.journal.append(
            event,
            trial=proposal.trial,
            cell=proposal.cell,
            beginning=result[BEGAN if BEGAN in result else BRANCHED],
            epochs=result[SHARED_EPOCHS],
            seconds=round(float(result[SHARED_S]), 3),
        )
        if BRANCHED in result:
            self._display.branched(proposal.trial, int(result[SHARED_EPOCHS]))

    def _warned(self, proposal: Proposal, text: str) -> None:
        self._context.journal.append(
            "trial_warned", trial=proposal.trial, cell=proposal.cell, text=text
        )
        self._display.note(f"warning   {proposal.trial}: {text}")

    @guarded
    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """The worker died, or the trial raised what another attempt may not meet again."""
        proposal, death = self._proposal(trial), self._death(trial)
        name = proposal.trial
        if self.ended_with_us(death):
            return  # it has no other worker in this run, see `close`
        self._no_worker(name)
        counts = death.counts
        if not counts:
            self._lost_nodes[name] += 1
            if self._lost_nodes[name] > LOST_NODES:
                counts = True
                count_as_failure(trial)
        which = "a restart that is not counted"
        told: dict[str, Any] = {"counted": False}
        if counts:
            self._restarts[name] += 1
            attempt, of = self._restarts[name], self._context.sweep.failure.max_restarts
            which, told = f"restart {attempt} of {of}", {"attempt": attempt, "of": of}
        self._context.journal.append(
            "trial_restarted", trial=name, cell=proposal.cell, **told, reason=death.reason
        )
        self._display.restarted(name, which, death.reason)

    def take_back(self, name: str, restarts: int) -> None:
        """So many restarts of a trial were not its own fault."""
        self._restarts[name] = max(0, self._restarts[name] - restarts)

    def _death(self, trial: TuneTrial) -> Death:
        stalled = self._stalled.pop(self._proposal(trial).trial, None)
        if stalled is None or self._switch.signalled:  # what fell silent may have ended with us
            return death_of(trial)
        return Death(stalled)

    def ended_with_us(self, death: Death) -> bool:
        """Whether a signal to this process may be what a worker died of: `timeout`, a shell and
        Slurm send theirs to all processes of a sweep.
        """
        return self._switch.signalled and death.reason.startswith(DIED)

    def _no_worker(self, name: str) -> None:
        self._running.pop(name, None)
        self._stalls.ended(name)

    @guarded
    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trial, reason=(trial.last_result or {}).get(FAILED))

    @guarded
    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Tune has given the trial up after its restarts. One that was cut off from its address, or
        the store, or whose worker ended as this process is to end, is not at fault: it goes on when
        the sweep is resumed.
        """
        name = self._proposal(trial).trial
        away = self._away.get(name)
        if away is not None:
            self._give_back(trial, away)
            return
        death = self._death(trial)
        if self.ended_with_us(death):
            self._ended(trial, reason=None)
            return
        restarts = self._restarts[name]
        after = f", after {restarts} restart{'' if restarts == 1 else 's'}" if restarts else ""
        self._ended(trial, reason=f"{death.reason}{after}")

    def _give_back(self, trial: TuneTrial, reason: str) -> None:
        name = self._proposal(trial).trial
        if name not in self._delivered:
            self._cut_off += 1
            self._display.note(f"AWAY      {name}: {reason}; it goes on when the sweep is resumed")
        self._ended(trial, reason=None)
        if self._cut_off >= CUT_OFF:
            self.halt(reason)

    def _ended(self, trial: TuneTrial, reason: str | None) -> None:
        proposal = self._proposal(trial)
        if proposal.trial in self._delivered:
            return
        self._delivered.add(proposal.trial)
        self._no_worker(proposal.trial)
        folder = proposal.folder(self._context.folder)
        bring(folder.path)
        result = folder.load_if_complete()
        outcome: Outcome | None = None
        if result is not None:
            self._finished(self._searcher.trial_of(trial.trial_id), result)
            outcome = Outcome.finished(result, self._context.sweep.objectives)
        elif proposal.trial in self._early.pruned:
            outcome = self._was_pruned(self._searcher.trial_of(trial.trial_id))
        elif reason is not None:
            self._failed(self._searcher.trial_of(trial.trial_id), reason)
            outcome = Outcome("failed")
        else:
            self._interrupted(proposal)
        if proposal.trial in self.ended:
            self._early.forget(proposal.trial)
        self._searcher.tell(trial.trial_id, outcome)

    def _finished(self, trial: Trial, result: TrialResult) -> None:
        proposal, used = trial.proposal, self._used.pop(trial.proposal.trial, None)
        # of a trial that went on from a checkpoint only a part is known
        if used is not None and self._epochs[proposal.trial] != trial.config.total_epochs:
            used = None
        if used is not None and self._remaining is not None:
            self._remaining.finished(trial, *used, result.shared_epochs)
        took = {} if used is None else {"wall_s": round(used[0], 3), "cpu_s": round(used[1], 3)}
        if result.shared_epochs:
            took |= {"shared_seconds": round(result.shared_seconds, 3)}
        self._context.journal.append(
            "trial_finished",
            trial=proposal.trial,
            cell=proposal.cell,
            seconds=result.seconds,
            **took,
            **headline(result.metrics()),
        )
        folder = proposal.folder(self._context.folder)
        send = self._sender(proposal.trial)
        self._context.tracker.finish_trial(proposal.trial, folder, "finished", send=send)
        self._display.finished(proposal.cell, proposal.trial, result)
        self._has_ended(proposal, "finished", result)

    def _was_pruned(self, trial: Trial) -> Outcome:
        proposal = trial.proposal
        outcome = self._early.end(self._context.journal, trial)
        folder = proposal.folder(self._context.folder)
        self._context.tracker.finish_trial(proposal.trial, folder, "pruned", "", outcome.epochs)
        self._display.pruned(proposal.cell, proposal.trial, outcome.epochs)
        self._has_ended(proposal, "pruned")
        return outcome

    def _interrupted(self, proposal: Proposal) -> None:
        """It goes on from its checkpoint when the sweep is resumed."""
        shown = self._display.snapshot().trials
        now = next((attempt for attempt in shown if attempt.trial == proposal.trial), None)
        known = (
            {"epochs": now.epoch, "best_top1": now.best_top1}
            if now is not None and now.epoch
            else {}
        )
        self._context.journal.append(
            "trial_interrupted", trial=proposal.trial, cell=proposal.cell, **known
        )
        folder = proposal.folder(self._context.folder)
        self._context.tracker.finish_trial(proposal.trial, folder, "interrupted")
        self._display.interrupted(proposal.trial)

    @guarded
    def discard(self, trial: Trial) -> None:
        """Its cell's search does not need it."""
        proposal = trial.proposal
        self._context.journal.append(
            "trial_discarded",
            trial=proposal.trial,
            cell=proposal.cell,
            reason=f"method {self._context.sweep.method.name} did not ask for it",
        )
        self._display.discarded(proposal.cell)
        self._has_ended(proposal, "discarded")

    @guarded
    def give_up(self, trial: Trial, reason: str) -> None:
        """A trial that cannot start, because none that it could start from has a result."""
        self._failed(trial, reason)

    def _failed(self, trial: Trial, reason: str) -> None:
        proposal = trial.proposal
        # its worker may never have started: a run that is open stays as it is
        self._context.tracker.start_trial(
            proposal.trial, proposal.cell, trial.config, proposal.axes, proposal.assignment
        )
        self._context.journal.append(
            "trial_failed", trial=proposal.trial, cell=proposal.cell, reason=reason
        )
        folder = proposal.folder(self._context.folder)
        self._context.tracker.finish_trial(proposal.trial, folder, "failed", reason)
        self._display.failed(proposal.cell, proposal.trial, reason)
        self._has_ended(proposal, "failed")

    def _has_ended(
        self, proposal: Proposal, ending: Ending, result: TrialResult | None = None
    ) -> None:
        """It needs no other run; told everywhere, so that its checkpoint may go."""
        self.ended.add(proposal.trial)
        self._retaining.ended(proposal, ending, result)
        if self._remaining is not None:
            self._remaining.end(proposal.trial)

    def halt(self, reason: str) -> None:
        """The whole sweep ends, to be resumed: said once."""
        if self._switch.stop() is None:
            self._display.note(f"STOPPING  {reason}: running trials end, no others start")
        self._switch.cancel(Stop("system", reason))

    def close(self) -> None:
        """Tune has ended, or is left behind: what still ran is interrupted, and nothing more is
        listened to.
        """
        for proposal in self._running.values():
            self._left_behind(proposal)
        self.closed = True

    @guarded
    def _left_behind(self, proposal: Proposal) -> None:
        self._interrupted(proposal)

    def _proposal(self, trial: TuneTrial) -> Proposal:
        return self._searcher.trial_of(trial.trial_id).proposal
