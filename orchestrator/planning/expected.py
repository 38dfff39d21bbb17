"""How long the trials of a sweep are expected to take, and what comes before and after them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.planning.calibration import Correction, kind_of
from orchestrator.planning.pace import Pace, TrialWork, forward_work, trial_work
from orchestrator.planning.sizes import Sizes
from orchestrator.trials.space import Trial
from trainables.contract.config import TrialConfig
from trainables.cost.timed import seconds_of_timing

if TYPE_CHECKING:
    from trainables.data.store.reading import Split

START_S = 10.0
"""Until the first trial starts: Ray, MLflow, and the workers' torch."""
CONCLUSION_S, CELL_S = 4.0, 0.5
"""Ensembles, final evaluation and report, in all and for every cell."""
PROPOSAL_S = {"gp": 1.4, "tpe": 0.02, "auto": 0.02, "nsga2": 0.015}
"""Until a search that learns has made a proposal, which a place for a trial waits for, by method;
measured between 10 and 300 trials of a cell.
"""
BATCH = 64
"""Of the second latency that is measured of every structure."""
COMPACT_FROM = 0.9
"""From this level on, trials of one network tend to differ in the channels that masks leave, so
that every one of them is timed.
"""


@dataclass(frozen=True)
class TrialTime:
    """What is expected of one trial, in seconds that nothing has corrected yet."""

    kind: str
    once: float  # before its first epoch and after its last
    epoch: float
    epochs: int

    @property
    def seconds(self) -> float:
        return self.once + self.epochs * self.epoch


@dataclass
class Expected:
    """Trials of one store on one machine; equal ones are computed once."""

    sizes: Sizes
    split: Split
    pace: Pace
    _known: dict[Hashable, TrialWork] = field(default_factory=dict)

    def of(self, config: TrialConfig) -> TrialTime:
        """One trial."""
        train, data = config.train, config.data
        key = (self.sizes.key(config), config.sparsity, train, data.repeat, data.views)
        if key not in self._known:
            self._known[key] = trial_work(config, self.sizes, self.split)
        work = self._known[key]
        return TrialTime(
            kind_of(config),
            work.once.seconds(self.pace),
            work.epoch.seconds(self.pace),
            work.epochs,
        )

    def timing_seconds(self, trials: Iterable[Trial], *, sparse: bool) -> float:
        """Of the latencies that are measured when all trials have ended: once of every structure
        and level, and of every trial where those of one level tend to differ. sparse: masked
        networks are timed on their kept weights, too; else a level counts by its structure alone.
        """
        structures: dict[Hashable, TrialConfig] = {}
        for trial in trials:
            config, sparsity = trial.config, trial.config.sparsity
            learned = sparse and sparsity.level == "learned"
            differs = learned or sparsity.expected_level >= COMPACT_FROM
            own = (trial.proposal.trial,) if differs else ()
            level = (sparsity.expected_level,) if sparse else ()
            structures.setdefault((self.sizes.key(config), *level, *own), config)
        return sum(self._timing(config, sparse) for config in structures.values())

    def _timing(self, config: TrialConfig, sparse: bool) -> float:
        """Of a deploy form, run dense, in its compact form and on its kept weights."""
        cost, sparsity = self.sizes.count(config).deploy, config.sparsity
        forms = 1 + (sparsity.expected_level >= COMPACT_FROM) + (sparse and not sparsity.dense)
        calls = [forward_work(cost, n, n).seconds(self.pace) for n in (1, BATCH)]
        return forms * sum(map(seconds_of_timing, calls))


def corrected(times: Mapping[str, TrialTime], correction: Correction) -> dict[str, float]:
    """Seconds of whole trials, by trial."""
    factors = {kind: correction.of(kind) for kind in {each.kind for each in times.values()}}
    return {name: factors[each.kind] * each.seconds for name, each in times.items()}
