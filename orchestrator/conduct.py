"""The story of one sweep: from a checked file to trials, ensembles, the final evaluation and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.folder import folder_of, held, journal_of, prepare
from orchestrator.journal import Event
from orchestrator.space import all_trials
from orchestrator.sweep import Sweep

if TYPE_CHECKING:
    from orchestrator.tracking import Tracker

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
    """Run what is missing of a sweep, then build ensembles and the report; everything complete is kept as it is.

    address: of a Ray cluster; None: this machine. note: says one line to the person.
    """
    trials = all_trials(sweep)
    run = folder_of(sweep)
    with held(run):
        prepared = prepare(sweep, [trial.planned for trial in trials])
        journal = journal_of(run)
        tracker = _tracker(sweep, prepared.mark)
        began: Event = "sweep_resumed" if prepared.resumed else "sweep_started"
        journal.append(began, name=sweep.name, trials=len(trials), mlflow=tracker.link())
        note(f"{'continuing' if prepared.resumed else 'starting'} {sweep.name}: {len(trials)} trials, files in {run}")
        from orchestrator.tuning.runner import run_trials  # Ray and torch are loaded only now that the file is known to be good

        stopped = run_trials(sweep, trials, run, journal, tracker, address)
        if stopped is not None:
            journal.append("sweep_interrupted", reason=stopped)
            lost = tracker.finish_sweep("interrupted", {}, None)
            code = BUDGET_ENDED if stopped.startswith("budget") else INTERRUPTED
            return Outcome(run, code, None, None, (*_undelivered(lost), f"stopped: {stopped}", f"continue with: orchestrate resume {run.name}"))
        return _finish(sweep, run, tracker)


def conclude(sweep: Sweep, run: Path) -> tuple[FinalEvaluation, Path]:
    """Ensembles, final evaluation and report of the trials that are complete."""
    from orchestrator.collect import collect, missing_cells
    from orchestrator.ensembling.final import finalize
    from orchestrator.report.markdown import write_report

    members = collect(run, sweep)
    evaluation = finalize(run, sweep, members, missing_cells(run, members))
    return evaluation, write_report(run)


def _finish(sweep: Sweep, run: Path, tracker: Tracker) -> Outcome:
    from orchestrator.report.tables import load_trials

    evaluation, report = conclude(sweep, run)
    states = load_trials(run)
    failed = [state for state in states if state.failure is not None or state.result is None]
    for row in evaluation.rows:
        if row.kind == "ensemble":
            metrics = {"test_top1": row.test.top1} | ({"best/selection_top1": row.selection.top1} if row.selection else {})
            tracker.log_ensemble(row.name, row.trials, metrics, run / "ensembles" / row.name)
    tolerated = len(failed) <= sweep.failure.tolerated_fraction * len(states)
    lost = tracker.finish_sweep("finished" if tolerated else "failed", _summary(evaluation), report.parent)
    journal_of(run).append("sweep_finished", failed=len(failed), trials=len(states))
    messages = [f"{len(failed)} of {len(states)} trials failed, see {run / 'journal.jsonl'}"] if failed else []
    return Outcome(run, DONE if tolerated else TOO_MANY_FAILED, evaluation, report, (*_undelivered(lost), *messages))


def _tracker(sweep: Sweep, mark: str) -> Tracker:
    """MLflow, or nothing where the file says so; the sweep's parent run is found again by the folder's own mark."""
    from orchestrator.tracking import MLflowTracker, NullTracker

    if sweep.tracking.uri == "none":
        return NullTracker()
    tracker = MLflowTracker(sweep.tracking.uri, sweep.tracking.experiment or sweep.name)
    params = {name: str(value) for name, value in sweep.resolved().items() if name not in ("data", "model", "sparsity", "train")}
    tracker.start_sweep(sweep.name, params | {name: str(value) for name, value in sweep.leaves().items()}, {"mark": mark})
    return tracker


def _summary(evaluation: FinalEvaluation) -> dict[str, float]:
    """The last ensemble's numbers (or the only member's) on the parent run."""
    if not evaluation.rows:
        return {}
    last = evaluation.rows[-1]
    return {"final/test_top1": last.test.top1, "final/nonzero_params": float(last.size.nonzero_params)}


def _undelivered(lost: tuple[str, ...]) -> tuple[str, ...]:
    return (f"MLflow lacks: {'; '.join(lost)} (the sweep's files are complete)",) if lost else ()
