"""What an ensemble may cost, and what it costs: the sum over the networks it needs, each once.

Knows no scores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum, inf
from typing import Literal, get_args

from orchestrator.sweep.limits import EnsembleBudget, share_of
from trainables.contract.artifacts import Cost
from trainables.contract.errors import UserError

Measure = Literal["nonzero_params", "latency_ms", "sparse_latency_ms", "members", "bytes"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def figures_of(cost: Cost) -> dict[Measure, float]:
    """What one network costs, by measure; a measure that is not known of it is absent.

    nonzero_params: of the deploy form, which ships. latency_ms: of one clip; sparse_latency_ms: on
    kept weights alone. members: 1. bytes: of the deploy form's file.
    """
    known = {
        "nonzero_params": cost.deploy_nonzero_params,
        "latency_ms": cost.deploy_latency_ms,
        "sparse_latency_ms": cost.sparse_latency_ms,
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

    def share(self, trials: Collection[str]) -> float:
        """The largest share of a limit that the networks take together, above 1 where they exceed
        it; infinite where a figure is not known, 0 without limits.
        """
        cost = self.cost(trials)
        return max(
            (
                cost.get(measure, inf) / most if most else inf
                for measure, most in self.limits.items()
            ),
            default=0.0,
        )

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


def resolved(
    asked: EnsembleBudget, networks: Mapping[str, Cost], dense: Cost | None, unmasked: Cost | None
) -> Budget:
    """The limits as numbers. UserError where the network that one is relative to is not known.

    networks: all that the ensemble may use, by trial. dense: the dense network's cost. unmasked: of
    a network that would be dense without its mask; as many parameters has a dense one.
    """
    limits: dict[Measure, float] = {}
    for name, limit in asked.given.items():
        measure: Measure = next(each for each in MEASURES if each == name)
        share = share_of(limit)
        if share is None:
            limits[measure] = float(limit)
            continue
        if dense is not None:
            whole = figures_of(dense).get(measure)
        else:
            whole = unmasked.deploy_params if unmasked and measure == "nonzero_params" else None
        if whole is None:
            raise UserError(
                f"its budget {measure} {limit} is relative to a dense network, and"
                f" {'there is none' if dense is None else 'that of the dense one is not known'};"
                " give a number, or train level 0 as well"
            )
        limits[measure] = share * whole
    return Budget(limits, {trial: figures_of(cost) for trial, cost in networks.items()})


def written(figure: float) -> str:
    """A cost or a limit as people read it: 12,345 or 31,234.5 or 3.25."""
    if float(figure).is_integer():
        return f"{figure:,.0f}"
    return f"{figure:,.1f}" if abs(figure) >= 1000 else f"{figure:.4g}"
