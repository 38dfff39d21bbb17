"""Stacking: multinomial logistic regression on the sources' log-probabilities, with one weight per
source that all classes share, not negative.

sum_i w_i log p_i and sum_i w_i x_i of the logits differ by a number per clip, so the weights are
those of summed logits. A bias per class is no weight of a source, and there is none. The pull
towards equal weights is the one whose weights do best on clips they were not fitted on.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.ensembling.cross_fitting import folds_by_clip, part_of
from orchestrator.ensembling.strategies.losses import SumLoss, Vector
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.ensembling.strategies.temperatures import Softened
from orchestrator.sweep.strategies import StrategyCard
from trainables.contract.errors import UserError

PULLS = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Towards equal weights, the strongest first: it stays where a weaker one is no better."""


class Options(BaseModel):
    """How the pull towards equal weights is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: int = Field(default=5, ge=2, le=100)  # of the clips; without any, stacking overfits
    seed: int = Field(default=0, ge=0)  # of the folds


CARD = StrategyCard(
    name="stacking",
    module="orchestrator.ensembling.strategies.stacking:choose",
    about="logistic regression on log-probabilities, its strength cross-fitted",
    options=Options,
    needs_selection=True,
    fits_probabilities=True,
    combine="logits",
)


def choose(sources: Sources, options: Options) -> Choice:
    """Weights w >= 0 that minimise log-loss + pull / S * sum_i (S w_i - 1)^2, S sources, with the
    pull of least cross-fitted log-loss.
    """
    if not len(sources.labels):
        raise UserError("stacking: must have clips that were held out, got none")
    if sources.combine != "logits":
        raise UserError(f"stacking: must sum logits, got combine {sources.combine}")
    fold = folds_by_clip(sources, options.folds, options.seed)
    losses = np.zeros(len(PULLS))
    for number in range(options.folds):
        others, own = (_loss(part_of(sources, part)) for part in (fold != number, fold == number))
        clips = int((fold == number).sum())
        losses += [clips * own(weights)[0] for weights in _path(others, PULLS)]
    best = int(losses.argmin())
    *_, weights = _path(_loss(sources), PULLS[: best + 1])
    if not weights.any():  # no source is better than none
        weights = np.full(len(weights), 1 / len(weights))
    return Choice(
        {name: float(w) for name, w in zip(sources.members, weights, strict=True) if w > 0}
    )


def _loss(sources: Sources) -> SumLoss:
    return SumLoss(Softened.of(sources, fitted=False))


def _path(loss: SumLoss, pulls: tuple[float, ...]) -> list[Vector]:
    """The weights of each pull, each search from the weights before it."""
    from scipy.optimize import minimize

    count = loss.count
    found: list[Vector] = [np.full(count, 1 / count)]
    for pull in pulls:

        def objective(weights: Vector, pull: float = pull) -> tuple[float, Vector]:
            value, slope = loss(weights)
            away = count * weights - 1
            return value + pull * float(away @ away) / count, slope + 2 * pull * away

        found.append(
            minimize(
                objective,
                found[-1],
                jac=True,
                method="L-BFGS-B",
                bounds=[(0, None)] * count,
                options={"maxiter": 1000, "ftol": 1e-10, "gtol": 1e-6},
            ).x
        )
    return found[1:]
