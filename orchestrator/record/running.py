"""How far the running trials are, as the driver last wrote it: a small file in the sweep's folder,
for `status`. Nothing else is built on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.record.copies import remove
from trainables.contract.disk import write_json

FILE = "running.json"


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that has a worker, and what it last reported."""

    trial: str
    cell: str
    epochs: int  # of the whole trial
    epoch: int = 0  # how many are done
    train_loss: float | None = None
    selection_top1: float | None = None  # of the last epoch, as a fraction
    best_top1: float | None = None  # of the epochs that this driver saw
    seconds_left: float | None = None  # None before the second epoch
    step: int = 0  # how many steps of the epoch under way are done, once it takes minutes
    steps: int = 0  # of that epoch; 0 while nothing is known of it

    @property
    def position(self) -> str:
        """`12/65`, and `12/65, step 40/600` in a long epoch."""
        within = f", step {self.step}/{self.steps}" if self.steps else ""
        return f"{self.epoch}/{self.epochs}{within}"

    @property
    def words(self) -> str:
        """`epoch 12/65, loss 1.234, selection 56.1 %, about 40 min left`; in a first epoch that
        takes minutes `still in epoch 1, step 40/600`.
        """
        if not self.epoch:
            steps = f"still in epoch 1, step {self.step}/{self.steps}"
            return steps if self.steps else "before its first epoch"
        parts = [f"epoch {self.position}"]
        if self.train_loss is not None:
            parts.append(f"loss {self.train_loss:.3f}")
        if self.selection_top1 is not None:
            parts.append(f"selection {100 * self.selection_top1:.1f} %")
        if self.seconds_left:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Running:
    """What runs now."""

    trials: tuple[RunningTrial, ...] = ()
    seconds_left: float | None = None  # of the whole sweep's trials; None while nothing is known
    waits_for: str = ""  # why no trial runs, in words


def write_running(run: Path, running: Running) -> None:
    """Replace what the folder says."""
    write_json(run / FILE, asdict(running))


def load_running(run: Path) -> Running:
    """What the driver last wrote; nothing where it has not, or where the file is damaged."""
    try:
        content = json.loads((run / FILE).read_text())
        trials = tuple(RunningTrial(**each) for each in content["trials"])
        return Running(trials, content["seconds_left"], content.get("waits_for", ""))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Running()


def remove_running(run: Path) -> None:
    """Nothing runs any more."""
    remove(run / FILE)


def all_seconds_left(
    running: Sequence[RunningTrial], waiting: int, trial_seconds: float | None, at_once: int
) -> float | None:
    """Of all trials, `at_once` at a time: what the running ones still need, and `trial_seconds` for
    each that waits. None where something of that is not known.
    """
    lefts = [trial.seconds_left for trial in running]
    known = [left for left in lefts if left is not None]
    if len(known) < len(lefts) and trial_seconds is None:
        return None
    if waiting and trial_seconds is None:
        return None
    fallback = trial_seconds or 0.0
    work = sum(fallback if left is None else left for left in lefts) + waiting * fallback
    return max([work / max(at_once, 1), *known])


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`; at least a second."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
