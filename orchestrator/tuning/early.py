"""Early stopping over all runs of a sweep: what its trials reported, and which of them end by it.

Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import isfinite, nan
from pathlib import Path

from orchestrator.planning.sizes import SIZE_METRICS, Sizes
from orchestrator.record.copies import send
from orchestrator.record.epochs import EpochLog, write_curve
from orchestrator.record.journal import Journal
from orchestrator.search.protocol import Outcome
from orchestrator.stopping.judge import Judge, KnownMetrics
from orchestrator.sweep import Sweep
from orchestrator.sweep.stopping import NoEarlyTermination
from orchestrator.trials.best import repeats_best
from orchestrator.trials.dense import needed
from orchestrator.trials.proposed import Trial


class EarlyStops:
    """The rules of a sweep as they stand after everything that its trials have reported, in this
    run and in earlier ones: told the same in the same order, they decide the same.
    """

    def __init__(
        self,
        sweep: Sweep,
        run: Path,
        trials: Iterable[Trial],
        ended: Collection[str] = (),
        behind: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """trials: all of the sweep that are known. ended: those that have an ending, whose curves
        are written. behind: see `needed`.
        """
        self.pruned: dict[str, int] = {}  # trial -> how many epochs it was trained
        self._run = run
        self._log = EpochLog(run)
        self._curves: dict[str, list[dict[str, float]]] = {}  # of trials that have no ending
        self._ended = set(ended)
        self._objectives = [each.metric for each in sweep.objectives]
        self._known = _known_metrics(sweep)
        self._judge: Judge | None = None
        options = sweep.early_terminate
        if isinstance(options, NoEarlyTermination):
            return
        by_name = {trial.proposal.trial: trial for trial in trials}
        sources = needed(by_name.values(), behind)
        self._judge = Judge(
            options,
            sweep.objectives,
            sources,
            self._known,
            lambda trial: repeats_best(sweep, trial.proposal),
        )
        for name, epoch, metrics in self._log.load():
            if name in by_name:
                self._judged(self._judge, by_name[name], epoch, metrics)

    def ends(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Whether the trial ends after this epoch (0-based). The report is written down first, so
        that a sweep that is killed decides the same again.
        """
        name = trial.proposal.trial
        if self._judge is None or not self._judge.is_new(name, epoch):
            return name in self.pruned
        self._log.append(name, epoch, metrics)
        return self._judged(self._judge, trial, epoch, metrics)

    def _judged(self, judge: Judge, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
        name = trial.proposal.trial
        if judge.is_new(name, epoch) and name not in self._ended:
            self._curves.setdefault(name, []).append({"epoch": epoch, **metrics})
        if judge.ends(trial, epoch, metrics) or name in self.pruned:
            self.pruned[name] = judge.epochs(name)
        return name in self.pruned

    def end(self, journal: Journal, trial: Trial) -> Outcome:
        """Write down that a rule has ended the trial, its curve first; returns how it stood."""
        proposal, epochs = trial.proposal, self.pruned[trial.proposal.trial]
        curve = self._curves.get(proposal.trial)
        if curve:
            file = proposal.folder(self._run).metrics_file
            write_curve(file, curve)
            send(file)
        last = {**self._known(trial), **(curve[-1] if curve else {})}
        values = {name: last[name] for name in self._objectives if isfinite(last.get(name, nan))}
        journal.append(
            "trial_pruned",
            trial=proposal.trial,
            cell=proposal.cell,
            epochs=epochs,
            of=trial.config.total_epochs,
            values=values,
        )
        return Outcome("pruned", None, epochs, tuple(map(values.get, self._objectives)))

    def forget(self, trial: str) -> None:
        """It has an ending: its curve is in its folder."""
        self._ended.add(trial)
        self._curves.pop(trial, None)


def _known_metrics(sweep: Sweep) -> KnownMetrics:
    """What is known of a trial's size, where the sweep has an objective of it."""
    if not any(each.metric in SIZE_METRICS for each in sweep.objectives):
        return lambda trial: {}
    from trainables.data.store.cache import open_outline

    sizes = Sizes(open_outline(sweep.data.store))
    return lambda trial: sizes.metrics(trial.config)
