"""How far each trial of a sweep came, from its folder and the journal. Reads files only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import TrialResult

Ending = Literal["finished", "failed", "interrupted", "pruned", "discarded"]
"""finished: with a result. failed: for a reason that another attempt would meet again.
interrupted: it goes on when the sweep does. pruned: stopped early by comparison with others; its
curve is kept and it is no failure. discarded: its proposal was withdrawn.
"""


@dataclass(frozen=True, slots=True)
class TrialState:
    """One proposed trial and how far it came."""

    proposal: Proposal
    ending: Ending | None = None  # None: it waits, or it runs
    result: TrialResult | None = None  # of a finished trial
    reason: str | None = None  # why it failed, was pruned or was discarded
    stopped_at: int | None = None  # epochs that a pruned or interrupted trial was trained, if known
    stopped_of: int | None = None  # epochs that a pruned trial would have been trained, if known
    restarts: int = 0  # how often its worker died and it went on from its checkpoint
    best_top1: float | None = None  # of an interrupted trial on the selection split, if known
    # objectives of a pruned trial as it last reported them, if known
    stopped_values: Mapping[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the trial needs no further run."""
        return self.ending not in (None, "interrupted")

    @property
    def failure(self) -> str | None:
        """Why it failed; None if it did not."""
        return self.reason or "no reason given" if self.ending == "failed" else None

    @property
    def status(self) -> str:
        """The ending in a word; `unfinished` where the trial is to be run, or runs."""
        return str(self.ending) if self.ended else "unfinished"

    @property
    def described(self) -> str:
        """The same with the reason or the epoch."""
        if self.failure is not None:
            return f"failed: {self.failure}"
        if self.ending == "pruned" and self.stopped_at is not None:
            return f"pruned after {self.stopped_at} epochs"
        if self.ending == "discarded" and self.reason:
            return f"discarded: {self.reason}"
        return self.status


def load_trials(run: Path) -> tuple[TrialState, ...]:
    """Every proposed trial of the sweep in `run`: its own files have the first word, the journal
    the second.
    """
    events = read_journal(run / "journal.jsonl")
    last, restarts = _last_words(events), _restarts(events)
    return tuple(
        _state(run, proposal, last.get(proposal.trial), restarts.get(proposal.trial, 0))
        for proposal in load_proposals(run)
    )


def begun_epochs(run: Path, states: Iterable[TrialState]) -> dict[str, float]:
    """By trial that goes on from a checkpoint, how many epochs are done there; infinitely many
    where the journal does not say.
    """
    return {
        state.proposal.trial: inf if state.stopped_at is None else state.stopped_at
        for state in states
        if not state.ended and state.proposal.folder(run).checkpoint_file.is_file()
    }


def open_slots(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By cell, how many trials it gets that have not been proposed yet, as the sweep's last run
    wrote down: other than 0 only where a search makes trials one by one.
    """
    slots: dict[str, int] = {}
    proposed: dict[str, set[str]] = {}
    for event in events:
        if event["event"] in ("sweep_started", "sweep_resumed"):
            slots = dict(event.get("slots", {}))
        elif event["event"] == "cell_exhausted":
            slots.pop(event.get("cell", ""), None)
        elif event["event"] == "trial_proposed":
            proposed.setdefault(event.get("cell", ""), set()).add(event["trial"])
    left = {cell: number - len(proposed.get(cell, ())) for cell, number in slots.items()}
    return {cell: number for cell, number in left.items() if number > 0}


def load_failures(run: Path) -> dict[str, str]:
    """Why a proposed trial failed, by trial."""
    return {
        state.proposal.trial: state.failure
        for state in load_trials(run)
        if state.failure is not None
    }


def saved_epochs(states: Iterable[TrialState]) -> str:
    """What early stopping saved: `12 of 40 trials were stopped early, which saved 530 of 1,200
    epochs (44 %)`; empty where no trial was stopped, or it is not known at what epoch.
    """
    counted = [state for state in states if state.ending != "discarded"]
    pairs = [
        (state.stopped_at, state.stopped_of)
        for state in counted
        if state.ending == "pruned" and state.stopped_at and state.stopped_of
    ]
    if not pairs:
        return ""
    saved = sum(of - at for at, of in pairs)
    total = sum(of for _, of in pairs)
    total += sum(state.result.epochs for state in counted if state.result is not None)
    trials = f"trial{'s' * (len(counted) != 1)} {'was' if len(pairs) == 1 else 'were'}"
    return (
        f"{len(pairs)} of {len(counted)} {trials} stopped early, which saved {saved:,} of"
        f" {total:,} epochs ({100 * saved / total:.0f} %)"
    )


def _last_words(events: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The last event of every trial that says where it stands."""
    return {
        event["trial"]: event
        for event in events
        if event["event"].startswith("trial_")
        and event["event"] not in ("trial_proposed", "trial_warned")
    }


def _restarts(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events:
        if event["event"] == "trial_restarted":
            counts[event["trial"]] = counts.get(event["trial"], 0) + 1
    return counts


def _state(
    run: Path, proposal: Proposal, last: Mapping[str, Any] | None, restarts: int
) -> TrialState:
    folder = proposal.folder(run)
    result = folder.load_if_complete()
    if result is not None:
        return TrialState(proposal, "finished", result, restarts=restarts)
    event = last["event"] if last is not None else ""
    told = last.get("reason") if last is not None else None
    if event == "trial_pruned" and last is not None:
        epochs, of = last.get("epochs"), last.get("of")
        values = last.get("values", {})
        return TrialState(proposal, "pruned", None, told, epochs, of, restarts, None, values)
    if event == "trial_discarded":
        return TrialState(proposal, "discarded", reason=told, restarts=restarts)
    # a trial that was given up without a word of its own (a dead worker) has the journal's
    failure = folder.load_failure() or (told if event == "trial_failed" else None)
    if failure is not None:
        return TrialState(proposal, "failed", reason=failure, restarts=restarts)
    if event == "trial_interrupted" and last is not None:
        epochs, best = last.get("epochs"), last.get("best_top1")
        return TrialState(proposal, "interrupted", None, None, epochs, None, restarts, best)
    return TrialState(proposal, restarts=restarts)
