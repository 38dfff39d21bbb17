"""0/1 masks on weights: how many to remove, which ones, and attaching them as parametrizations. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.contract.sparsity import Distribution, Scope
from trainables.counting import erk_counts, mask_units, removed_count


class Masked(nn.Module):
    """weight -> weight * mask while `active`, weight otherwise; the mask is a buffer: saved, moved and copied with the model."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.active = False

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask if self.active else weight


class Weighted(Protocol):
    """A convolution, or what a level counts in its stead."""

    @property
    def weight(self) -> Tensor: ...


def maskable(blocks: Sequence[nn.Module]) -> list[list[nn.Conv2d]]:
    """The layers a mask may touch, by block: every 2-D convolution in it; never biases, BatchNorm, adjacency or classifier."""
    return [[module for module in block.modules() if isinstance(module, nn.Conv2d)] for block in blocks]


def random_scores(layers: Sequence[Sequence[Weighted]], generator: torch.Generator) -> list[list[Tensor]]:
    """One number per weight, all different: every choice of weights is equally likely to have the smallest ones.

    `generator` is a CPU generator, so that they are the same on every device.
    """
    return [[torch.rand(layer.weight.shape, generator=generator, dtype=torch.float64) for layer in block] for block in layers]


def magnitudes(layers: Sequence[Sequence[Weighted]]) -> list[list[Tensor]]:
    """|w| of every weight, on the CPU."""
    return [[layer.weight.detach().abs().double().cpu() for layer in block] for block in layers]


def cut(scores: Sequence[Sequence[Tensor]], level: float, scope: Scope = "block", distribution: Distribution = "uniform") -> list[list[Tensor]]:
    """0/1 masks, float64, that remove the smallest scores; of equal ones the first go.

    The number removed is exactly `removed_count` in each unit of the scope: in a tensor, in a block, in all tensors. With distribution erk
    it is that of all tensors together, shared out by `erk_counts`.
    """
    tensors = list(chain.from_iterable(scores))
    if distribution == "erk":
        units = [[tensor] for tensor in tensors]
        counts = erk_counts([tuple(tensor.shape) for tensor in tensors], level)
    else:
        ordered = iter(tensors)
        sizes = mask_units([[tensor.numel() for tensor in block] for block in scores], scope)
        units = [[next(ordered) for _ in unit] for unit in sizes]
        counts = [removed_count(sum(unit), level) for unit in sizes]
    masks = chain.from_iterable(_cut_unit(unit, count) for unit, count in zip(units, counts, strict=True))  # in layer order
    return [[next(masks) for _ in block] for block in scores]


def _cut_unit(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    flat = torch.cat([tensor.flatten() for tensor in scores])
    mask = torch.ones(len(flat), dtype=torch.float64)
    mask[torch.argsort(flat, stable=True)[:count]] = 0.0
    return [part.view(tensor.shape) for part, tensor in zip(torch.split(mask, [tensor.numel() for tensor in scores]), scores, strict=True)]


def attach(layer: nn.Conv2d | nn.BatchNorm2d, mask: Tensor) -> Masked:
    """Put `mask` on the layer's weight; not active yet. The Parameter object stays the one an optimiser holds."""
    masked = Masked(mask)
    parametrize.register_parametrization(layer, "weight", masked)
    return masked


def attach_all(layers: Sequence[Sequence[nn.Conv2d]], masks: Sequence[Sequence[Tensor]]) -> list[list[Masked]]:
    """`attach` for every layer of every block; masks take their weight's dtype and device."""
    return [
        [attach(layer, mask.to(layer.weight)) for layer, mask in zip(row, given, strict=True)] for row, given in zip(layers, masks, strict=True)
    ]


def raw_weight(layer: nn.Conv2d | nn.BatchNorm2d) -> nn.Parameter:
    """The weight under the mask."""
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert isinstance(original, nn.Parameter)
    return original
