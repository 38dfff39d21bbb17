"""What ensembles would be chosen, from stored selection scores alone.

Never opens the test split: neither its labels nor, but for the names of its clips, its scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.budgets import Measure
from orchestrator.ensembling.build import Ensemble, build_ensembles
from orchestrator.ensembling.cross_fitting import FOLDS, cross_fitted
from orchestrator.ensembling.evaluate import Accuracy, accuracy_on_selection
from orchestrator.ensembling.fronts import front, front_point
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.pools import Pool
from orchestrator.ensembling.results import FrontPoint
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig

SEED = 0
"""Of the folds of the cross-fitted figure."""


@dataclass(frozen=True, slots=True)
class Imagined:
    """An ensemble as the selection split has it."""

    name: str
    axes: Mapping[str, Any]
    method: str
    combine: str
    weights: Mapping[str, float]  # source -> weight
    networks: int
    cost: Mapping[Measure, float]  # of its networks together, as far as it is known
    limits: Mapping[Measure, float]  # of its budget
    selection: Accuracy
    # of each fifth of the clips with the weights, not the trials, chosen on the others; None where
    # no weight is chosen
    cross_fitted: Accuracy | None
    best_network: tuple[str, Accuracy]  # of those on the same clips, the best there by itself

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "name": self.name,
            "axes": dict(self.axes),
            "method": self.method,
            "combine": self.combine,
            "weights": dict(self.weights),
            "networks": self.networks,
            "cost": dict(self.cost),
            "budget": dict(self.limits),
            "selection": self.selection.model_dump(),
            "cross_fitted": self.cross_fitted.model_dump() if self.cross_fitted else None,
            "trials_chosen_again": False,  # in the cross-fitted figure
            "best_network": {
                "name": self.best_network[0],
                "selection": self.best_network[1].model_dump(),
            },
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What would be chosen, and what could not be."""

    ensembles: tuple[Imagined, ...]
    skipped: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Everything, and that the figures are of the selection split."""
        return {
            "split": "selection",
            "ensembles": [each.to_json() for each in self.ensembles],
            "skipped": dict(self.skipped),
        }


def what_if(pool: Pool, recipe: EnsembleConfig) -> Answer:
    """The ensembles that the recipe makes of the pool's networks; UserError where it makes none, or
    nothing was held out.
    """
    if not pool.held_out:
        raise UserError(
            "what-if answers on held-out clips, and these sweeps held out none"
            " (data.selection.kind none)"
        )
    built = build_ensembles((recipe,), pool.members, pool.cells)
    if not built.ensembles:
        raise UserError.of(f"{name}: {why}" for name, why in built.skipped.items())
    best: dict[Division, tuple[str, Accuracy]] = {}
    for member in pool.members:
        found = member.selection
        assert found is not None  # clips were held out
        assert found.labels is not None
        known = accuracy_on_selection(found.logits, found.labels, logits=True)
        if member.division not in best or known.top1 > best[member.division][1].top1:
            best[member.division] = member.name, known
    ensembles = [_imagined(each, best[each.division]) for each in built.ensembles]
    return Answer(tuple(ensembles), built.skipped)


def front_of(pool: Pool, measure: Measure) -> tuple[FrontPoint, ...]:
    """The greedy ensembles that no cheaper one is as good as; UserError where there are none."""
    found = front(pool, measure)
    if not found:
        raise UserError(
            f"--front {measure}: needs held-out clips and at least two networks whose {measure} is"
            " known"
        )
    return tuple(front_point(each, measure) for each in found)


def _imagined(ensemble: Ensemble, best: tuple[str, Accuracy]) -> Imagined:
    found = ensemble.selection
    assert found is not None  # clips were held out
    assert found.labels is not None
    logits, rows = ensemble.has_probabilities, cross_fitted_rows(ensemble)
    return Imagined(
        name=ensemble.name,
        axes=ensemble.axes,
        method=ensemble.method,
        combine=ensemble.combine,
        weights=ensemble.weights,
        networks=len(ensemble.members),
        cost=ensemble.cost,
        limits=ensemble.limits,
        selection=accuracy_on_selection(found.logits, found.labels, logits=logits),
        cross_fitted=None
        if rows is None
        else accuracy_on_selection(rows, found.labels, logits=logits),
        best_network=best,
    )


def cross_fitted_rows(ensemble: Ensemble) -> npt.NDArray[np.float32] | None:
    """What is chosen says of clips that it was not chosen on, (N, K); None for a fixed recipe, and
    where clips are too few for folds or for the strategy.
    """
    sources, choose = ensemble.chosen_on, ensemble.choose
    if sources is None or choose is None or len(sources.labels) < FOLDS:
        return None
    try:
        return cross_fitted(sources, choose, FOLDS, SEED).rows
    except UserError:
        return None
