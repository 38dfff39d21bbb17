"""0/1 masks on weights: how many to remove, which ones, and attaching them as parametrizations. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.counting import Scope, mask_units, removed_count


class Masked(nn.Module):
    """weight -> weight * mask while `active`, weight otherwise; the mask is a buffer: saved, moved and copied with the model."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.active = False

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask if self.active else weight


def maskable(blocks: Sequence[nn.Module]) -> list[list[nn.Conv2d]]:
    """The layers a mask may touch, by block: every 2-D convolution in it; never biases, BatchNorm, adjacency or classifier."""
    return [[module for module in block.modules() if isinstance(module, nn.Conv2d)] for block in blocks]


def draw_masks(layers: Sequence[Sequence[nn.Conv2d]], level: float, scope: Scope, generator: torch.Generator) -> list[list[Tensor]]:
    """One random mask per layer (same shapes as the weights); the level holds exactly within each unit of `scope`.

    Every weight of a unit is equally likely to be removed. `generator` is a CPU generator, so that the masks are the same on
    every device.
    """
    sizes = [[layer.weight.numel() for layer in block] for block in layers]
    units = mask_units(sizes, scope)
    pieces = chain.from_iterable(torch.split(_draw(sum(unit), level, generator), unit) for unit in units)  # in layer order
    return [[next(pieces).reshape(layer.weight.shape).to(layer.weight) for layer in block] for block in layers]


def _draw(size: int, level: float, generator: torch.Generator) -> Tensor:
    """Flat mask of `size` ones with `removed_count` zeros at random places."""
    mask = torch.ones(size)
    mask[torch.randperm(size, generator=generator)[: removed_count(size, level)]] = 0.0
    return mask


def attach(layer: nn.Conv2d, mask: Tensor) -> Masked:
    """Put `mask` on the layer's weight; not active yet. The Parameter object stays the one an optimiser holds."""
    masked = Masked(mask)
    parametrize.register_parametrization(layer, "weight", masked)
    return masked


def raw_weight(layer: nn.Conv2d) -> nn.Parameter:
    """The weight under the mask."""
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert isinstance(original, nn.Parameter)
    return original
