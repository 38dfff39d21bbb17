"""Tune's events, passed on to the journal, the tracker and the progress display.

How a trial ended is read from its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from orchestrator.record.journal import Journal
from orchestrator.tracking.tracker import Tracker
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.space import Trial
from orchestrator.tuning.progress import Progress
from orchestrator.tuning.searcher import SweepSearcher
from trainables.contract.artifacts import EPOCH_METRICS
from trainables.ray_trainable import FAILED, WARNING


class SweepCallback(Callback):  # type: ignore[misc]  # Ray ships no types
    """Listener on the one Tune run of a sweep."""

    def __init__(
        self,
        run: Path,
        searcher: SweepSearcher,
        journal: Journal,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self._run = run
        self._searcher = searcher
        self._journal = journal
        self._tracker = tracker
        self._progress = progress
        # trials of this run that ended without a result, and will not be tried again in it
        self.failed: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore of its own; a sweep continues from its files
        instead.
        """
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        proposed = self._trial(trial)
        proposal = proposed.proposal
        source = trial.config["source"]
        self._journal.append(
            "trial_started",
            trial=proposal.trial,
            cell=proposal.cell,
            **({"source": source} if source else {}),
        )
        self._tracker.start_trial(proposal.trial, proposal.cell, proposed.config, proposal.axes)
        self._progress.started(proposal.cell, proposal.trial)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        proposal = self._trial(trial).proposal
        if WARNING in result:
            self._progress.note(f"warning   {proposal.trial}: {result[WARNING]}")
        if "epoch" not in result:
            return  # a warning, or the closing line of a trial that did not finish
        metrics = {name: float(result[name]) for name in EPOCH_METRICS if name in result}
        self._tracker.log_epoch(proposal.trial, int(result["epoch"]), metrics)
        self._progress.epoch(proposal.cell, proposal.trial, {"epoch": result["epoch"], **metrics})

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trial, reason=(trial.last_result or {}).get(FAILED))

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Tune has given the trial up after its restarts."""
        self._ended(trial, reason=_last_line(trial))

    def _ended(self, trial: TuneTrial, reason: str | None) -> None:
        proposal = self._trial(trial).proposal
        folder = proposal.folder(self._run)
        if folder.is_complete():
            result = folder.load()
            self._journal.append(
                "trial_finished",
                trial=proposal.trial,
                cell=proposal.cell,
                seconds=result.seconds,
                **_headline(result.metrics()),
            )
            self._tracker.finish_trial(proposal.trial, folder, "finished")
            self._progress.finished(proposal.cell, proposal.trial, result)
            self._searcher.tell(trial.trial_id, result)
            return
        if reason is None:
            self._journal.append("trial_interrupted", trial=proposal.trial, cell=proposal.cell)
            self._tracker.finish_trial(proposal.trial, folder, "interrupted")
            self._progress.interrupted(proposal.cell, proposal.trial)
        else:
            self._failed(proposal, reason)
        self._searcher.tell(trial.trial_id, None)

    def give_up(self, proposed: Trial, reason: str) -> None:
        """A trial that cannot start, because none that it could start from has a result."""
        proposal = proposed.proposal
        self._tracker.start_trial(proposal.trial, proposal.cell, proposed.config, proposal.axes)
        self._failed(proposal, reason)

    def _failed(self, proposal: Proposal, reason: str) -> None:
        self.failed.add(proposal.trial)
        self._journal.append(
            "trial_failed", trial=proposal.trial, cell=proposal.cell, reason=reason
        )
        self._tracker.finish_trial(proposal.trial, proposal.folder(self._run), "failed", reason)
        self._progress.failed(proposal.cell, proposal.trial, reason)

    def _trial(self, trial: TuneTrial) -> Trial:
        return self._searcher.trial_of(trial.trial_id)


def _headline(metrics: dict[str, float]) -> dict[str, float]:
    """The numbers `status` shows without opening the trial."""
    return {name: metrics[name] for name in ("selection_top1", "nonzero_params") if name in metrics}


def _last_line(trial: TuneTrial) -> str:
    """The exception behind a trial Tune gave up, in one line."""
    try:
        text = Path(trial.error_file).read_text() if trial.error_file else ""
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the worker died"
