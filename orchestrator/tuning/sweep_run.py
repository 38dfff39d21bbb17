"""What one run of a sweep works with. Knows no Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.record.journal import Journal
from orchestrator.record.proposals import propose
from orchestrator.search.making import Earlier, asks
from orchestrator.sweep import Sweep
from orchestrator.tracking.tracker import Tracker
from orchestrator.trials.dense import cells_behind
from orchestrator.trials.proposed import Proposal, Trial
from orchestrator.trials.space import all_trials
from orchestrator.tuning.signals import StopSwitch

if TYPE_CHECKING:
    from orchestrator.tuning.cluster import Cluster


def known_trials(
    sweep: Sweep, recorded: Sequence[Proposal]
) -> tuple[list[Trial], dict[str, int], dict[str, frozenset[str]]]:
    """(the trials of a sweep that are known, its slots, what its cells are behind), as `SweepRun`
    has them. recorded: what earlier runs of it proposed.
    """
    planned = all_trials(sweep, recorded)
    if not asks(sweep):
        return planned, {}, {}
    names = {proposal.trial for proposal in recorded}
    known = [trial for trial in planned if trial.proposal.trial in names]
    return known, Counter(trial.proposal.cell for trial in planned), cells_behind(planned)


@dataclass(frozen=True)
class SweepRun:
    """A sweep, its folder, its trials, and who is told what becomes of them."""

    sweep: Sweep
    folder: Path
    trials: list[Trial]  # those known now; a search that makes them one by one adds to them
    journal: Journal
    tracker: Tracker
    # HOST:PORT of a Ray cluster to join; None: that in RAY_ADDRESS, else this machine
    address: str | None = None
    seconds_left: float | None = None  # of the sweep's time budget; None: no limit
    # folders that stand for MLflow runs in `sparsity.from`
    fetched: Mapping[str, Path] = field(default_factory=dict)
    # trials of each cell, where they are made one by one; else all of them are known
    slots: Mapping[str, int] = field(default_factory=dict)
    # cells that wait for the dense trials of others, see `cells_behind`
    behind: Mapping[str, Collection[str]] = field(default_factory=dict)
    earlier: Sequence[Earlier] = ()  # trials of other sweeps that the searches learn from
    # waits for the Ray cluster that is being started; None: it is started when it is needed
    cluster: Callable[[], Cluster] | None = None
    # what was asked of this run before its trials; None: it is made when they begin
    switch: StopSwitch | None = None
    begin: Callable[[], None] = lambda: None  # called before a trial is given out

    def propose(self, trial: Trial) -> None:
        """Write a new trial down, before it may start."""
        propose(self.journal, [trial.proposal])
        self.trials.append(trial)

    def exhausted(self, cell: str) -> None:
        """Write down that the cell gets no more trials although it has slots left."""
        known = sum(trial.proposal.cell == cell for trial in self.trials)
        if known < self.slots.get(cell, 0):
            self.journal.append("cell_exhausted", cell=cell, trials=known, of=self.slots[cell])
