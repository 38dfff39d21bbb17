"""The story of one sweep: from a checked file to trials, ensembles, the final evaluation and the
report.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.ensembling.bundle import write_bundle
from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.planning.check import runs_of
from orchestrator.record.folder import folder_of, held, journal_of, load_folder, prepare
from orchestrator.record.journal import Event, read_journal
from orchestrator.record.states import load_trials
from orchestrator.record.stop_requests import Stop
from orchestrator.report.markdown import write_report
from orchestrator.sweep import Sweep
from orchestrator.trials.space import all_trials
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import Tracker

DONE, TOO_MANY_FAILED, BUDGET_ENDED, INTERRUPTED = 0, 3, 5, 130
"""Exit codes of `orchestrate sweep`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a sweep ended."""

    run: Path
    exit_code: int
    evaluation: FinalEvaluation | None  # None: it was cut short, or no trial finished
    report: Path | None
    messages: tuple[str, ...]  # for the person, in order


def conduct(sweep: Sweep, address: str | None, note: Callable[[str], None]) -> Outcome:
    """Run what is missing of a sweep, then build ensembles and the report; everything complete is
    kept as it is.

    address: HOST:PORT of a Ray cluster; None: this machine. note: says one line to the person.
    """
    trials = all_trials(sweep)
    run = folder_of(sweep)
    with held(run), _discarded_if_refused(run):
        prepared = prepare(sweep, [trial.proposal for trial in trials])
        journal = journal_of(run)
        seconds_left = _seconds_left(sweep, read_journal(journal.path))
        fetched = _fetch_sources(sweep, run)
        tracker = _tracker(sweep, prepared.mark)
        began: Event = "sweep_resumed" if prepared.resumed else "sweep_started"
        journal.append(began, name=sweep.name, trials=len(trials), mlflow=tracker.link())
        note(
            f"{'continuing' if prepared.resumed else 'starting'} {sweep.name}: {len(trials)}"
            f" trials, files in {run}"
        )
        try:
            # Ray and torch are loaded only now that the file is known to be good
            from orchestrator.tuning.run import run_trials
            from orchestrator.tuning.sweep_run import SweepRun

            stop = run_trials(
                SweepRun(sweep, run, trials, journal, tracker, address, seconds_left, fetched)
            )
            return (
                _interrupt(run, tracker, stop) if stop is not None else _finish(sweep, run, tracker)
            )
        except BaseException as error:
            journal.append("sweep_interrupted", reason=f"{type(error).__name__}: {error}")
            tracker.finish_sweep("failed", {}, None)
            raise


@contextmanager
def _discarded_if_refused(run: Path) -> Iterator[None]:
    """Within: an exception before the first trial of a new sweep leaves no folder behind, as there
    is nothing in it to go on from.
    """
    try:
        yield
    except BaseException:
        if not any(
            event["event"] == "trial_started" for event in read_journal(journal_of(run).path)
        ):
            shutil.rmtree(run, ignore_errors=True)
        raise


def conclude(run: Path, *, partial: bool) -> tuple[FinalEvaluation, Path]:
    """Ensembles, final evaluation and report of a sweep that is not running.

    The test labels are read for this, so every trial must have ended; `partial` makes it of those
    that have.
    """
    with held(run):
        unfinished = [
            state.proposal.trial for state in load_trials(run) if state.status == "unfinished"
        ]
        if unfinished and not partial:
            raise UserError(
                f"{run}: {len(unfinished)} trials have not ended ({unfinished[0]}, ...);"
                f" `orchestrate resume {run.name}` first, or use what there is with --partial: the"
                " final evaluation opens the test split"
            )
        return _evaluate(load_folder(run), run)


def _evaluate(sweep: Sweep, run: Path) -> tuple[FinalEvaluation, Path]:
    members = collect(run, sweep)
    evaluation = finalize(run, sweep, members, missing_cells(run, members))
    return evaluation, write_report(run)


def _interrupt(run: Path, tracker: Tracker, stop: Stop) -> Outcome:
    journal_of(run).append("sweep_interrupted", reason=stop.reason)
    lost = tracker.finish_sweep("interrupted", {}, None)
    code, command = INTERRUPTED, f"orchestrate resume {run.name}"
    if stop.by == "budget":
        code, command = (
            BUDGET_ENDED,
            "orchestrate sweep FILE --set budget.hours=H, the same file and more hours",
        )
    return Outcome(
        run,
        code,
        None,
        None,
        (*_undelivered(lost), f"stopped: {stop.reason}", f"continue with: {command}"),
    )


def _finish(sweep: Sweep, run: Path, tracker: Tracker) -> Outcome:
    """All trials have ended: evaluate, unless more of them failed than the sweep tolerates."""
    states = load_trials(run)
    failed = [state for state in states if state.status != "finished"]
    messages = (
        [f"{len(failed)} of {len(states)} trials failed; orchestrate status {run.name} says why"]
        if failed
        else []
    )
    if len(failed) > sweep.failure.tolerated_fraction * len(states):
        lost = tracker.finish_sweep("failed", {}, write_report(run).parent)
        journal_of(run).append("sweep_finished", failed=len(failed), trials=len(states))
        hint = (
            "more than failure.tolerated_fraction: the test split stays sealed; orchestrate"
            f" ensemble {run.name} --partial opens it"
        )
        return Outcome(run, TOO_MANY_FAILED, None, None, (*_undelivered(lost), *messages, hint))
    evaluation, report = _evaluate(sweep, run)
    for row in evaluation.rows:
        if row.kind == "ensemble":
            metrics = {"test_top1": row.test.top1} | (
                {"best/selection_top1": row.selection.top1} if row.selection else {}
            )
            metrics |= (
                {"test_top1_mean": row.seeds.test_mean, "test_top1_std": row.seeds.test_std}
                if row.seeds
                else {}
            )
            bundle = write_bundle(run, row.name) if row.name == evaluation.rows[-1].name else None
            tracker.log_ensemble(
                row.name, row.trials, metrics, run / "ensembles" / row.name, bundle
            )
    lost = tracker.finish_sweep("finished", _summary(evaluation), report.parent)
    journal_of(run).append("sweep_finished", failed=len(failed), trials=len(states))
    return Outcome(run, DONE, evaluation, report, (*_undelivered(lost), *messages))


def _seconds_left(sweep: Sweep, events: Sequence[Mapping[str, Any]]) -> float | None:
    """What earlier runs of the sweep have left of `budget.hours`; None is no limit."""
    if sweep.budget.hours is None:
        return None
    used, began, last = 0.0, None, 0.0
    for event in events:
        if event["event"] in ("sweep_started", "sweep_resumed"):
            used += last - began if began is not None else 0.0
            began = event["time"]
        last = event["time"]
    used += last - began if began is not None else 0.0
    return max(sweep.budget.hours * 3600 - used, 0.0)


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
    from orchestrator.tracking.mlflow import MLflowTracker
    from orchestrator.tracking.tracker import NullTracker

    if sweep.tracking.uri == "none":
        return NullTracker()
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
    """The last ensemble's numbers (or the only member's) on the parent run."""
    if not evaluation.rows:
        return {}
    last = evaluation.rows[-1]
    return {
        "final/test_top1": last.test.top1,
        "final/nonzero_params": float(last.size.nonzero_params),
    }


def _undelivered(lost: tuple[str, ...]) -> tuple[str, ...]:
    return (f"MLflow lacks: {'; '.join(lost)} (the sweep's files are complete)",) if lost else ()
