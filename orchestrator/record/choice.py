"""Which of a cell's finished trials is the best: within the sweep's limits, by its objectives.

Knows neither files nor scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.trials.best import preference, within_limits
from orchestrator.trials.proposed import Proposal
from trainables.contract.artifacts import TrialResult

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

Seeds = TypeVar("Seeds", bound=Collection[object])

# trials that differ in nothing but the seed, by seed
Candidate = list[tuple[Proposal, TrialResult]]


def by_assignment(finished: Iterable[tuple[Proposal, TrialResult]]) -> list[Candidate]:
    """The finished trials of one cell, those of one assignment together."""
    groups: dict[str, Candidate] = {}
    for proposal, result in finished:
        alike = groups.setdefault(repr(sorted(proposal.assignment.items())), [])
        alike.append((proposal, result))
    return [sorted(each, key=lambda pair: pair[0].seed) for each in groups.values()]


def comparable(assignments: Iterable[Seeds]) -> list[Seeds]:
    """Those of a cell's assignments, each the trials of its seeds, of which the most seeds have
    finished: a mean over three and a single value that may be a lucky one do not compare.
    """
    known = list(assignments)
    most = max((len(each) for each in known), default=0)
    return [each for each in known if len(each) == most]


def allowed(candidates: Iterable[Candidate], sweep: Sweep) -> list[Candidate]:
    """What a cell's member is chosen from: comparable and within the metric constraints."""
    return comparable(each for each in candidates if within_limits(sweep, _means(each, sweep)))


def _mean(candidate: Candidate, metric: str) -> float | None:
    """Mean of a metric over the seeds; None if a trial does not have it."""
    values = [result.metrics().get(metric) for _, result in candidate]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _means(candidate: Candidate, sweep: Sweep) -> dict[str, float | None]:
    """Over the seeds, of every metric that decides."""
    named = [each.metric for each in sweep.objectives]
    named += [each.metric for each in sweep.metric_limits]
    return {metric: _mean(candidate, metric) for metric in named}


def order(candidate: Candidate, sweep: Sweep) -> tuple[Any, ...]:
    """What candidates are sorted by, the best first: the objectives in turn, then the trial's id.

    A metric that is missing comes last.
    """
    return (*preference(sweep, _means(candidate, sweep)), candidate[0][0].trial)
