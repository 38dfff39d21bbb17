"""A training run small enough for milliseconds."""

import math
from types import SimpleNamespace

import torch
from torch import nn

from trainables.contract.config import SparsityConfig, TrainConfig
from trainables.sparsity.generator import SparseGenerator
from trainables.training.loop import Course, Fit, Outside

CONFIG = TrainConfig(epochs=4, lr=0.05, warmup_epochs=1, milestones=(3,), clip_norm=1.0)


class Clips:
    """Batches of a fixed random problem, dealt again from any step."""

    def __init__(self, steps=3, poison=None):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(steps, 8, 3, 4, 2, generator=generator)
        self.y = (self.x.mean(dim=(2, 3, 4)) > 0).long()
        if poison is not None:
            self.x[poison] = math.nan

    def epoch(self, epoch, first_step=0):
        for step in range(first_step, len(self.x)):
            yield SimpleNamespace(
                persons=None, x=self.x[step], y=self.y[step], index=torch.arange(8)
            )


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(6, 6, 1),
        nn.Flatten(),
        nn.Linear(48, 2),
    )


def classify(model):
    def objective(clips, labels):
        logits = model(clips)
        return nn.functional.cross_entropy(logits, labels), logits

    return objective


def fit_of(model, sparse, seed=3, **changes):
    config = CONFIG.model_copy(update=changes)
    masks = (
        SparseGenerator([model[0], model[4]], SparsityConfig(level=0.5), 2, seed=9)
        if sparse
        else None
    )
    return Fit(
        model,
        config,
        seed=seed,
        objective=classify(model),
        course=Course(config.epochs, first_kept_epoch=2 if sparse else 0),
        schedule=masks,
    )


def outside(folder, stop_after=None, reports=None):
    count = iter(range(10**6))
    return Outside(
        folder / "last.pt",
        folder / "best.pt",
        report=(reports if reports is not None else []).append,
        should_stop=lambda: next(count) == stop_after,
    )


def ranked(monkeypatch, *top1):
    """Every run's epochs get these accuracies, whatever its weights are worth."""
    monkeypatch.setattr(
        Fit,
        "_evaluate",
        lambda fit, *_: {
            "selection_loss": 1.0,
            "selection_top1": top1[fit.progress.epoch],
        },
    )
