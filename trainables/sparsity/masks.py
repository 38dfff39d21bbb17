"""0/1 masks on weights: which weights go, and attaching masks as parametrizations.

Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.contract.sparsity import Distribution, Scope
from trainables.reparam.kept import MaskedConv2d, WeightMask
from trainables.sparsity.amounts import (
    erk_counts,
    group_count,
    group_sizes,
    mask_units,
    removed_count,
    unit_counts,
)

__all__ = ["erk_counts", "mask_units", "removed_count"]

Layers = Sequence[Sequence[nn.Conv2d]]
"""Maskable layers by block."""


class Weighted(Protocol):
    """A convolution, or what a level counts in its stead."""

    @property
    def weight(self) -> Tensor: ...


Masks = list[list[Tensor]]
"""One tensor of a weight's shape for each layer of each block."""

ORIGINAL, MASK = ".parametrizations.weight.original", ".parametrizations.weight.0.mask"
"""What a masked layer's weight and mask are called in a state dict, behind the layer's name."""


class Masked(WeightMask):
    """A mask on the weight of a convolution or a BatchNorm."""


def maskable(blocks: Sequence[nn.Module]) -> list[list[nn.Conv2d]]:
    """The layers a mask may touch, by block: every 2-D convolution in it; never biases, BatchNorm,
    adjacency or classifier.
    """
    return [
        [module for module in block.modules() if isinstance(module, nn.Conv2d)] for block in blocks
    ]


def layer_names(blocks: Sequence[nn.Module]) -> list[list[str]]:
    """The weights of `maskable` by the names a network gives them whose `blocks` these are:
    `blocks.0.graph.conv.weight`.
    """
    return [
        [
            f"blocks.{number}.{name + '.' if name else ''}weight"
            for name, module in block.named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        for number, block in enumerate(blocks)
    ]


def random_scores(
    layers: Sequence[Sequence[Weighted]], generator: torch.Generator, structure: str = "weight"
) -> Masks:
    """One number per weight, all different: every choice of weights is equally likely to have the
    smallest ones.

    Weights that go together (structure channel or HxW) have the same one. `generator` is a CPU
    generator, so that the numbers are the same on every device.
    """
    if structure == "weight" or ":" in structure:
        return [
            [
                torch.rand(layer.weight.shape, generator=generator, dtype=torch.float64)
                for layer in block
            ]
            for block in layers
        ]
    numbers = [
        [group_numbers(layer.weight.shape, structure) for layer in block] for block in layers
    ]
    return [
        [
            torch.rand(int(groups.max()) + 1, generator=generator, dtype=torch.float64)[groups]
            for groups in block
        ]
        for block in numbers
    ]


def magnitudes(layers: Sequence[Sequence[Weighted]]) -> Masks:
    """|w| of every weight, on the CPU."""
    return [[layer.weight.detach().abs().double().cpu() for layer in block] for block in layers]


def prune(
    scores: Sequence[Sequence[Tensor]],
    level: float,
    scope: Scope = "block",
    distribution: Distribution = "uniform",
) -> Masks:
    """0/1 masks, float64, that remove the smallest scores; of equal ones the first go.

    The number removed is exactly `removed_count` in each unit of the scope: in a tensor, in a
    block, in all tensors. With distribution erk it is that of all tensors together, shared out by
    `erk_counts`.
    """
    units = unit_counts(
        [[tuple(tensor.shape) for tensor in block] for block in scores], level, scope, distribution
    )
    masks = iter(prune_units([tensor for block in scores for tensor in block], units))
    return [[next(masks).double() for _ in block] for block in scores]


def prune_units(scores: Sequence[Tensor], units: Sequence[tuple[int, int]]) -> list[Tensor]:
    """What stays, as booleans, when of every unit's scores the smallest go; of equal ones the
    first. Nothing leaves the device.

    scores: in layer order; units: (how many tensors, how many of their weights go), one after the
    other.
    """
    masks: list[Tensor] = []
    for tensors, count in units:
        unit = scores[len(masks) : len(masks) + tensors]
        flat = without_smallest(torch.cat([tensor.flatten() for tensor in unit]), count)
        parts = torch.split(flat, [tensor.numel() for tensor in unit])
        masks += [part.view(tensor.shape) for part, tensor in zip(parts, unit, strict=True)]
    return masks


def without_smallest(scores: Tensor, count: int) -> Tensor:
    """(n,) -> (n,) booleans, False for the `count` smallest numbers; of equal ones the first are
    False.
    """
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    return (
        _without_smallest_here(scores, count)
        if scores.device.type == "cpu"
        else _without_smallest_there(scores, count)
    )


def _without_smallest_here(scores: Tensor, count: int) -> Tensor:
    """On the CPU: NumPy's partition takes an eighth of the time of torch's, and whether numbers are
    equal can be asked.
    """
    numbers = scores.detach().numpy()
    last = np.partition(numbers, count - 1)[count - 1]  # the largest that goes
    kept = numbers > last
    spared = len(numbers) - count - np.count_nonzero(kept)
    if spared:
        kept[np.flatnonzero(numbers == last)[-spared:]] = True
    return torch.from_numpy(kept)


def _without_smallest_there(scores: Tensor, count: int) -> Tensor:
    """On a device: nothing is asked of it, so that it never waits."""
    last = scores.kthvalue(count).values  # the largest that goes
    tied = scores == last
    spared = tied.cumsum(0) > count - (scores < last).sum()
    return (scores > last) | (tied & spared)


def prune_structured(scores: Sequence[Sequence[Tensor]], level: float, structure: str) -> Masks:
    """0/1 masks, float64, of a structure: in every tensor the groups of weights with the smallest
    mean score go, of equal ones the first.

    channel: an output channel is a group; HxW: H output x W input channels at one tap of the
    kernel, fewer at the edges. Of g groups exactly removed_count(g, level) go. n:m: of every m
    consecutive input channels, at each output channel and tap, the n largest scores stay; a last
    group of fewer than m is left whole.
    """
    if ":" in structure:
        return [
            [_prune_n_of_m(tensor, *group_sizes(structure)) for tensor in block] for block in scores
        ]
    return [[_prune_groups(tensor, level, structure) for tensor in block] for block in scores]


def _prune_groups(scores: Tensor, level: float, structure: str) -> Tensor:
    shape = tuple(scores.shape)
    numbers, groups = group_numbers(shape, structure), group_count(shape, structure)
    sums = torch.zeros(groups, dtype=torch.float64).index_add_(
        0, numbers.flatten(), scores.double().flatten()
    )
    kept = without_smallest(
        sums / torch.bincount(numbers.flatten(), minlength=groups), removed_count(groups, level)
    )
    return kept[numbers].double()


def group_numbers(shape: Sequence[int], structure: str) -> Tensor:
    """int64 of a weight's shape: the number, from 0, of the group that each weight belongs to;
    structure: channel or HxW.
    """
    outside, inside, *taps = shape
    if structure == "channel":
        return torch.arange(outside).view(-1, 1, 1, 1).expand(*shape)
    height, width = group_sizes(structure)
    rows, columns = torch.arange(outside) // height, torch.arange(inside) // width
    blocks = rows[:, None] * (int(columns[-1]) + 1) + columns  # (C_out, C_in)
    places = torch.arange(taps[0] * taps[1]).view(taps) * (int(blocks.max()) + 1)
    return blocks[:, :, None, None] + places


def _prune_n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """Groups lie along the input channels, as kernels for n:m weights read a matrix (C_out taps,
    C_in).
    """
    rows = scores.permute(0, 2, 3, 1)  # (C_out, K, 1, C_in)
    mask = torch.ones(rows.shape, dtype=torch.float64)
    groups = rows.shape[-1] // m
    smallest = rows[..., : groups * m].reshape(-1, m).argsort(dim=1, stable=True)[:, : m - n]
    kept = torch.ones(len(smallest), m, dtype=torch.float64).scatter_(1, smallest, 0.0)
    mask[..., : groups * m] = kept.view(*rows.shape[:-1], groups * m)
    return mask.permute(0, 3, 1, 2)


def attach(layer: nn.Conv2d | nn.BatchNorm2d, mask: Tensor) -> Masked:
    """Put `mask` on the layer's weight; not active yet.

    The Parameter object stays the one an optimiser holds.
    """
    masked = Masked(mask)
    if type(layer) is nn.Conv2d:
        layer.__class__ = MaskedConv2d  # torch changes it too, to that of a parametrized one
    parametrize.register_parametrization(layer, "weight", masked)
    return masked


def attach_all(layers: Layers, masks: Sequence[Sequence[Tensor]]) -> list[list[Masked]]:
    """`attach` for every layer of every block; masks take their weight's dtype and device."""
    return [
        [attach(layer, mask.to(layer.weight)) for layer, mask in zip(row, row_masks, strict=True)]
        for row, row_masks in zip(layers, masks, strict=True)
    ]


def raw_weight(layer: nn.Conv2d | nn.BatchNorm2d) -> nn.Parameter:
    """The weight under the mask."""
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert isinstance(original, nn.Parameter)
    return original


@dataclass(frozen=True)
class Kept:
    """How many weights a mask leaves of a tensor; one that stays can be zero too."""

    name: str  # of the layer
    shape: tuple[int, ...]
    kept: int

    @property
    def removed(self) -> int:
        return math.prod(self.shape) - self.kept


def kept_weights(network: nn.Module, blocks: Sequence[nn.Module]) -> list[Kept]:
    """What the masks on the blocks leave, in layer order and by the names that layers have in the
    network.
    """
    inside: set[nn.Module] = {layer for block in maskable(blocks) for layer in block}
    masks = [(name, mask_of(layer)) for name, layer in network.named_modules() if layer in inside]
    return [
        Kept(name, tuple(mask.shape), int(mask.count_nonzero()))
        for name, mask in masks
        if mask is not None
    ]


def write_masks(network: nn.Module) -> None:
    """Every mask becomes part of its weight and is gone: removed weights are plain zeros.

    For a trained network in evaluation mode.

    Masks on fused kernels stay.
    """
    for layer in [
        module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]:
        if mask_of(layer) is not None:
            parametrize.remove_parametrizations(layer, "weight")


def mask_of(layer: nn.Module) -> Tensor | None:
    """The mask on a layer's weight, None where there is none."""
    return next((part.mask for part in layer.modules() if isinstance(part, Masked)), None)


def weights_with_masks_written(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that `write_masks` would leave, from one of a network with masks; the weights
    of any moment after its masks were final.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(ORIGINAL):
            layer = name.removesuffix(ORIGINAL)
            weights[f"{layer}.weight"] = tensor * state[layer + MASK]
        elif ".parametrizations." not in name:
            weights[name] = tensor
    return weights
