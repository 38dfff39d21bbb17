"""A proposal: one entry of the list of trials that a sweep asks for.

Knows nothing of how it was drawn, nor of where the list is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig


@dataclass(frozen=True, slots=True)
class Proposal:
    """Which cell a trial competes in, and what makes it differ from the others there."""

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


@dataclass(frozen=True)
class Trial:
    """One training to run: its proposal and its full configuration."""

    proposal: Proposal
    config: TrialConfig
