"""What was proposed to run in a sweep's folder and how it ended, in the order in which it happened:
what a search is made again from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path

from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.states import TrialState
from orchestrator.search.making import Step
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import Sweep
from orchestrator.trials.proposed import Trial

ENDS = ("trial_finished", "trial_failed", "trial_pruned", "trial_discarded")


def outcome_of(state: TrialState, sweep: Sweep) -> Outcome | None:
    """How the trial ended; None where it has not."""
    if state.result is not None:
        return Outcome.finished(state.result, sweep.objectives)
    if state.ending == "pruned":
        values = tuple(state.stopped_values.get(each.metric) for each in sweep.objectives)
        return Outcome("pruned", None, state.stopped_at or 0, values)
    if state.ending == "failed" or state.ending == "discarded":
        return Outcome(state.ending)
    return None


def load_past(
    run: Path, sweep: Sweep, trials: Iterable[Trial], states: Mapping[str, TrialState]
) -> list[Step]:
    """Every proposal and every end. A trial that ended more than once has its last end; one that a
    killed run could not write down comes last, see `write_ends`.
    """
    known = {trial.proposal.trial: trial for trial in trials}
    proposed: dict[str, int] = {}
    ended: dict[str, int] = {}
    events = read_journal(run / "journal.jsonl")
    for position, event in enumerate(events):
        if event["event"] == "trial_proposed":
            proposed.setdefault(event["trial"], position)
        elif event["event"] in ENDS:
            ended[event["trial"]] = position
    steps: list[tuple[int, Step]] = []
    for name, trial in known.items():
        # version 0.2 has no such events: those of its list come first
        steps.append((proposed.get(name, -1), Step(trial)))
        outcome = outcome_of(states[name], sweep)
        if outcome is not None:
            steps.append((ended.get(name, len(events)), Step(trial, outcome)))
    return [step for _, step in sorted(steps, key=itemgetter(0))]  # equal ones as they are known


def write_ends(run: Path, journal: Journal, states: Iterable[TrialState]) -> None:
    """Add the ends of finished trials that a killed run could not write down, so that the order of
    events is the same ever after.
    """
    events = read_journal(run / "journal.jsonl")
    written = {event["trial"] for event in events if event["event"] == "trial_finished"}
    entries = [
        {
            "trial": state.proposal.trial,
            "cell": state.proposal.cell,
            "seconds": state.result.seconds,
            **headline(state.result.metrics()),
        }
        for state in states
        if state.result is not None and state.proposal.trial not in written
    ]
    if entries:
        journal.append_all("trial_finished", entries)


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a result that are written beside its event."""
    return {name: metrics[name] for name in ("selection_top1", "nonzero_params") if name in metrics}
