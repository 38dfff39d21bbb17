"""Room on disk: what the trials of a sweep leave there, and what is free. Starts nothing."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.planning.sizes import BYTES, Sizes
from orchestrator.sweep import Sweep
from orchestrator.sweep.secrets import expanded
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.space import Trial

if TYPE_CHECKING:
    from trainables.data.store.reading import Split

MARGIN = 16e6
"""Bytes for what no trial writes: journal, MLflow's database, the report."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a trial leaves on disk, in bytes."""

    checkpoint: float
    kept: float  # deploy form and scores, which always stay

    @property
    def whole(self) -> float:
        return self.checkpoint + self.kept


class Footprints:
    """Those of the trials on the clips of a split."""

    def __init__(self, sizes: Sizes, split: Split) -> None:
        self._sizes = sizes
        clips = len(split.selection) + len(split.test)
        self._scores = clips * len(sizes.store.info.classes) * BYTES

    @classmethod
    def of(cls, sweep: Sweep) -> Footprints:
        """UserError where the sweep's store cannot be read."""
        from trainables.data.store.cache import open_outline

        store = open_outline(sweep.data.store)
        return cls(Sizes(store), store.split(sweep.data.protocol, sweep.data.selection))

    def trial(self, trial: Trial) -> Footprint:
        """Of one trial."""
        deploy = BYTES * self._sizes.count(trial.config).deploy.params
        whole = self._sizes.disk_bytes(trial.config)
        return Footprint(whole - deploy, deploy + self._scores)

    def needed(self, sweep: Sweep, trials: Sequence[Trial], at_once: int, copies: int = 0) -> float:
        """Bytes that these trials take at most while they run `at_once` at a time, and when they
        have ended, as `retain.checkpoints` says. copies: of what always stays, see `copies_of`.
        """
        prints = [self.trial(trial) for trial in trials]
        kept = (1 + copies) * sum(each.kept for each in prints) + self._shared(sweep, trials)
        if sweep.retain.checkpoints == "all":
            return kept + sum(each.checkpoint for each in prints)
        running = nlargest(at_once, (each.checkpoint for each in prints))
        return kept + sum(running) + _stays(sweep, zip(trials, prints, strict=True))

    def _shared(self, sweep: Sweep, trials: Sequence[Trial]) -> float:
        """Bytes of the states after beginnings that the trials share: weights, momentum, and what
        weights go back to.
        """
        configs = {trial.proposal.trial: trial.config for trial in trials}
        total = 0.0
        for each in shared_beginnings(sweep, trials):
            config = configs[min(each.branching)]
            copies = 3 if config.sparsity.rewinds and config.sparsity.rewind_epoch else 2
            total += BYTES * copies * self._sizes.count(config).training.params
        return total


def _stays(sweep: Sweep, trials: Iterable[tuple[Trial, Footprint]]) -> float:
    """Bytes of the checkpoints that stay: one of each cell, and of each group of dense trials that
    others start from; that of the largest network there.
    """
    known = {trial.proposal.trial: (trial, found) for trial, found in trials}
    largest: dict[Hashable, float] = {}
    if sweep.retain.checkpoints == "best_per_cell":
        for trial, found in known.values():
            cell = trial.proposal.cell
            largest[cell] = max(largest.get(cell, 0.0), found.checkpoint)
    for group in {trial.proposal.after for trial, _ in known.values()}:
        members = [known[name][1].checkpoint for name in group if name in known]
        if members:
            largest[group] = max(members)
    return sum(largest.values())


def free_bytes(folder: Path) -> float:
    """What this user may still write there, or in the nearest folder above that exists."""
    found = os.statvfs(_nearest(folder))
    return float(found.f_bavail * found.f_frsize)


def copies_of(sweep: Sweep, folder: Path) -> int:
    """How many copies of a trial's files MLflow keeps on the disk of the sweep's folder: one where
    its database file lies on it, as artifacts lie beside that.
    """
    if sweep.tracking.is_off or not sweep.tracking.uri.startswith("sqlite:///"):
        return 0
    database = Path(expanded(sweep.tracking.uri, "tracking.uri").removeprefix("sqlite:///"))
    return int(_nearest(database).stat().st_dev == _nearest(folder).stat().st_dev)


def _nearest(folder: Path) -> Path:
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    return path


def shortage(folder: Path, needed: float, who: str) -> str | None:
    """`runs: the 4 running trials need 1.2 GB of disk, 0.8 GB are free: 0.4 GB are missing`; None
    where there is room.
    """
    needed, free = needed + MARGIN, free_bytes(folder)
    if free >= needed:
        return None
    return (
        f"{folder}: {who} {amount(needed)} of disk, {amount(free)} are free:"
        f" {amount(needed - free)} are missing"
    )


def savings(
    footprints: Footprints, sweep: Sweep, trials: Sequence[Trial], at_once: int, copies: int = 0
) -> str:
    """`with retain.checkpoints best_per_cell 3.1 GB, none 2.2 GB`; empty where none needs less."""
    now = footprints.needed(sweep, trials, at_once, copies)
    less = []
    for policy in ("best_per_cell", "none"):
        retain = sweep.retain.model_copy(update={"checkpoints": policy})
        other = sweep.model_copy(update={"retain": retain})
        need = footprints.needed(other, trials, at_once, copies)
        less += [f"{policy} {amount(need + MARGIN)}"] if need < now else []
    return f"with retain.checkpoints {', '.join(less)}" if less else ""


def amount(size: float) -> str:
    """`1.2 GB`, `340 MB`, `12 kB`, of 1000 bytes each."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return (
                f"{size / factor:.3g} {unit}"
                if size < 100 * factor
                else f"{size / factor:,.0f} {unit}"
            )
    return f"{size / 1e3:.0f} kB" if size >= 1000 else f"{size:.0f} bytes"
