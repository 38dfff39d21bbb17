"""How far each trial of a sweep came, from its folder and the journal. Reads files only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.record.journal import read_journal
from orchestrator.trials.proposed import PlannedTrial, load_planned
from trainables.contract.artifacts import TrialResult


@dataclass(frozen=True, slots=True)
class TrialState:
    """One planned trial and how far it came."""

    planned: PlannedTrial
    result: TrialResult | None
    failure: str | None

    @property
    def status(self) -> str:
        return "finished" if self.result else "failed" if self.failure is not None else "unfinished"


def load_trials(run: Path) -> tuple[TrialState, ...]:
    """Every planned trial of the sweep in `run`, from its folder; for trials given up without a
    word of their own, from the journal.
    """
    failures = load_failures(run)
    states: list[TrialState] = []
    for planned in load_planned(run):
        folder = planned.folder(run)
        result = folder.load() if folder.is_complete() else None
        states.append(TrialState(planned, result, None if result else failures.get(planned.trial)))
    return tuple(states)


def load_failures(run: Path) -> dict[str, str]:
    """Why a planned trial failed, by trial: its own word, or the journal's where the trial was
    given up without one (a dead worker).

    A complete trial has not failed, whatever went before; neither has one that was started again
    since the journal's word.
    """
    given_up: dict[str, str] = {}
    for event in read_journal(run / "journal.jsonl"):
        if event["event"] == "trial_failed":
            given_up[event["trial"]] = event["reason"]
        elif event["event"].startswith("trial_"):
            given_up.pop(event["trial"], None)
    failures: dict[str, str] = {}
    for planned in load_planned(run):
        folder = planned.folder(run)
        reason = (
            None if folder.is_complete() else folder.load_failure() or given_up.get(planned.trial)
        )
        if reason is not None:
            failures[planned.trial] = reason
    return failures
