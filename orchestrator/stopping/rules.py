"""The rules by which trials end early, and their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class StoppingRule(Protocol):
    """Decides for the trials of one cell; trials of different cells are never compared."""

    def ends(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Whether the trial ends after this epoch (0-based), having reported `metrics`."""
        ...


class Never:
    """Every trial trains to its last epoch."""

    def ends(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> bool:
        return False


RULES: dict[str, Callable[[], StoppingRule]] = {"none": Never}
"""early_terminate.type -> the rule of one cell."""
