"""A network of two masked layers that trains in milliseconds, for tests of whatever masks it."""

from pathlib import Path

import torch
from torch import nn

from tests.trainables.training.small_fit import Clips, classify, network, outside
from trainables.contract.config import SparsityConfig, TrainConfig, TrialConfig
from trainables.contract.errors import Interrupted
from trainables.sparsity.build import Subject, attach_sparsity
from trainables.training.loop import Course, Fit
from trainables.training.schedule import Schedule

STEPS = 3
CPU = torch.device("cpu")


def subject_of(model: nn.Sequential, epochs: int = 4, root: Path = Path()) -> Subject:
    return Subject(
        model,
        [model[0], model[4]],
        model[6],
        epochs,
        STEPS,
        seed=9,
        clips=torch.ones(1, 3, 4, 2),
        root=root,
    )


def attached(model: nn.Sequential, epochs: int = 4, root: Path = Path(), **sparsity) -> Schedule:
    """The schedule of these settings on the network's two convolutions of 18 and 36 weights."""
    schedule = attach_sparsity(
        subject_of(model, epochs, root), SparsityConfig.model_validate({"level": 0.5, **sparsity})
    )
    assert schedule is not None
    return schedule


def fit_of(model: nn.Sequential, root: Path = Path(), train: dict | None = None, **sparsity) -> Fit:
    """A run of the small problem, set up as trials are."""
    recipe = TrainConfig.model_validate(
        {
            "epochs": 4,
            "lr": 0.05,
            "warmup_epochs": 1,
            "milestones": (3,),
            "clip_norm": 1.0,
            **(train or {}),
        }
    )
    config = TrialConfig(
        data={"store": "s", "protocol": "p"},
        train=recipe,
        sparsity=SparsityConfig.model_validate({"level": 0.5, "warmup": 0.5, **sparsity}),
    )
    schedule = attach_sparsity(subject_of(model, recipe.epochs, root), config.sparsity)
    return Fit(
        model,
        recipe,
        seed=3,
        objective=classify(model),
        course=Course.of(config),
        schedule=schedule,
    )


__all__ = [
    "CPU",
    "STEPS",
    "Clips",
    "Interrupted",
    "attached",
    "fit_of",
    "network",
    "outside",
    "subject_of",
]
