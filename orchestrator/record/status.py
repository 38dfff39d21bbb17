"""How far a sweep is: from its list of trials, its journal and its trials' files.

Starts nothing and loads nothing heavy.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.record.commands import command
from orchestrator.record.copies import here, place_of
from orchestrator.record.decisions import excluded_nodes, resource_decisions
from orchestrator.record.folder import closed_folders, is_running, list_folders, page_of
from orchestrator.record.journal import read_journal
from orchestrator.record.lease import Look, first_looks
from orchestrator.record.running import Running, RunningTrial, load_running
from orchestrator.record.states import TrialState, load_trials, open_slots, saved_epochs
from orchestrator.record.stop_requests import StopRequests
from trainables.contract.errors import UserError

State = Literal["running", "finished", "not running", "damaged", "unreadable"]


@dataclass
class CellStatus:
    """One cell's trials by how far they are."""

    cell: str
    total: int = 0
    done: int = 0
    failed: int = 0
    pruned: int = 0  # stopped early by comparison with others
    discarded: int = 0  # withdrawn before they started
    restarts: int = 0  # how often a worker died and its trial went on from the checkpoint
    running: int = 0
    waiting: int = 0  # for the dense trials they start from
    best: float | None = None  # selection top-1, as a fraction
    now: tuple[RunningTrial, ...] = ()  # how far those that run are


@dataclass(frozen=True, slots=True)
class Status:
    """A sweep at a glance."""

    name: str
    state: State
    cells: tuple[CellStatus, ...]
    failures: dict[str, str] = field(default_factory=dict)  # trial -> reason
    stopped: dict[str, str] = field(default_factory=dict)  # interrupted trial -> how far it is
    resources: dict[str, str] = field(default_factory=dict)  # what was decided, by kind of trial
    saved: str = ""  # what early stopping saved, in words
    seconds_left: float | None = None  # while it runs, once a trial has trained for two epochs
    next_step: str = ""
    waits_for: str = ""  # while it runs and none of its trials does
    excluded: dict[str, str] = field(default_factory=dict)  # node that gets no trials -> why

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "state": self.state,
            "cells": [asdict(cell) for cell in self.cells],
            "failures": self.failures,
            "stopped": self.stopped,
            "resources": self.resources,
            "saved": self.saved,
            "seconds_left": self.seconds_left,
            "next_step": self.next_step,
            "waits_for": self.waits_for,
            "excluded": self.excluded,
        }


def load_statuses(storage: str) -> list[Status]:
    """The state of every sweep in a storage folder; one whose folder is damaged or closed to this
    user is among them, with what is wrong as its next step.
    """
    folders, closed = list_folders(storage), closed_folders(storage)
    statuses: list[Status] = []
    looks = first_looks(folders)
    for run in sorted({*folders, *closed}):
        try:
            if run in closed:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(run))
            statuses.append(load_status(run, looks.get(run)))
        except UserError as error:
            statuses.append(Status(run.name, "damaged", (), next_step=str(error)))
        except OSError as error:
            problem = f"{error.filename or run}: cannot be read: {error.strerror}"
            statuses.append(Status(run.name, "unreadable", (), next_step=problem))
    return statuses


def load_status(run: Path, first: Look | None = None) -> Status:
    """The state of the sweep in `run`. first: see `is_running`."""
    running = is_running(run, first)
    events = read_journal(run / "journal.jsonl")
    now = load_running(run) if running else Running()
    states = load_trials(run)
    waits = {trial.proposal.trial for trial in states if not trial.ended}
    starting = _started(events) - {trial.trial for trial in now.trials} if running else set()
    cells: dict[str, CellStatus] = {}
    for trial in states:
        cell = cells.setdefault(trial.proposal.cell, CellStatus(trial.proposal.cell))
        _count(cell, trial)
        if trial.proposal.trial in starting:
            cell.running += 1
        elif not trial.ended and not waits.isdisjoint(trial.proposal.after):
            cell.waiting += 1
    more = open_slots(events)
    for name, number in more.items():
        cells.setdefault(name, CellStatus(name)).total += number
    for attempt in now.trials:
        if attempt.trial in waits:  # the record may be some seconds behind
            cell = cells[attempt.cell]
            cell.now = (*cell.now, attempt)
            cell.running += 1
    sweep_events = [event["event"] for event in events if event["event"].startswith("sweep_")]
    # a result that was lost or damaged since is made again by the next run
    finished = sweep_events[-1:] == ["sweep_finished"] and not waits and not more
    state: State = "running" if running else "finished" if finished else "not running"
    return Status(
        run.name,
        state,
        tuple(cells.values()),
        {trial.proposal.trial: trial.failure for trial in states if trial.failure is not None},
        {} if running else _stopped(states),
        resource_decisions(events),
        saved_epochs(states),
        now.seconds_left,
        _next_step(run, state, _address(events)),
        now.waits_for,
        excluded_nodes(events),
    )


def _count(cell: CellStatus, trial: TrialState) -> None:
    """Add a trial that has ended to its cell."""
    cell.total += 1
    cell.restarts += trial.restarts
    if trial.result is not None:
        cell.done += 1
        top1 = trial.result.selection_top1
        if top1 is not None and (cell.best is None or top1 > cell.best):
            cell.best = top1
    cell.failed += trial.ending == "failed"
    cell.pruned += trial.ending == "pruned"
    cell.discarded += trial.ending == "discarded"


def _stopped(states: Iterable[TrialState]) -> dict[str, str]:
    """How far the interrupted trials are, where that is known: `at epoch 12, best 56.1 %`."""
    return {
        state.proposal.trial: f"at epoch {state.stopped_at}"
        + ("" if state.best_top1 is None else f", best {100 * state.best_top1:.1f} %")
        for state in states
        if state.ending == "interrupted" and state.stopped_at
    }


def _started(events: list[dict[str, Any]]) -> set[str]:
    """Trials started and not ended since the driver began."""
    started: set[str] = set()
    for event in events:
        if event["event"] in ("sweep_started", "sweep_resumed"):
            started.clear()
        elif event["event"] == "trial_started":
            started.add(event["trial"])
        elif event["event"].startswith("trial_") and event["event"] not in (
            "trial_restarted",
            "trial_warned",
        ):
            started.discard(event["trial"])
    return started


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
    page = page_of(run)
    return (
        f"see {here(page) if page.is_file() else place_of(page)}"
        if state == "finished"
        else f"continue with: {command('resume', run, address=address)}"
    )
