"""Weights with sum 1 of least log-loss: of the mean probability, or of the softmax of the summed
logits. Both are convex in the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.ensembling.strategies.losses import SumLoss, Vector
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.ensembling.strategies.temperatures import CHANGES_NOTHING, Softened
from orchestrator.sweep.presets import Combine
from orchestrator.sweep.strategies import Refusal, StrategyCard
from trainables.contract.errors import UserError


class Options(BaseModel):
    """How weights are fitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # towards equal weights: nats per squared relative distance from them
    pull: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    temperature: bool = (
        False  # whether each source is softened first, so that its log-loss is least
    )


def refusals(options: Options, combine: Combine, families: int) -> Iterator[Refusal]:
    """A temperature that would change nothing."""
    if options.temperature and combine == "normalised":
        yield "options.temperature", CHANGES_NOTHING


CARD = StrategyCard(
    name="simplex",
    module="orchestrator.ensembling.strategies.simplex:choose",
    about="weights with sum 1 of least log-loss",
    options=Options,
    needs_selection=True,
    refusals=refusals,
    fits_probabilities=True,
)


def choose(sources: Sources, options: Options) -> Choice:
    """Weights w that minimise log-loss + pull / S * sum_i (S w_i - 1)^2, S sources."""
    if not len(sources.labels):
        raise UserError("simplex: must have clips that were held out, got none")
    softened = Softened.of(sources, options.temperature)
    weights = _least(SumLoss(softened), options.pull)
    chosen = {name: float(w) for name, w in zip(sources.members, weights, strict=True) if w > 0}
    return Choice(chosen, {name: t for name, t in softened.named().items() if name in chosen})


def _least(loss: SumLoss, pull: float) -> Vector:
    """Found over v >= 0 with w = v / sum(v): without the sum as a constraint, and exactly 0 where a
    source only harms.
    """
    from scipy.optimize import minimize

    count = loss.count

    def objective(free: Vector) -> tuple[float, Vector]:
        weights = free / free.sum()
        value, slope = loss(weights)
        away = count * weights - 1
        slope = slope + 2 * pull * away
        return value + pull * float(away @ away) / count, (slope - slope @ weights) / free.sum()

    found = minimize(
        objective,
        np.ones(count),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * count,
        options={"maxiter": 2000, "ftol": 1e-10, "gtol": 1e-6},
    )
    weights: Vector = found.x / found.x.sum()
    return weights
