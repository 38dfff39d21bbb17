"""Learning curves that no training made: how fast a trial learns, and how far it comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from orchestrator.simulation.curves import Curve
from orchestrator.sweep.leaves import leaves_of
from orchestrator.trials.space import Trial
from trainables.contract.artifacts import Cost, TrialResult

Shape = Callable[[Trial], tuple[float, float]]
"""(final accuracy, epochs in which the distance to it falls to a third) of a trial."""

ONES = ("kept_epoch", "selection_top5", "selection_loss", "train_loss", "clips_per_s")
SIZES = [name for name, field in Cost.model_fields.items() if field.is_required()]


def made_curve(trial: Trial, shape: Shape, seconds: float = 1.0) -> Curve:
    """The curve of the trial; it begins to rise when its masks are final."""
    (final, scale), config, proposal = shape(trial), trial.config, trial.proposal
    start, epochs = config.first_kept_epoch, config.total_epochs
    top1 = [
        0.5 if epoch < start else final * (1 - math.exp(-(epoch + 1 - start) / scale))
        for epoch in range(epochs)
    ]
    best = max(top1[start:])
    return Curve(
        sweep="made up",
        trial=proposal.trial,
        cell=proposal.cell,
        axes=proposal.axes,
        assignment=proposal.assignment,
        leaves=leaves_of(config),
        seed=proposal.seed,
        epochs=epochs,
        epoch_seconds=seconds,
        metrics={"selection_top1": top1, "train_loss": [1 - each for each in top1]},
        result=made_result(trial, best, top1[-1], seconds),
    )


def made_result(
    trial: Trial, best: float, last: float = 0.0, seconds: float = 1.0, **costs: int
) -> TrialResult:
    epochs = trial.config.total_epochs
    result = dict.fromkeys(ONES, 1) | {
        "trial": trial.proposal.trial,
        "epochs": epochs,
        "selection_clips": 100,
        "selection_top1": best,
        "selection_top1_last": last,
        "seconds": seconds * epochs,
        "cost": dict.fromkeys(SIZES, 1) | {"deploy_folded": "nothing"} | costs,
    }
    return TrialResult.model_validate(result)


def made_curves(trials: Iterable[Trial], shape: Shape) -> list[Curve]:
    return [made_curve(trial, shape) for trial in trials]
