"""How far a sweep is: from its list of trials, its journal and its trials' files.

Starts nothing and loads nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from orchestrator.record.commands import command
from orchestrator.record.folder import is_running
from orchestrator.record.journal import read_journal
from orchestrator.record.states import load_trials
from orchestrator.record.stop_requests import StopRequests


@dataclass
class CellStatus:
    """One cell's trials by how far they are."""

    cell: str
    total: int = 0
    done: int = 0
    failed: int = 0
    pruned: int = 0  # stopped early by comparison with others
    discarded: int = 0  # withdrawn before they started
    running: int = 0
    waiting: int = 0  # for the dense trials they start from
    best: float | None = None  # selection top-1, as a fraction


@dataclass(frozen=True, slots=True)
class Status:
    """A sweep at a glance."""

    name: str
    state: Literal["running", "finished", "not running"]
    cells: tuple[CellStatus, ...]
    failures: dict[str, str] = field(default_factory=dict)  # trial -> reason
    seconds_left: float | None = None  # while it runs, once a trial has finished
    next_step: str = ""

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "state": self.state,
            "cells": [vars(cell) for cell in self.cells],
            "failures": self.failures,
            "seconds_left": self.seconds_left,
        }


def load_status(run: Path) -> Status:
    """The state of the sweep in `run`."""
    events = read_journal(run / "journal.jsonl")
    running = is_running(run)
    active = _active(events) if running else set()
    cells: dict[str, CellStatus] = {}
    failures: dict[str, str] = {}
    states = load_trials(run)
    unfinished = {state.proposal.trial for state in states if not state.ended}
    for trial in states:
        cell = cells.setdefault(trial.proposal.cell, CellStatus(trial.proposal.cell))
        cell.total += 1
        if trial.result is not None:
            cell.done += 1
            top1 = trial.result.selection_top1
            if top1 is not None and (cell.best is None or top1 > cell.best):
                cell.best = top1
        elif trial.failure is not None:
            cell.failed += 1
            failures[trial.proposal.trial] = trial.failure
        elif trial.ending == "pruned":
            cell.pruned += 1
        elif trial.ending == "discarded":
            cell.discarded += 1
        elif trial.proposal.trial in active:
            cell.running += 1
        elif not unfinished.isdisjoint(trial.proposal.after):
            cell.waiting += 1
    left = len(unfinished)
    finished = [event["event"] for event in events if event["event"].startswith("sweep_")][-1:] == [
        "sweep_finished"
    ]
    state: Literal["running", "finished", "not running"] = (
        "running" if running else "finished" if finished else "not running"
    )
    return Status(
        run.name,
        state,
        tuple(cells.values()),
        failures,
        _seconds_left(events, left) if running else None,
        _next_step(run, state, _address(events)),
    )


def _active(events: list[dict[str, Any]]) -> set[str]:
    """Trials started and not ended since the driver began."""
    active: set[str] = set()
    for event in events:
        if event["event"] in ("sweep_started", "sweep_resumed"):
            active.clear()
        elif event["event"] == "trial_started":
            active.add(event["trial"])
        elif event["event"].startswith("trial_") and event["event"] != "trial_restarted":
            active.discard(event["trial"])
    return active


def _seconds_left(events: list[dict[str, Any]], left: int) -> float | None:
    """Trials left times the mean time between ends since the driver began; None before the first
    end.
    """
    began = 0.0
    ends: list[float] = []
    for event in events:
        if event["event"] in ("sweep_started", "sweep_resumed"):
            began, ends = event["time"], []
        elif event["event"] == "trial_finished":
            ends.append(event["time"])
    if not ends or not left:
        return None
    return left * fmean(after - before for before, after in zip([began, *ends], ends, strict=False))


def _address(events: list[dict[str, Any]]) -> str | None:
    """Of the Ray cluster that the sweep last ran on; None: this machine."""
    starts = [event for event in events if event["event"] in ("sweep_started", "sweep_resumed")]
    return starts[-1].get("address") if starts else None


def _next_step(run: Path, state: str, address: str | None) -> str:
    if state == "running":
        stop = StopRequests(run).stop()
        if stop is not None:
            return f"asked to stop: {stop.reason}"
        return (
            f"{command('stop', run)} (no new trials) or {command('cancel', run)}"
            " (checkpoint and end now)"
        )
    return (
        f"see {run / 'report' / 'report.md'}"
        if state == "finished"
        else f"continue with: {command('resume', run, address=address)}"
    )
