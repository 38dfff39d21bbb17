"""What one run of a sweep works with. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.record.journal import Journal
from orchestrator.sweep import Sweep
from orchestrator.tracking.tracker import Tracker
from orchestrator.trials.space import Trial


@dataclass(frozen=True)
class SweepRun:
    """A sweep, its folder, its trials, and who is told what becomes of them."""

    sweep: Sweep
    folder: Path
    trials: Sequence[Trial]
    journal: Journal
    tracker: Tracker
    # HOST:PORT of a Ray cluster to join; None: that in RAY_ADDRESS, else this machine
    address: str | None = None
    seconds_left: float | None = None  # of the sweep's time budget; None: no limit
    # folders that stand for MLflow runs in `sparsity.from`
    fetched: Mapping[str, Path] = field(default_factory=dict)
