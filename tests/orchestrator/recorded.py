"""The folder of a sweep as `sweep` leaves it before the first trial."""

from __future__ import annotations

from pathlib import Path

from orchestrator.record.folder import folder_of, journal_of, prepare
from orchestrator.record.proposals import load_proposals, propose
from orchestrator.sweep import Sweep
from orchestrator.trials.space import Trial, all_trials


def recorded(sweep: Sweep) -> tuple[Path, list[Trial]]:
    """The sweep's folder, made, and all its trials, proposed."""
    run = folder_of(sweep)
    prepare(sweep, run)
    known = load_proposals(run)
    trials = all_trials(sweep, known)
    names = {proposal.trial for proposal in known}
    propose(
        journal_of(run),
        [trial.proposal for trial in trials if trial.proposal.trial not in names],
    )
    return run, trials
