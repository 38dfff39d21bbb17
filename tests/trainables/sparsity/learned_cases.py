"""A small network that learns its level."""

from types import SimpleNamespace

import torch
from torch import nn

from trainables.contract.config import SparsityConfig, TrainConfig
from trainables.sparsity.learned import LearnedLevel
from trainables.training.loop import Course, Fit, Outside

EPOCHS, WARMUP, STEPS = 5, 3, 4


def config_of(gate="threshold", **asked):
    return SparsityConfig(level="learned", gate=gate, **asked)


class Clips:
    """Batches of a fixed problem that two of six input channels
    decide, dealt again from any step.
    """

    def __init__(self, steps=STEPS, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(steps, 16, 6, 3, 2, generator=generator, dtype=dtype)
        self.y = (self.x[:, :, 0].mean(dim=(2, 3)) > self.x[:, :, 1].mean(dim=(2, 3))).long()

    def epoch(self, epoch, first_step=0):
        for step in range(first_step, len(self.x)):
            yield SimpleNamespace(
                persons=None, x=self.x[step], y=self.y[step], index=torch.arange(16)
            )


def network():
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(6, 12, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(12, 12, 1),
        nn.Flatten(),
        nn.Linear(72, 2),
    ]
    return nn.Sequential(*layers)


def blocks_of(model):
    return [model[0], model[4]]


def learned(model, sparsity, warmup=WARMUP, steps=STEPS):
    return LearnedLevel(model, blocks_of(model), sparsity, warmup, steps, torch.ones(1, 6, 3, 2))


def fit_of(model, sparsity, warmup=WARMUP, steps=STEPS, **changes):
    recipe = {
        "epochs": EPOCHS,
        "lr": 0.05,
        "warmup_epochs": 1,
        "milestones": (),
        "weight_decay": 1e-2,
        "clip_norm": 1.0,
    } | changes
    return Fit(
        model,
        TrainConfig(**recipe),
        seed=3,
        objective=lambda x, y: (nn.functional.cross_entropy(model(x), y), model(x)),
        course=Course(recipe["epochs"], first_kept_epoch=warmup),
        schedule=learned(model, sparsity, warmup, steps),
    )


def outside(folder, stop_after=None, reports=None):
    count = iter(range(10**6))
    report = (reports if reports is not None else []).append
    return Outside(
        folder / "last.pt",
        folder / "best.pt",
        report,
        should_stop=lambda: next(count) == stop_after,
    )
