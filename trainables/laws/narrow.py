"""Networks small enough for many laws, filled with numbers that prove something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.layouts import load_layout
from trainables.models.build import Backbone, build_backbone

NARROW = {"channels": 8, "stages": (1, 1), "groups": 4, "adjacencies": 3}
"""Settings of `model` for networks of a few thousand weights."""


def narrow_backbone(
    name: str = "hpi_gcn_rp",
    *,
    layout: str = "ntu25",
    persons: int = 1,
    classes: int = 5,
    stream: StreamConfig | None = None,
    **model: Any,
) -> Backbone:
    """A network small enough for a loop of tests, in double precision, every tensor away from its
    start.
    """
    network = build_backbone(
        ModelConfig.model_validate(NARROW | {"backbone": name} | model),
        load_layout(layout),
        classes=classes,
        persons=persons,
        stream=stream or StreamConfig(),
        seed=3,
    ).double()
    generator = torch.Generator().manual_seed(11)
    randomise_batch_norm(network, generator)
    disturb(network, generator)
    return network


def build_narrow(options: Mapping[str, Any], *, classes: int) -> Backbone:
    """A network of 8 channels on 20 joints in single precision, as it starts out."""
    return build_backbone(
        ModelConfig.model_validate(NARROW | dict(options)),
        load_layout("ucla20"),
        classes=classes,
        persons=1,
        stream=StreamConfig(),
        seed=3,
    )


def randomise_batch_norm(
    module: nn.Module, generator: torch.Generator, *, smallest: float = -1.0
) -> None:
    """With fresh statistics and gamma 1, beta 0 a test of fusing proves nothing; gammas of both
    signs from `smallest` on.
    """
    for norm in module.modules():
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        for tensor, low, high in (
            (norm.weight, smallest, 1.5),
            (norm.bias, -1.0, 1.0),
            (norm.running_mean, -1.0, 1.0),
            (norm.running_var, 0.5, 2.0),
        ):
            if tensor is not None:
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.data.copy_(low + (high - low) * drawn)


def disturb(module: nn.Module, generator: torch.Generator) -> None:
    """What starts at zero (gates, coefficients, biases) hides the branch behind it."""
    for parameter in module.parameters():
        if not parameter.detach().any():
            parameter.data.copy_(
                0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )


def random_clips(*shape: int, seed: int = 5) -> Tensor:
    """Standard normal numbers in double precision."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clips_for(network: Any, count: int = 2, frames: int = 8) -> Tensor:
    """(count, 3, T, V, M) of the network's size."""
    return random_clips(count, 3, frames, network.spec.joints, network.spec.persons)
