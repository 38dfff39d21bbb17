"""The accuracy of ensembles against what they cost: for several budgets the best greedy ensemble,
and of these the ones that no cheaper one is as good as. Chosen on the selection split alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.ensembling.budgets import Measure, figures_of
from orchestrator.ensembling.build import Ensemble, build_ensembles
from orchestrator.ensembling.evaluate import (
    BoolArray,
    IntArray,
    accuracy,
    accuracy_on_selection,
    ranks,
)
from orchestrator.ensembling.pools import Pool
from orchestrator.ensembling.results import FrontPoint
from orchestrator.sweep.asked import Asked, asked_ensemble

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig

BUDGETS = 8
"""Of a front: how many are tried, evenly spaced in their logarithm between the cheapest network and
all of them together, beside those of single networks."""
MOST_MEMBERS = 200
"""Of a sweep whose fronts are found without being asked for."""


def fronts_of(pool: Pool) -> dict[Measure, tuple[Ensemble, ...]]:
    """The fronts of a final evaluation: of what ships and, where all networks were timed, of
    latency. None of a pool that is too large for it.
    """
    if len(pool.members) > MOST_MEMBERS:
        return {}
    timed = all(each.result.cost.deploy_latency_ms is not None for each in pool.members)
    measures: tuple[Measure, ...] = (
        ("nonzero_params", "latency_ms") if timed else ("nonzero_params",)
    )
    return {measure: front(pool, measure) for measure in measures}


def front(pool: Pool, measure: Measure) -> tuple[Ensemble, ...]:
    """The non-dominated greedy ensembles of all cells, the cheapest first; none where nothing was
    held out, where fewer than two networks have the measure, or they are of several divisions.
    """
    divisions = {member.division for member in pool.members}
    if not pool.held_out or len(divisions) != 1 or len(pool.members) < 2:
        return ()
    axes = pool.axes()
    fields = Asked().fields("front", axes)
    recipe = asked_ensemble(fields, axes, held_out=True)
    tried = [
        ensemble
        for limit in _limits(pool, measure)
        for ensemble in build_ensembles(
            (_within(recipe, measure, limit),), pool.members, pool.cells
        ).ensembles
    ]
    return _non_dominated(tried, measure)


def _within(recipe: EnsembleConfig, measure: Measure, limit: float) -> EnsembleConfig:
    number = int(limit) if measure == "members" else limit
    budget = recipe.budget.model_copy(update={measure: number})
    return recipe.model_copy(update={"budget": budget})


def _limits(pool: Pool, measure: Measure) -> list[float]:
    """The budgets to try, rising: evenly spaced ones, and those of the single networks that are
    better than all cheaper ones.
    """
    figures = {each.name: figures_of(each.result.cost).get(measure) for each in pool.members}
    known = {name: cost for name, cost in figures.items() if cost is not None}
    if len(known) < 2:
        return []
    if measure == "members":
        return [float(number) for number in range(1, min(len(known), BUDGETS) + 1)]
    costs, best = list[float](), -1.0
    skill = {each.name: each.result.selection_top1 or 0.0 for each in pool.members}
    for name in sorted(known, key=lambda name: (known[name], -skill[name])):
        if skill[name] > best:
            costs.append(known[name])
            best = skill[name]
    whole = 1.001 * fsum(known.values())  # beyond the sum of all, whatever the last digit says
    return sorted({*costs, *np.geomspace(min(costs), whole, BUDGETS).tolist()})


def _non_dominated(tried: Sequence[Ensemble], measure: Measure) -> tuple[Ensemble, ...]:
    """Those that are better than all that cost as much or less; of equal ones the first."""
    found: list[Ensemble] = []
    best = -1
    for ensemble in sorted(tried, key=lambda each: (each.cost[measure], -_right(each))):
        if _right(ensemble) > best:
            found.append(ensemble)
            best = _right(ensemble)
    return tuple(found)


def _right(ensemble: Ensemble) -> int:
    """How many selection clips it gets right."""
    table = ensemble.selection
    assert table is not None  # clips were held out
    assert table.labels is not None
    return int((ranks(table.logits, table.labels) == 0).sum())


def front_point(
    ensemble: Ensemble,
    measure: Measure,
    labels: IntArray | None = None,
    clean: BoolArray | None = None,
) -> FrontPoint:
    """The ensemble as a point of a front; evaluated on the test split where its labels (N,) are
    given. clean: which of the clips are no copies; None where that makes no difference.
    """
    table, logits = ensemble.selection, ensemble.has_probabilities
    assert table is not None  # clips were held out
    assert table.labels is not None
    test = ensemble.test.logits
    return FrontPoint(
        measure=measure,
        limit=ensemble.limits[measure],
        cost=ensemble.cost[measure],
        weights=ensemble.weights,
        selection=accuracy_on_selection(table.logits, table.labels, logits=logits),
        test=None if labels is None else accuracy(test, labels, logits=logits),
        clean=None
        if labels is None or clean is None
        else accuracy(test[clean], labels[clean], logits=logits),
    )


def still_hold(points: Sequence[FrontPoint], pool: Pool) -> bool:
    """Whether the points of latency have the pool's latencies, and there are some if all networks
    were timed.
    """
    times = {each.name: each.result.cost.deploy_latency_ms for each in pool.members}
    if points and None not in times.values() and "latency_ms" not in {p.measure for p in points}:
        return False
    for point in points:
        own = [times.get(name) for name in point.weights]
        known = [each for each in own if each is not None]
        if point.measure == "latency_ms" and len(known) == len(own) and fsum(known) != point.cost:
            return False
    return True
