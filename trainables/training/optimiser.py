"""The optimiser of a recipe and its learning rate per epoch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainables.contract.config import TrainConfig


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainConfig
) -> torch.optim.Optimizer:
    """SGD with (Nesterov) momentum; weight decay on every parameter, as both papers do.

    Fused on a CPU, where that was measured, unless `train.fast` is off.
    """
    parameters = list(parameters)
    fused = config.fast == "auto" and all(each.device.type == "cpu" for each in parameters)
    return (FusedSGD if fused else PlainSGD)(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=fused or None,
    )


class PlainSGD(torch.optim.SGD):
    """torch's SGD without what its methods do for `torch.compile`, whose compiler each of them
    loads: a second of processor time in every process that trains.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class FusedSGD(PlainSGD):
    """torch's fused SGD, which fails where only some parameters have a momentum yet: here a first
    momentum starts from zeros, which gives the same.
    """

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
        return super().step(closure)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what another run saved; how a step is computed stays this run's own."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["fused"] = optimizer.defaults["fused"]


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
