"""A sweep's trials as an Optuna storage file: what `status --optuna` writes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestrator.record.folder import load_folder
from orchestrator.record.journal import read_journal
from orchestrator.record.past import ENDS, outcome_of
from orchestrator.record.states import load_trials
from trainables.contract.errors import UserError


def write_optuna(run: Path, path: Path) -> str:
    """Write a new file with a study for each cell, also while the sweep runs; returns what it
    holds, in words. UserError where it cannot be written, or would replace another file than an
    earlier one of this sweep.
    """
    from orchestrator.search.learning.export import Exported, export

    sweep, states = load_folder(run), load_trials(run)
    if os.path.lexists(path) and not _holds_only(path, sweep.name):
        raise UserError(
            f"--optuna: {path} is there already and is no file of this sweep's studies alone; name"
            " a new file"
        )
    began, ended = _times(read_journal(run / "journal.jsonl"))
    exported = [
        Exported(
            state.proposal,
            outcome_of(state, sweep),
            began.get(state.proposal.trial),
            ended.get(state.proposal.trial),
            {"ending": state.described},
        )
        for state in states
    ]
    try:
        studies = export(sweep, exported, path)
    except OSError as error:
        raise UserError(f"--optuna: {path} cannot be written: {error.strerror}") from error
    return f"{studies} {'study' if studies == 1 else 'studies'} with {len(exported)} trials"


def _holds_only(path: Path, sweep: str) -> bool:
    """Whether a file is an Optuna storage with studies of this sweep alone."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            names = [name for (name,) in file.execute("SELECT study_name FROM studies")]
    except (sqlite3.Error, OSError):
        return False
    return all(name.startswith(f"{sweep}/") for name in names)


def _times(events: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """When each trial first started, and when it ended."""
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    for event in events:
        if event["event"] == "trial_started":
            began.setdefault(event["trial"], event["time"])
        elif event["event"] in ENDS:
            ended[event["trial"]] = event["time"]
    return began, ended
