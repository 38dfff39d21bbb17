"""Everything a report speaks of, read once from the files of a sweep.

Reads no label of a test clip: what is known of them stands in the final evaluation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.journal import read_journal
from orchestrator.record.resolved import load_resolved
from orchestrator.record.states import TrialState, load_trials
from orchestrator.report.papers.tables import PaperTable
from orchestrator.report.sections.papers import tables_of_papers
from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.disk import warn_once

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Findings:
    """What is known of one sweep, whether it has ended or not."""

    run: Path
    resolved: Mapping[str, Any]  # the content of resolved.json
    trials: Sequence[TrialState]
    evaluation: FinalEvaluation | None  # None before the final evaluation
    journal: Sequence[Mapping[str, Any]]
    # what all rows say of each test clip, by division; nothing in evaluations of version 4
    predictions: Mapping[Division, Predictions]
    published: Sequence[PaperTable]

    @property
    def sweep(self) -> Mapping[str, Any]:
        """The sweep file as it was expanded."""
        found: Mapping[str, Any] = self.resolved["sweep"]
        return found

    @property
    def name(self) -> str:
        """Of the sweep; of its folder where the file gives none."""
        return str(self.sweep.get("name", self.run.name))

    @property
    def goals(self) -> dict[str, str]:
        """metric -> maximize or minimize"""
        return {each["metric"]: each["goal"] for each in self.sweep.get("objectives", ())}


def read_findings(run: Path, *, paper_style: bool = False) -> Findings:
    """Of the sweep in `run`; works before it has ended, too. UserError where the folder holds none.

    paper_style: keep what choosing on the test clips has given, where that was asked for.
    """
    resolved, trials = load_resolved(run), load_trials(run)
    evaluation, journal = FinalEvaluation.load(run), read_journal(run / "journal.jsonl")
    if evaluation is not None and not paper_style:
        evaluation = evaluation.model_copy(update={"paper_style": ()})
    predictions = _predictions(run, evaluation)
    return Findings(
        run,
        resolved,
        trials,
        evaluation,
        journal,
        predictions,
        tables_of_papers(evaluation, *_evaluated(run, trials, evaluation), predictions),
    )


def _evaluated(
    run: Path, trials: Sequence[TrialState], evaluation: FinalEvaluation | None
) -> tuple[dict[str, TrialConfig], dict[str, TrialResult]]:
    """Configuration and result of each trial that was evaluated; one whose configuration is gone or
    damaged is left out, with a warning.
    """
    rows = evaluation.rows if evaluation is not None else ()
    names = {trial for row in rows for trial in row.trials}
    found = [state for state in trials if state.proposal.trial in names]
    configs = {state.proposal.trial: _config(state.proposal.folder(run)) for state in found}
    return (
        {trial: config for trial, config in configs.items() if config is not None},
        {state.proposal.trial: state.result for state in found if state.result is not None},
    )


def _config(folder: TrialDir) -> TrialConfig | None:
    try:
        return folder.load_config()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        warn_once(log, f"{folder.config_file}: cannot be read and is left out: {reason}")
        return None


def _predictions(run: Path, evaluation: FinalEvaluation | None) -> dict[Division, Predictions]:
    """What all rows say of each test clip, by division; nothing in evaluations of version 4."""
    firsts = {row.division: row for row in reversed(evaluation.rows)} if evaluation else {}
    return {
        division: found
        for division, row in firsts.items()
        if evaluation is not None and (found := evaluation.predictions(run, row)) is not None
    }


def bytes_by_trial(trials: Sequence[TrialState]) -> dict[str, int]:
    """Bytes of the deploy forms of finished trials that noted them."""
    return {
        state.proposal.trial: state.result.cost.deploy_bytes
        for state in trials
        if state.result is not None and state.result.cost.deploy_bytes is not None
    }
