"""Methods held against each other on recorded curves: what each finds in every cell, and what that
costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from statistics import fmean, median
from typing import Any

from orchestrator.planning.sizes import SIZE_METRICS
from orchestrator.search.making import asked_searches, asks, listed_searches
from orchestrator.search.protocol import Outcome
from orchestrator.search.turns import Turns
from orchestrator.simulation.clock import Played, play
from orchestrator.simulation.curves import Curve
from orchestrator.simulation.library import Library
from orchestrator.simulation.ways import BASELINE, Way
from orchestrator.stopping.judge import Judge, KnownMetrics
from orchestrator.sweep import Sweep
from orchestrator.sweep.stopping import NoEarlyTermination
from orchestrator.trials.best import repeats_best, within_limits
from orchestrator.trials.dense import cells_behind, needed
from orchestrator.trials.proposed import Trial
from orchestrator.trials.space import all_trials, cells_of
from trainables.contract.artifacts import TrialResult
from trainables.contract.errors import UserError

EARLY_SHARE = 4
"""Methods are also compared after a quarter of the epochs that random search to the end takes."""


@dataclass(frozen=True)
class Tally:
    """What one way led to: medians over the repetitions, regrets over all cells.

    Regret is how far the best finished trial of a cell is from the best of all recorded ones that
    could have stood for a trial, in units of the first objective; a cell without a finished trial
    is as far as its worst one.
    """

    name: str
    trials: int
    stopped: int
    epochs: int
    seconds: float
    own_curves: float  # share of the trials that have a curve of their own assignment
    regret: float  # mean over the cells
    worst_regret: float
    early_regret: float  # mean, after a quarter of the epochs of random search to the end
    best: Mapping[str, float | None]  # by cell, of the first repetition; None: nothing finished

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def compare(ways: Sequence[Way], curves: Sequence[Curve], workers: int, repeat: int) -> list[Tally]:
    """Play every way through `repeat` times, with seeds of the draws `method.seed` and onwards; the
    first is the file's own, and the one called BASELINE is among them.

    UserError where the curves are not of the sweep's space.
    """
    own = ways[0].sweep
    library = Library(curves, own, all_trials(own))
    known = _known(own, library)
    drawn: dict[str, list[Trial]] = {}  # the trials of a method do not depend on the stopping rule
    runs: dict[str, list[Run]] = {}
    for way in ways:
        for seed in range(own.method.seed, own.method.seed + repeat):
            method = way.sweep.method.model_copy(update={"seed": seed})
            changed = way.sweep.model_copy(update={"method": method})
            key = method.model_dump_json()
            drawn[key] = drawn[key] if key in drawn else all_trials(changed)
            run = play_once(changed, library, drawn[key], workers)
            runs.setdefault(way.name, []).append(run)
    limits = [run.played.epochs / EARLY_SHARE for run in runs[BASELINE]]
    return [_tally(name, each, known, limits) for name, each in runs.items()]


@dataclass(frozen=True)
class Run:
    """One way played through once."""

    sweep: Sweep
    played: Played
    own_curves: float  # share of the trials that have a curve of their own assignment

    def best(self, cells: Iterable[str], until: float) -> dict[str, float | None]:
        """The value of each cell's best trial that had finished by then, larger being better."""
        found: dict[str, float | None] = dict.fromkeys(cells)
        for end in self.played.ends:
            value = None if end.ended > until else _value(self.sweep, end.result)
            before = found[end.cell]
            if value is not None and (before is None or value > before):
                found[end.cell] = value
        return found


def play_once(sweep: Sweep, library: Library, trials: Sequence[Trial], workers: int) -> Run:
    """Play the sweep through with these trials, its search and its early termination."""
    own: list[bool] = []
    found: dict[str, Curve] = {}

    def curve_of(trial: Trial) -> Curve:
        curve, exact = library.nearest(trial)
        own.append(exact)
        found[trial.proposal.trial] = curve
        return curve

    def sizes_of(trial: Trial) -> dict[str, float]:
        result = found[trial.proposal.trial].result
        metrics = result.metrics() if result is not None and has_sizes else {}
        return {name: metrics[name] for name in SIZE_METRICS if name in metrics}

    has_sizes = any(each.metric in SIZE_METRICS for each in sweep.objectives)

    def outcome_of(
        trial: Trial, epochs: int, result: TrialResult | None, last: Mapping[str, float]
    ) -> Outcome:
        if result is not None:
            return Outcome.finished(result, sweep.objectives)
        known = {**sizes_of(trial), **last}
        values = tuple(known.get(each.metric) for each in sweep.objectives)
        return Outcome("pruned", None, epochs, values)

    turns, judge = _turns(sweep, trials), _judge(sweep, trials, sizes_of)
    played = play(turns, judge, curve_of, workers, outcome_of)
    return Run(sweep, played, fmean(own) if own else 1.0)


def _turns(sweep: Sweep, trials: Sequence[Trial]) -> Turns:
    """The searches of a sweep that begins."""
    if asks(sweep):
        known: list[Trial] = []
        cells = [cell for cell, _ in cells_of(sweep)]
        searches = asked_searches(sweep, cells, known)
        return Turns(searches, {}, behind=cells_behind(trials), propose=known.append)
    by_cell: dict[str, list[Trial]] = {}
    for trial in trials:
        by_cell.setdefault(trial.proposal.cell, []).append(trial)
    return Turns(listed_searches(sweep, by_cell), by_cell)


def _judge(sweep: Sweep, trials: Sequence[Trial], sizes_of: KnownMetrics) -> Judge | None:
    options = sweep.early_terminate
    if isinstance(options, NoEarlyTermination):
        return None
    sources = needed(trials, cells_behind(trials) if asks(sweep) else {})
    return Judge(
        options,
        sweep.objectives,
        sources,
        sizes_of,
        lambda trial: repeats_best(sweep, trial.proposal),
    )


def _value(sweep: Sweep, result: TrialResult | None) -> float | None:
    """Of the first objective, larger being better; None outside the limits on metrics."""
    if result is None:
        return None
    metrics, objective = result.metrics(), sweep.objectives[0]
    if not within_limits(sweep, metrics):
        return None
    value = metrics.get(objective.metric)
    return None if value is None else value if objective.goal == "maximize" else -value


def _known(sweep: Sweep, library: Library) -> dict[str, list[float]]:
    """By cell, the values of all recorded trials that could stand for one."""
    found: dict[str, list[float]] = {}
    for cell, shelf in library.cells.items():
        values = [_value(sweep, curve.result) for curve in shelf.curves]
        found[cell] = [value for value in values if value is not None]
    empty = [cell for cell, values in found.items() if not values]
    if empty:
        raise UserError(
            f"cell {', '.join(empty)}: no recorded trial has {sweep.objectives[0].metric} within"
            " the limits of the sweep's constraints"
        )
    return found


def _tally(
    name: str, runs: Sequence[Run], known: Mapping[str, list[float]], limits: Sequence[float]
) -> Tally:
    last = [_regrets(run.best(known, inf), known) for run in runs]
    early = [
        _regrets(run.best(known, run.played.time_of(limit)), known)
        for run, limit in zip(runs, limits, strict=True)
    ]
    ends = [run.played.ends for run in runs]
    return Tally(
        name=name,
        trials=round(median(len(each) for each in ends)),
        stopped=round(median(sum(end.result is None for end in each) for each in ends)),
        epochs=round(median(run.played.epochs for run in runs)),
        seconds=median(run.played.seconds for run in runs),
        own_curves=fmean(run.own_curves for run in runs),
        regret=median(map(fmean, last)),
        worst_regret=median(map(max, last)),
        early_regret=median(map(fmean, early)),
        best=_signed(runs[0].sweep, runs[0].best(known, inf)),
    )


def _regrets(found: Mapping[str, float | None], known: Mapping[str, list[float]]) -> list[float]:
    """Of each cell."""
    return [
        max(values) - (min(values) if found[cell] is None else found[cell] or 0.0)
        for cell, values in known.items()
    ]


def _signed(sweep: Sweep, found: Mapping[str, float | None]) -> dict[str, float | None]:
    """As the metric is reported."""
    sign = 1 if sweep.objectives[0].goal == "maximize" else -1
    return {cell: None if value is None else sign * value for cell, value in found.items()}
