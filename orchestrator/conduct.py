"""The story of one sweep: from a checked file to trials, ensembles, the final evaluation and the
report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.ensembling.bundling import write_bundle
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.pools import check_ended, pool_of_sweep
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.planning.check import runs_of
from orchestrator.planning.node_facts import package_versions
from orchestrator.planning.plan import Plan, plan
from orchestrator.record.commands import command
from orchestrator.record.copies import place_of, remove
from orchestrator.record.extending import tell_extensions
from orchestrator.record.folder import (
    Prepared,
    folder_of,
    held,
    journal_of_run,
    load_folder,
    opened,
    page_of,
    prepare,
)
from orchestrator.record.forecasts import note_forecast
from orchestrator.record.journal import Event, read_journal, running_seconds
from orchestrator.record.proposals import load_proposals, propose
from orchestrator.record.retention import may_go, remove_unneeded, unneeded_of_sweep
from orchestrator.record.states import load_trials, open_slots
from orchestrator.record.stop_requests import Stop
from orchestrator.record.warm_start import warm_up
from orchestrator.report.beside import ReportBeside
from orchestrator.report.writing import write_report
from orchestrator.sweep import Sweep
from orchestrator.tuning.signals import fresh_switch, signals_cancel
from orchestrator.tuning.sweep_run import SweepRun, known_trials
from trainables.contract.errors import OutOfSpace, StorageFailed, UserError

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import Tracker

log = logging.getLogger(__name__)

DONE, TOO_MANY_FAILED, BUDGET_ENDED, INTERRUPTED = 0, 3, 5, 130
"""Exit codes of `orchestrate sweep`."""


Start = Literal["plain", "retry failed", "extend"]
"""retry failed: trials that failed in an earlier run are run again. extend: the sweep has more
trials than its folder says.
"""

SHOWN = 5
"""Of what MLflow lacks, in a message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a sweep ended."""

    run: Path
    exit_code: int
    evaluation: FinalEvaluation | None  # None: it was cut short, or no trial finished
    report: Path | None  # its page
    messages: tuple[str, ...]  # for the person, in order


def conduct(
    sweep: Sweep,
    address: str | None,
    note: Callable[[str], None],
    *,
    run: Path | None = None,
    start: Start = "plain",
    planned: Plan | None = None,
) -> Outcome:
    """Run what is missing of a sweep, then build ensembles and the report; everything complete is
    kept as it is.

    address: HOST:PORT of a Ray cluster; None: this machine. note: says one line to the person.
    run: the sweep's folder where it was given another name. planned: the sweep's plan, where it was
    made already.
    """
    run = run or folder_of(sweep)
    with opened(run) as opening, ExitStack() as end:
        prepared = prepare(sweep, run, extends=start == "extend")
        with ExitStack() as ahead:
            switch, cluster = fresh_switch(run), None
            ahead.enter_context(signals_cancel(switch, note, "no trial is started"))
            if start != "plain" or _is_left(run):
                # Ray is loaded only now that the file is known to be good, Tune while Ray starts
                from orchestrator.tuning.cluster import cluster_ahead

                cluster = ahead.enter_context(cluster_ahead(address, note, end))
            from orchestrator.tuning.run import run_trials

            context = replace(
                _context(sweep, run, prepared, address),
                cluster=cluster,
                switch=switch,
                begin=opening.begin,
            )
            try:
                _begin(context, prepared, note)
                if start == "retry failed":
                    note(f"failed trials that are tried again: {_retry_failed(context)}")
                _forecast(context, planned)
                stop = run_trials(context) or _cut_short(run)
                ahead.close()  # Ray ends beside what follows
                return _interrupt(context, stop) if stop is not None else _finish(context)
            except (OutOfSpace, StorageFailed) as error:
                return _interrupt(context, Stop("system", str(error)))
            except BaseException as error:
                _last_word(context, f"{type(error).__name__}: {error}")
                context.tracker.finish_sweep("failed", {}, None)
                raise


def _is_left(run: Path) -> bool:
    """Whether trials are left to run, as far as the folder tells."""
    states = load_trials(run)
    more = open_slots(read_journal(run / "journal.jsonl"))
    return not states or bool(more) or not all(state.ended for state in states)


def _context(
    sweep: Sweep,
    run: Path,
    prepared: Prepared,
    address: str | None,
) -> SweepRun:
    """What this run of the sweep works with; its trials are those of earlier runs and the rest."""
    events = read_journal(run / "journal.jsonl")
    trials, slots, behind = known_trials(sweep, load_proposals(run))
    fetched = _fetch_sources(sweep, run)
    seconds_left = _seconds_left(sweep, events)
    journal = journal_of_run(run)
    earlier = warm_up(sweep, run, journal)
    tracker = _tracker(sweep, prepared.mark)  # last: whatever fails from now on, it is told
    return SweepRun(
        *(sweep, run, trials, journal, tracker, address, seconds_left, fetched),
        *(slots, behind, earlier),
    )


def _begin(context: SweepRun, prepared: Prepared, note: Callable[[str], None]) -> None:
    """Write down that the sweep runs, and those of its trials that are new as proposals."""
    name, trials = context.sweep.name, context.trials
    number = sum(context.slots.values()) or len(trials)
    slots = {"slots": dict(context.slots)} if context.slots else {}
    for extension in tell_extensions(context.folder, context.journal):
        note(f"extended  {name}: {'; '.join(extension['changes'])}")
    began: Event = "sweep_resumed" if prepared.resumed else "sweep_started"
    where = {} if context.address is None else {"address": context.address}
    context.journal.append(
        began,
        name=name,
        trials=number,
        mlflow=context.tracker.link(),
        versions=package_versions(),
        **where,
        **slots,
    )
    known = {proposal.trial for proposal in load_proposals(context.folder)}
    new = [trial.proposal for trial in trials if trial.proposal.trial not in known]
    propose(context.journal, new)
    note(
        f"{'continuing' if prepared.resumed else 'starting'} {name}: {number} trials,"
        f" files in {place_of(context.folder)}"
    )


def _forecast(context: SweepRun, planned: Plan | None) -> None:
    """Write down what the sweep is expected to use; where that cannot be told, trials say why."""
    try:
        planned = planned or plan(context.sweep, context.folder)
    except UserError:
        return
    if planned.done < planned.trials:
        note_forecast(context.journal, planned.forecast)


def _retry_failed(context: SweepRun) -> int:
    """Take the failures back, so that those trials are run again; returns how many there were."""
    run = context.folder
    failed = [state.proposal for state in load_trials(run) if state.ending == "failed"]
    for proposal in failed:
        remove(proposal.folder(run).failure_file)
    entries = [{"trial": proposal.trial, "cell": proposal.cell} for proposal in failed]
    context.journal.append_all("trial_retried", entries)
    return len(failed)


def _cut_short(run: Path) -> Stop | None:
    """The run ended and nobody asked it to: None if every trial has an ending, else why not to go
    on to the test labels.
    """
    states = load_trials(run)
    more = sum(open_slots(read_journal(run / "journal.jsonl")).values())
    left = sum(not state.ended for state in states) + more
    if not left:
        return None
    reason = f"the run ended although {left} of {len(states) + more} trials have not"
    return Stop("system", reason)


def _last_word(context: SweepRun, reason: str) -> None:
    """Write down why the run ends, and where the tracker shows it, which may have been away at its
    start; where the journal cannot be written, the reason matters more.
    """
    try:
        context.journal.append("sweep_interrupted", reason=reason, mlflow=context.tracker.link())
    except OSError as error:
        log.warning("%s", error)


def conclude(
    run: Path, *, partial: bool, paper_style: bool = False
) -> tuple[FinalEvaluation, Path]:
    """Ensembles, final evaluation and the report's page of a sweep that is not running.

    The test labels are read for this, so every trial must have ended; `partial` makes it of those
    that have. paper_style: also what choosing on the test clips would have given.
    """
    with held(run):
        if not partial:
            check_ended(run)
        evaluation = _evaluate(load_folder(run), run, paper_style=paper_style)
        write_report(run, paper_style=paper_style)
        _bundle(run, evaluation)
        return evaluation, page_of(run)


def _evaluate(sweep: Sweep, run: Path, *, paper_style: bool = False) -> FinalEvaluation:
    pool = pool_of_sweep(run, sweep)
    return finalize(run, sweep, pool.members, pool.missing, paper_style=paper_style)


def _bundle(run: Path, evaluation: FinalEvaluation) -> Path | None:
    """The folder that predicts from raw clips; where it cannot be written the evaluation still
    stands, and why is said.
    """
    try:
        return write_bundle(run, evaluation)
    except UserError as error:
        log.warning("%s: the model that predicts could not be written: %s", run, error)
        return None


def _interrupt(context: SweepRun, stop: Stop) -> Outcome:
    run = context.folder
    _last_word(context, stop.reason)
    lost = context.tracker.finish_sweep("interrupted", {}, None)
    more = ("--set", "budget.hours=H") if stop.by == "budget" else ()
    return Outcome(
        run,
        BUDGET_ENDED if stop.by == "budget" else INTERRUPTED,
        None,
        None,
        (
            *_undelivered(lost),
            f"stopped: {stop.reason}",
            f"continue with: {command('resume', run, *more, address=context.address)}",
        ),
    )


def _finish(context: SweepRun) -> Outcome:
    """All trials have ended: evaluate, unless more of them failed than the sweep tolerates."""
    sweep, run, tracker = context.sweep, context.folder, context.tracker
    states = [state for state in load_trials(run) if state.ending != "discarded"]
    failed = sum(state.ending == "failed" for state in states)
    messages = (
        [f"{failed} of {len(states)} trials failed; {command('status', run)} says why"]
        if failed
        else []
    )
    if failed > sweep.failure.tolerated_fraction * len(states):
        lost = tracker.finish_sweep("failed", {}, write_report(run).parent)
        context.journal.append(
            "sweep_finished", failed=failed, trials=len(states), **_recorded(tracker, lost)
        )
        _retain(context, lost)
        hint = (
            "more than failure.tolerated_fraction: the test split stays sealed;"
            f" {command('resume', run, '--retry-failed', address=context.address)} tries them"
            f" again, {command('ensemble', run, '--partial')} opens it"
        )
        return Outcome(run, TOO_MANY_FAILED, None, None, (*_undelivered(lost), *messages, hint))
    with ReportBeside() as beside:
        evaluation = _evaluate(sweep, run)
        beside.begin(run)
        tracker.log_evaluation(run, evaluation, _bundle(run, evaluation))
        report = beside.report()
    lost = tracker.finish_sweep("finished", _summary(evaluation), report.parent)
    context.journal.append(
        "sweep_finished", failed=failed, trials=len(states), **_recorded(tracker, lost)
    )
    _retain(context, lost)
    return Outcome(run, DONE, evaluation, page_of(run), (*_undelivered(lost), *messages))


def _recorded(tracker: Tracker, lost: tuple[str, ...]) -> dict[str, int | str]:
    """Where the tracker shows the sweep, which may have been away at its start, and how much it
    lacks, if anything: `clean` spares what it may still need.
    """
    lacking = {"undelivered": len(lost)} if lost else {}
    return {"mlflow": tracker.link(), **lacking}


def _retain(context: SweepRun, lost: tuple[str, ...]) -> None:
    """Remove the checkpoints that waited until now: for the tracker, or for a process to end.

    lost: what the tracker lacks.
    """
    sweep, run = context.sweep, context.folder
    if sweep.retain.checkpoints == "all":
        return
    states = load_trials(run)
    remove_unneeded(
        run,
        unneeded_of_sweep(states, sweep, sweep.retain.checkpoints),
        lambda state: may_go(state, run, lambda trial: not lost),
    )


def _seconds_left(sweep: Sweep, events: Sequence[Mapping[str, Any]]) -> float | None:
    """What earlier runs of the sweep have left of `budget.hours`; None is no limit."""
    if sweep.budget.hours is None:
        return None
    return max(sweep.budget.hours * 3600 - running_seconds(events), 0.0)


def _fetch_sources(sweep: Sweep, run: Path) -> dict[str, Path]:
    """Folders of the trials that MLflow runs in `sparsity.from` stand for, by what the file says;
    downloaded ones lie in the sweep's folder.
    """
    runs = runs_of(sweep)
    if not runs:
        return {}
    from orchestrator.tracking.find import find_sources

    return {
        source: found.fetch(run / "sources") for source, found in find_sources(sweep, runs).items()
    }


def _tracker(sweep: Sweep, mark: str) -> Tracker:
    """MLflow, or nothing where the file says so; the sweep's parent run is found again by the
    folder's own mark.
    """
    from orchestrator.tracking.tracker import NullTracker

    if sweep.tracking.is_off:
        return NullTracker()
    from orchestrator.tracking.mlflow import MLflowTracker

    tracker = MLflowTracker(sweep.tracking.uri, sweep.tracking.experiment or sweep.name)
    params = {
        name: str(value)
        for name, value in sweep.resolved().items()
        if name not in ("data", "model", "sparsity", "train")
    }
    tracker.start_sweep(
        sweep.name,
        params | {name: str(value) for name, value in sweep.leaves().items()},
        {"mark": mark},
    )
    return tracker


def _summary(evaluation: FinalEvaluation) -> dict[str, float]:
    """The numbers of what the sweep ships, on the parent run."""
    last = evaluation.headline
    if last is None:
        return {}
    return {
        "final/test_top1": last.test.top1,
        "final/nonzero_params": float(last.size.nonzero_params),
    }


def _undelivered(lost: tuple[str, ...]) -> tuple[str, ...]:
    """What MLflow lacks, in a line however much it is."""
    if not lost:
        return ()
    more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    return (
        f"MLflow lacks: {'; '.join(lost[:SHOWN])}{more} (the sweep's files are complete; the same"
        " command delivers it once MLflow answers)",
    )
