"""The adapter between Tune's scheduler and the stopping rules: one rule per cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.stopping.rules import StoppingRule
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import EPOCH_METRICS


class SweepScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
    """Trials start in the order they are proposed, and end where the rule of their cell says so."""

    def __init__(
        self, rules: Mapping[str, StoppingRule], proposal_of: Callable[[str], Proposal]
    ) -> None:
        """rules: by cell. proposal_of: what runs under Tune's trial id."""
        super().__init__()
        self._rules = dict(rules)
        self._proposal_of = proposal_of
        self.pruned: dict[str, int] = {}  # trial -> how many epochs it was trained

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles it for a restore of its own; a sweep continues from its files instead."""
        return {}

    def on_trial_result(
        self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]
    ) -> str:
        decision: str = TrialScheduler.CONTINUE
        if "epoch" not in result:
            return decision
        proposal, epoch = self._proposal_of(trial.trial_id), int(result["epoch"])
        metrics = {name: float(result[name]) for name in EPOCH_METRICS if name in result}
        if self._rules[proposal.cell].ends(proposal.trial, epoch, metrics):
            self.pruned[proposal.trial] = epoch + 1
            decision = TrialScheduler.STOP
        return decision
