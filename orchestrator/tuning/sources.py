"""Whose weights a trial starts from, once the trials it waited for have ended. Knows no Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.record.choice import order
from orchestrator.record.states import load_failures
from orchestrator.sweep import Sweep
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.space import Trial
from trainables.contract.errors import TrialFailed
from trainables.contract.sparsity import FROM_THE_SWEEP


class Sources:
    """The folders that `sparsity.from` stands for."""

    def __init__(
        self, sweep: Sweep, run: Path, trials: Iterable[Trial], fetched: Mapping[str, Path]
    ) -> None:
        """trials: those of the sweep that are known; there may be more later. fetched: what a
        `from` that is no folder stands for, by its text.
        """
        self._sweep = sweep
        self._run = run
        self._trials = trials
        self._fetched = dict(fetched)

    def folder(self, trial: Trial) -> Path | None:
        """Absolute; None where the trial starts from weights that are drawn. TrialFailed where no
        dense trial it may start from has a result.
        """
        source = trial.config.sparsity.source
        if source is None:
            return None
        if source == FROM_THE_SWEEP:
            return self._best(self._candidates(trial)).folder(self._run).path.absolute()
        return self._fetched.get(source, Path(source)).absolute()

    def _candidates(self, trial: Trial) -> list[Proposal]:
        proposals = {each.proposal.trial: each.proposal for each in self._trials}
        return [proposals[name] for name in trial.proposal.after]

    def _best(self, candidates: list[Proposal]) -> Proposal:
        """The one that the sweep's objectives prefer, as for the members of ensembles; nothing is
        chosen on the test split.
        """
        complete = [
            (proposal, proposal.folder(self._run).load())
            for proposal in candidates
            if proposal.folder(self._run).is_complete()
        ]
        if not complete:
            failures = load_failures(self._run)
            reasons = "; ".join(
                f"{proposal.trial}: {failures.get(proposal.trial, 'ended without a result')}"
                for proposal in candidates
            )
            reasons = reasons or "there is none of its model, data and seed"
            raise TrialFailed(f"no dense trial to start from has a result: {reasons}")
        return min(complete, key=lambda each: order([each], self._sweep))[0]
