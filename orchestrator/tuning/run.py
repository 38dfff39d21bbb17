"""Run the trials of a sweep that have not ended yet, as one Tune run.

Knows nothing of ensembles or reports.
"""

from __future__ import annotations

import gc
import shutil
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, Stopper, TuneError

from orchestrator.record.copies import place_of
from orchestrator.record.folder import SCRATCH
from orchestrator.record.journal import read_journal
from orchestrator.record.keeping import problem, reached
from orchestrator.record.past import load_past, write_ends
from orchestrator.record.running import Running, remove_running, write_running
from orchestrator.record.states import TrialState, begun_epochs, load_trials, open_slots
from orchestrator.record.stop_requests import Stop
from orchestrator.search.making import asked_searches, asks, listed_searches
from orchestrator.search.protocol import Wait
from orchestrator.search.turns import Turns
from orchestrator.sweep.stopping import NoEarlyTermination
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.proposed import Trial
from orchestrator.trials.space import cells_of
from orchestrator.tuning.beginnings import Beginnings
from orchestrator.tuning.callbacks import SweepCallback
from orchestrator.tuning.cluster import (
    Cluster,
    ClusterLost,
    Growing,
    Slots,
    fit_slots,
    in_words,
    live_nodes,
    possible_nodes,
    ray_cluster,
)
from orchestrator.tuning.couriers import Couriers
from orchestrator.tuning.early import EarlyStops
from orchestrator.tuning.nodes import NodeWatch, placed_elsewhere
from orchestrator.tuning.progress import Display
from orchestrator.tuning.remaining import remaining_of
from orchestrator.tuning.retaining import Retaining
from orchestrator.tuning.room import Room
from orchestrator.tuning.scheduler import SweepScheduler
from orchestrator.tuning.searcher import SweepSearcher
from orchestrator.tuning.shares import Grant, Shares
from orchestrator.tuning.shares_adapter import ShareReports, at_most_shared, most_at_once, shares_of
from orchestrator.tuning.signals import StopSwitch, fresh_switch, signals_cancel, time_budget
from orchestrator.tuning.snapshots import one_snapshot
from orchestrator.tuning.sources import Sources
from orchestrator.tuning.sweep_run import SweepRun
from orchestrator.tuning.timing import Timing, untimed
from orchestrator.tuning.waiting import WaitingForCores
from orchestrator.tuning.workers import plain_workers, survivable_deaths
from trainables.contract.disk import disk_problem
from trainables.contract.errors import TrialFailed
from trainables.ray_trainable import TrialRequest, resources_of, train
from trainables.sparse.rows import compiled

TICK_S = 1.0
EPOCHS_TOGETHER_S = 2.0
"""Shorter ones are reported together: as long as they share a checkpoint."""
RECORD_EVERY_S = 5.0
"""Between two records of how far the running trials are."""


def run_trials(context: SweepRun) -> Stop | None:
    """Run every trial that has no ending yet; returns why the run was cut short, or None where all
    of them have one.

    UserError where Ray cannot be had or no node can hold a trial.
    """
    switch = context.switch or fresh_switch(context.folder)
    states, early = _complete_ends(context)
    totals = context.slots or Counter(trial.proposal.cell for trial in context.trials)
    with ExitStack() as stack:
        display = stack.enter_context(Display(totals))
        waiting = _waiting(context, states, totals, display)
        begun = begun_epochs(context.folder, states.values())
        beginnings = _beginnings(context, waiting, begun)
        retaining = Retaining(context, states.values(), beginnings)
        retaining.start()  # before space is asked for: the policy may have changed
        room = Room(context)
        turns = turns_of(context, waiting, states)
        turns.hold = beginnings.waits
        to_run = not turns.over
        if switch.stop() is not None or not (to_run or untimed(context)):
            stop = switch.stop()
            switch.requests.clear()
            return stop
        cluster = _join_cluster(context, switch, display, stack)
        stack.enter_context(time_budget(switch, context.seconds_left, display.note))
        place = context.sweep.problem(("resources",), "")
        slots = fit_slots(context.sweep.resources, possible_nodes(), place)
        display.at_once = slots.concurrent
        display.remaining = remaining_of(context, waiting, begun, slots.concurrent)
        display.note(f"{in_words(slots.concurrent, 'trial')} at a time, each with {slots.words}")
        room.check_start(states.values(), slots.concurrent)
        couriers = stack.enter_context(Couriers(cluster))
        tune_run = TuneRun(
            *(context, turns, slots, switch, display, early, retaining, room, beginnings),
            couriers,
        )
        ended = tune_run.fit(cluster) if to_run else set()
        before = {name for name, state in states.items() if state.ended}
        unended = {trial.proposal.trial for trial in context.trials} - ended - before
        more = sum(open_slots(read_journal(context.journal.path)).values())
        # before networks are timed: sending takes cores
        couriers.settle(lambda: switch.stop() is not None, context.journal.heartbeat, display.note)
        if not unended and not more:
            left = untimed(context, sparse=not slots.gpus and compiled())
            if left:
                # while the process that times networks loads torch: nothing is measured yet
                context.tracker.expect_evaluation()
            Timing(context, slots, cluster, lambda: switch.stop() is not None, display.note).run(
                left
            )
    stop = switch.stop()
    switch.requests.clear()
    if not unended and not more:
        return None
    words = in_words(len(unended) + more, "trial")
    return stop or Stop("system", f"Ray Tune ended, but {words} did not")


def _complete_ends(context: SweepRun) -> tuple[dict[str, TrialState], EarlyStops]:
    """The trials' states and what ends trials early, once the ends that a killed run could not
    tell are written down.
    """
    states = _states(context)
    write_ends(context.folder, context.journal, states.values())
    ended = [name for name, state in states.items() if state.ended]
    early = EarlyStops(context.sweep, context.folder, context.trials, ended, context.behind)
    if _end_pruned(context, early, states):
        states = _states(context)
    return states, early


def _states(context: SweepRun) -> dict[str, TrialState]:
    return {state.proposal.trial: state for state in load_trials(context.folder)}


def _waiting(
    context: SweepRun,
    states: Mapping[str, TrialState],
    cells: Iterable[str],
    display: Display,
) -> dict[str, list[Trial]]:
    """The trials that have not ended, by cell; the others are counted in."""
    waiting: dict[str, list[Trial]] = {cell: [] for cell in cells}
    for trial in context.trials:
        state = states[trial.proposal.trial]
        if state.ended:
            _count_in(trial, state, context, display)
        else:
            waiting.setdefault(trial.proposal.cell, []).append(trial)
    return waiting


def _beginnings(
    context: SweepRun, waiting: Mapping[str, list[Trial]], begun: Mapping[str, float]
) -> Beginnings:
    """Those that trials share. begun: see `begun_epochs`."""
    left = [trial.proposal.trial for trials in waiting.values() for trial in trials]
    shared = shared_beginnings(context.sweep, context.trials)
    return Beginnings(context.folder, shared, left, begun)


def _join_cluster(
    context: SweepRun, switch: StopSwitch, display: Display, stack: ExitStack
) -> Cluster:
    """The cluster, left with the stack unless it was started ahead; signals cancel from now on."""
    take_signals = stack.enter_context(signals_cancel(switch, display.note))
    if context.cluster is not None:
        cluster = context.cluster()
    else:
        cluster = stack.enter_context(ray_cluster(context.address, display.note))
    take_signals()  # Ray has handlers of its own
    return cluster


def _end_pruned(context: SweepRun, early: EarlyStops, states: Mapping[str, TrialState]) -> bool:
    """Write down the ends by a rule that a killed run could not; returns whether there are any."""
    left = [
        trial
        for trial in context.trials
        if trial.proposal.trial in early.pruned and not states[trial.proposal.trial].ended
    ]
    for trial in left:
        early.end(context.journal, trial)
    return bool(left)


def _count_in(trial: Trial, state: TrialState, context: SweepRun, display: Display) -> None:
    """Count a trial that ended in an earlier run of the sweep, and tell its end to a tracker that
    may have missed it.
    """
    proposal, tracker = trial.proposal, context.tracker
    if state.result is not None:
        display.complete_before(proposal.cell, state.result)
    elif state.ending is not None:
        display.ended_before(proposal.cell, state.ending)
    if state.ending is None or state.ending == "discarded":
        return
    if tracker.knows_end(proposal.trial, state.ending):
        return
    tracker.start_trial(
        proposal.trial, proposal.cell, trial.config, proposal.axes, proposal.assignment
    )
    tracker.finish_trial(
        proposal.trial,
        proposal.folder(context.folder),
        state.ending,
        state.reason or "",
        state.stopped_at,
    )


def turns_of(
    context: SweepRun, waiting: Mapping[str, list[Trial]], states: Mapping[str, TrialState]
) -> Turns:
    """The searches of all cells. waiting: trials that have not ended, by cell."""
    sweep, run = context.sweep, context.folder
    if not asks(sweep):
        return Turns(listed_searches(sweep, waiting), waiting)
    proposals = [trial.proposal for trial in context.trials]
    # the turn goes on with the cells that had the fewest
    cells = [cell for cell, _ in sorted(cells_of(sweep, proposals), key=lambda each: len(each[1]))]
    past = load_past(run, sweep, context.trials, states)
    return Turns(
        asked_searches(sweep, cells, context.trials, past, context.earlier),
        {},
        begun=[trial for trials in waiting.values() for trial in trials],
        behind=context.behind,
        propose=context.propose,
        exhausted=context.exhausted,
        slots=sum(context.slots.values()),
    )


class EndAtOnce(Stopper):  # type: ignore[misc]  # Ray ships no types
    """Ends the Tune run without waiting for trials that could not be asked to stop."""

    def __init__(self, switch: StopSwitch) -> None:
        self._switch = switch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._switch.at_once


@cache
def _leave_modules_alone() -> None:
    """Python no longer looks for cycles among what is loaded by now, modules of Ray, Tune and
    MLflow: 0.8 s as a sweep ends. Once a process: it would keep what an earlier sweep left.
    """
    gc.freeze()


@dataclass
class TuneRun:
    """One Tune run over the trials that wait, watched from the main thread."""

    context: SweepRun
    turns: Turns
    slots: Slots
    switch: StopSwitch
    display: Display
    early: EarlyStops
    retaining: Retaining
    room: Room
    beginnings: Beginnings
    couriers: Couriers

    def fit(self, cluster: Cluster) -> set[str]:
        """Run it; returns the trials that have an ending.

        Where the disk is full or the cluster is gone, the switch says so. Any other exception is
        raised as it was, not as Tune's text of it.
        """
        sources = Sources(
            self.context.sweep, self.context.folder, self.context.trials, self.context.fetched
        )
        # a failure that was taken back, an earlier request to stop: a worker would see them
        reached(self.context.folder, trials=True)
        more = sum(open_slots(read_journal(self.context.journal.path)).values())
        left = self.turns.unended + more
        shares = shares_of(self.context, self.slots, left, self.display.note)
        searcher = SweepSearcher(
            self.turns,
            lambda trial: self._request(trial, sources, shares),
            self.switch.closed,
            self._growing(),
        )
        scheduler = SweepScheduler(self.early, searcher.trial_of)
        callback = SweepCallback(
            *(self.context, searcher, self.switch, self.display, self.early, self.retaining),
            lambda trial: self.couriers.of(watch.where(trial)),
        )
        watch = NodeWatch(
            self.context,
            self.slots,
            lambda trial: searcher.trial_of(trial.trial_id).proposal.trial,
            callback.take_back,
            callback.ended_with_us,
            self.display.note,
        )
        monitor = Monitor(self, cluster)
        _leave_modules_alone()
        try:
            with ExitStack() as within:
                within.enter_context(warnings.catch_warnings())
                within.enter_context(survivable_deaths())
                within.enter_context(plain_workers())
                within.enter_context(one_snapshot())
                within.enter_context(placed_elsewhere(watch.avoided))
                warnings.simplefilter("ignore")  # Tune warns of its own defaults; ours are meant
                told = ShareReports(shares, searcher.trial_of)
                # in this order: where a trial ran, the watch knows until it is told of the end
                tuner = self._tuner(searcher, scheduler, [callback, told, watch])
                beside(tuner.fit, monitor.tick)
        except ClusterLost as error:
            self.switch.cancel(Stop("system", str(error)))
        except Exception as error:
            self._stop_or_raise(error)
        finally:
            callback.close()
            monitor.close()
            if self.display.remaining is not None:
                self.display.remaining.history.write()
            shutil.rmtree(self.context.folder / SCRATCH, ignore_errors=True)
        if callback.error is not None:
            self._stop_or_raise(callback.error)
        return callback.ended

    def _growing(self) -> Growing | None:
        """What keeps a search that learns from proposing trials for nodes that are not there yet;
        None where none is to be kept.
        """
        if not asks(self.context.sweep) or len(live_nodes()) == len(possible_nodes()):
            return None
        wanted, gpus = at_most_shared(self.context.sweep.resources, self.slots), self.slots.gpus
        return Growing(wanted, gpus if wanted.gpus == "auto" else float(wanted.gpus))

    def _request(
        self, trial: Trial, sources: Sources, shares: Shares
    ) -> dict[str, Any] | Wait | None:
        """What Tune gives to the trial's worker, or what stands for it where no resources are
        granted now, see `Shares`.
        """
        granted = shares.grant(trial)  # asked often; a source is looked for once
        if granted is None or isinstance(granted, Wait):
            return granted
        self.context.begin()
        try:
            source = sources.folder(trial)
        except TrialFailed:
            shares.end(trial.proposal.trial)
            raise
        return dict(
            TrialRequest(
                config=trial.config.model_dump_json(),
                root=str(Path.cwd()),
                out=place_of(trial.proposal.folder(self.context.folder).path.absolute()),
                source=None if source is None else place_of(source),
                cancel_file=place_of(self.switch.requests.cancel_file.absolute()),
                threads=granted.cpus,
                cpus=granted.cpus,
                gpu_fraction=granted.gpus,
                timed=self.context.sweep.chooses_by_latency,
                start=self.beginnings.start(trial.proposal.trial),
                leave=self.beginnings.leave(trial.proposal.trial),
                together_s=self._together_s(granted),
            )
        )

    def _together_s(self, granted: Grant) -> float:
        """Rules that end trials, and what measures how many share a GPU, hear of every epoch as it
        ends; a silence that counts is longer.
        """
        sweep = self.context.sweep
        if granted.gpus or not isinstance(sweep.early_terminate, NoEarlyTermination):
            return 0.0
        return min(EPOCHS_TOGETHER_S, sweep.failure.stall_seconds / 10)

    def _tuner(
        self, searcher: SweepSearcher, scheduler: SweepScheduler, callbacks: list[Callback]
    ) -> tune.Tuner:
        folder = self.context.folder / SCRATCH
        shutil.rmtree(folder, ignore_errors=True)
        memory = self.context.sweep.resources.per_trial_memory_gb
        bytes_each = None if memory is None else memory * 2**30
        return tune.Tuner(
            tune.with_resources(train, partial(resources_of, memory_bytes=bytes_each)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=self.turns.most,
                max_concurrent_trials=most_at_once(self.context.sweep.resources, self.slots),
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.trial_id),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="run",
                storage_path=str(folder.absolute()),
                callbacks=callbacks,
                failure_config=tune.FailureConfig(
                    max_failures=self.context.sweep.failure.max_restarts
                ),
                stop=EndAtOnce(self.switch),
                verbose=0,
            ),
        )

    def stop_for(self, shortage: str) -> None:
        """Too little is free: running trials write a checkpoint and end, said once."""
        if self.switch.stop() is None:
            self.display.note(f"STOPPING  {shortage}")
        self.switch.cancel(Stop("system", shortage))

    def _stop_or_raise(self, error: BaseException) -> None:
        """A full disk ends the sweep resumably; any other error is raised as it was before Tune
        made a text of it.
        """
        problem = disk_problem(error)
        if problem is None:
            while isinstance(error, TuneError) and error.__context__ is not None:
                error = error.__context__
            raise error
        self.switch.cancel(Stop("system", problem))


class Monitor:
    """What is looked after while Tune runs: the cluster's head, free cores, the record for
    `status`.
    """

    def __init__(self, tune_run: TuneRun, cluster: Cluster) -> None:
        self._run = tune_run
        self._cluster = cluster
        self._cores = WaitingForCores(
            tune_run.context.sweep.resources, tune_run.slots, tune_run.display.note
        )
        self._written = Running()
        self._write_at = 0.0

    def tick(self) -> None:
        """Called about once a second. ClusterLost where there is nothing to wait for any more."""
        self._cluster.check(signalled=self._run.switch.signalled)
        self._run.couriers.look()
        running = self._run.display.snapshot()
        self._cores.check(len(running.trials))
        running = replace(running, waits_for=self._cores.waits_for)
        shortage = problem(self._run.context.folder) or self._run.room.problem(
            [trial.trial for trial in running.trials]
        )
        if shortage is not None:
            self._run.stop_for(shortage)
        try:
            self._run.context.journal.heartbeat()
            self._write(running)
        except OSError as error:
            self._run.switch.cancel(Stop("system", disk_problem(error) or str(error)))

    def _write(self, running: Running) -> None:
        now = time.monotonic()
        if now < self._write_at or running == self._written:
            return
        self._written, self._write_at = running, now + RECORD_EVERY_S
        write_running(self._run.context.folder, running)

    def close(self) -> None:
        """Nothing runs any more."""
        with suppress(OSError):
            remove_running(self._run.context.folder)


def beside(work: Callable[[], Any], tick: Callable[[], None]) -> None:
    """Do `work` in a thread of its own, and `tick` every TICK_S seconds in this one until it ends;
    an exception of either is raised here, one of `tick` without waiting for the work.

    Signal handlers are set and called in the main thread alone, so they stay ours whatever Tune
    would like to install.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="tune", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(TICK_S)
        if thread.is_alive():
            tick()
    if errors:
        raise errors[0]
