"""What an ensemble may cost, and what it costs: the sum over the networks it needs, each once.

Limits are plain numbers here; what they are relative to is settled before. Knows no scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import Literal, get_args

from trainables.contract.artifacts import Cost

Measure = Literal["nonzero_params", "latency_ms", "members", "bytes"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def figures_of(cost: Cost) -> dict[Measure, float]:
    """What one network costs, by measure; a measure that is not known of it is absent.

    nonzero_params: of the deploy form, which ships. latency_ms: of one clip. members: 1. bytes: of
    the deploy form's file.
    """
    known = {
        "nonzero_params": cost.deploy_nonzero_params,
        "latency_ms": cost.deploy_latency_ms,
        "members": 1,
        "bytes": cost.deploy_bytes,
    }
    figures = {measure: known[measure] for measure in MEASURES}
    return {measure: float(value) for measure, value in figures.items() if value is not None}


@dataclass(frozen=True, eq=False, slots=True)
class Budget:
    """Limits, by measure, on the sum over an ensemble's networks; without limits all fits.

    A network that lacks the figure of a limited measure fits into no ensemble.
    """

    limits: Mapping[Measure, float] = field(default_factory=dict)
    # network (its trial) -> measure -> figure
    figures: Mapping[str, Mapping[Measure, float]] = field(default_factory=dict)

    def cost(self, trials: Collection[str]) -> dict[Measure, float]:
        """What the networks cost together, each counted once however often it is named; a measure
        that one of them lacks is absent.
        """
        own = [self.figures.get(trial, {}) for trial in dict.fromkeys(trials)]
        return {
            measure: fsum(each[measure] for each in own)
            for measure in MEASURES
            if all(measure in each for each in own)
        }

    def fits(self, trials: Collection[str]) -> bool:
        """Whether the networks keep every limit together."""
        if not self.limits:
            return True
        cost = self.cost(trials)
        return all(cost.get(measure, float("inf")) <= most for measure, most in self.limits.items())

    def excess(self, trials: Collection[str]) -> str:
        """What exceeds the limits, in words: measure, cost and limit; empty where all is kept."""
        cost = self.cost(trials)
        return "; ".join(
            f"{measure} {written(cost[measure])}, the limit is {written(most)}"
            if measure in cost
            else f"{measure} of {', '.join(self.lacking(trials, measure))} is not known"
            for measure, most in self.limits.items()
            if cost.get(measure, float("inf")) > most
        )

    def lacking(self, trials: Iterable[str], measure: Measure) -> list[str]:
        """The networks whose figure is not known."""
        return [trial for trial in trials if measure not in self.figures.get(trial, {})]


def written(figure: float) -> str:
    """A cost or a limit as people read it: 12,345 or 3.25."""
    return f"{figure:,.0f}" if float(figure).is_integer() else f"{figure:,.4g}"
