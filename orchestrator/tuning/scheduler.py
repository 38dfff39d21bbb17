"""The adapter between Tune's scheduler and the stopping rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.trials.space import Trial
from orchestrator.tuning.early import EarlyStops
from trainables.contract.artifacts import EPOCH_METRICS
from trainables.ray_trainable import epochs_of


class SweepScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
    """Trials start in the order they are proposed, and end where the rule of their cell says so."""

    def __init__(self, early: EarlyStops, trial_of: Callable[[str], Trial]) -> None:
        """trial_of: what runs under Tune's trial id."""
        super().__init__()
        self._early = early
        self._trial_of = trial_of

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles it for a restore of its own; a sweep continues from its files instead."""
        return {}

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        decision: str = TrialScheduler.CONTINUE
        for told in epochs_of(result):
            metrics = {name: float(told[name]) for name in EPOCH_METRICS if name in told}
            if self._early.ends(self._trial_of(trial.trial_id), int(told["epoch"]), metrics):
                decision = TrialScheduler.STOP
        return decision
