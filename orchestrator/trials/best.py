"""What makes one trial better than another: the sweep's objectives and its limits on metrics."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.sweep import Sweep
from orchestrator.trials.proposed import Proposal

Metrics = Mapping[str, float | None]


def within_limits(sweep: Sweep, metrics: Metrics) -> bool:
    """Whether every limit on a metric holds; a metric that is missing does not hold any."""
    for limit in sweep.metric_limits:
        value = metrics.get(limit.metric)
        if (
            value is None
            or (limit.max is not None and value > limit.max)
            or (limit.min is not None and value < limit.min)
        ):
            return False
    return True


def preference(sweep: Sweep, metrics: Metrics) -> tuple[tuple[bool, float], ...]:
    """What trials are sorted by, the best first: the objectives in turn; a metric that is missing
    comes last.
    """
    keys = []
    for objective in sweep.objectives:
        value = metrics.get(objective.metric)
        sign = -1.0 if objective.goal == "maximize" else 1.0
        keys.append((value is None, sign * (value or 0.0)))
    return tuple(keys)


def repeats_best(sweep: Sweep, proposal: Proposal) -> bool:
    """Whether the trial is one of `method.final_seeds`: its cell's best with another seed."""
    return sweep.method.final_seeds > 1 and proposal.seed != sweep.seed
