"""How far each trial of a sweep came, from its folder and the journal. Reads files only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import TrialResult


@dataclass(frozen=True, slots=True)
class TrialState:
    """One proposed trial and how far it came."""

    proposal: Proposal
    result: TrialResult | None
    failure: str | None

    @property
    def status(self) -> str:
        return "finished" if self.result else "failed" if self.failure is not None else "unfinished"


def load_trials(run: Path) -> tuple[TrialState, ...]:
    """Every proposed trial of the sweep in `run`, from its folder; for trials given up without a
    word of their own, from the journal.
    """
    failures = load_failures(run)
    states: list[TrialState] = []
    for proposal in load_proposals(run):
        folder = proposal.folder(run)
        result = folder.load() if folder.is_complete() else None
        states.append(
            TrialState(proposal, result, None if result else failures.get(proposal.trial))
        )
    return tuple(states)


def load_failures(run: Path) -> dict[str, str]:
    """Why a proposed trial failed, by trial: its own word, or the journal's where the trial was
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
    for proposal in load_proposals(run):
        folder = proposal.folder(run)
        reason = (
            None if folder.is_complete() else folder.load_failure() or given_up.get(proposal.trial)
        )
        if reason is not None:
            failures[proposal.trial] = reason
    return failures
