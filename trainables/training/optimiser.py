"""The optimiser of a recipe and its learning rate per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from trainables.contract.config import TrainConfig


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainConfig
) -> torch.optim.Optimizer:
    """SGD with (Nesterov) momentum; weight decay on every parameter, as both papers do."""
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Learning rate of a 0-based epoch.

    Warm-up: lr (epoch + 1) / warmup_epochs. Then "step": lr * lr_decay^(milestones reached), or
    "cosine": lr (1 + cos(pi epoch / epochs)) / 2.
    """
    if epoch < config.warmup_epochs:
        return config.lr * (epoch + 1) / config.warmup_epochs
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1.0 + math.cos(math.pi * epoch / config.epochs))
    return config.lr * config.lr_decay ** sum(epoch >= milestone for milestone in config.milestones)
