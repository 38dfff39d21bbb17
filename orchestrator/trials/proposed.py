"""The trials a sweep asks for, as listed in the `resolved.json` of its folder.

Knows nothing of how they were drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """One entry of the list: which cell the trial competes in, and what makes it differ from the
    others there.
    """

    trial: str
    cell: str
    axes: Mapping[str, Any]  # grid axis -> value, the same for all trials of the cell
    assignment: Mapping[str, Any]  # searched parameter -> value
    seed: int
    # the dense trials whose weights it may start from (`sparsity.from: dense`): they are trained
    # first
    after: tuple[str, ...] = ()

    def folder(self, run: Path) -> TrialDir:
        """Where the trial leaves its files."""
        return TrialDir(run / "trials" / self.trial)


def load_resolved(run: Path) -> dict[str, Any]:
    """The content of resolved.json: the expanded `sweep`, its `digest` and its `trials`; UserError
    if the folder holds none.
    """
    path = run / "resolved.json"
    try:
        resolved = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{run}: not the folder of a sweep, resolved.json is missing") from None
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(resolved, dict) or not {"sweep", "trials"} <= set(resolved):
        raise UserError(f"{path}: must be a record with the sweep and its trials")
    return resolved


def load_planned(run: Path) -> tuple[PlannedTrial, ...]:
    """The trials of the sweep in `run`, in the order they were planned."""
    entries = load_resolved(run)["trials"]
    try:
        return tuple(
            PlannedTrial(
                **{name: entry[name] for name in ("trial", "cell", "axes", "assignment", "seed")},
                after=tuple(entry.get("after", ())),
            )
            for entry in entries
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{run / 'resolved.json'}: an entry of 'trials' is incomplete: {error}"
        ) from error
