"""The different networks that the finished trials of sweeps ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.record.copies import place_of
from orchestrator.record.folder import is_running
from orchestrator.record.proposals import load_proposals
from trainables.contract.artifacts import Cost, TrialDir
from trainables.contract.errors import UserError


@dataclass(frozen=True)
class TimedNetwork:
    """Trials whose deploy forms take equally long."""

    trials: tuple[TrialDir, ...]
    cost: Cost  # of the first

    @property
    def name(self) -> str:
        """`joint-level0.6-0a1b2c3d`, or the same `and 3 more`."""
        more = len(self.trials) - 1
        return self.trials[0].path.name + (f" and {more} more" if more else "")


def networks_of(runs: Sequence[Path], *, sparse: bool = True) -> list[TimedNetwork]:
    """Of sweeps in these folders; UserError where one is running or none has a finished trial.
    sparse: they are to be timed on their kept weights, too.

    Trials that do not say what takes equally long stand for themselves: those of version 0.2 and,
    where kept weights are timed, masked ones before 0.6.
    """
    by_structure: dict[str, list[TrialDir]] = {}
    costs: dict[str, Cost] = {}
    for run in runs:
        if is_running(run):
            raise UserError(f"{place_of(run)}: must not be running while its networks are timed")
        for proposal in load_proposals(run):
            folder = proposal.folder(run)
            result = folder.load_if_complete()
            if result is not None:
                key = result.cost.equally_long(sparse=sparse) or str(folder.path)
                by_structure.setdefault(key, []).append(folder)
                costs.setdefault(key, result.cost)
    if not by_structure:
        names = ", ".join(map(str, runs))
        raise UserError(f"{names}: must have a finished trial whose network can be timed")
    return [TimedNetwork(tuple(trials), costs[key]) for key, trials in by_structure.items()]


def threads_of(networks: Sequence[TimedNetwork]) -> tuple[int, ...]:
    """The numbers of CPU threads with which they were timed, the fewest first, so that new
    latencies compare with the others of a sweep; none where none was timed.
    """
    return tuple(sorted({network.cost.latency_threads or 0 for network in networks} - {0}))
