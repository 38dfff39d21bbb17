"""Masks of networks of several levels, and what changes them while such a network trains.

Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from trainables.contract.sparsity import SparsityConfig
from trainables.seeding import derive
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import Masked
from trainables.training.schedule import Schedule


class LevelledNetwork(Protocol):
    """A network of several levels."""

    @property
    def backbones(self) -> Sequence[nn.Module]:
        """Of every level, its network: clips -> logits."""

    @property
    def level_blocks(self) -> list[list[nn.Module]]:
        """Of every level, the modules whose 2-D convolutions are maskable."""


class NestedNetwork(LevelledNetwork, Protocol):
    """One of nested levels, which are numbered from the lowest; `level_blocks` hold the same
    weights in every level.
    """

    trained: tuple[int, ...]  # levels of the next step


class Together(Schedule):
    """Several schedules, each of a part of a network; their penalties are added."""

    def __init__(self, parts: Sequence[Schedule]) -> None:
        self._parts = parts

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        for part in self._parts:
            part.begin_epoch(epoch, optimizer)

    def begin_step(self, epoch: int, step: int) -> None:
        for part in self._parts:
            part.begin_step(epoch, step)

    def penalty(self, epoch: int) -> Tensor | None:
        penalties = [
            penalty for part in self._parts if (penalty := part.penalty(epoch)) is not None
        ]
        return torch.stack(penalties).sum() if penalties else None

    def before_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        for part in self._parts:
            part.before_update(epoch, step, optimizer)

    def after_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        for part in self._parts:
            part.after_update(epoch, step, optimizer)

    def end_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        for part in self._parts:
            part.end_epoch(epoch, optimizer)


class NestedGenerator(Schedule):
    """Trains one set of weights to nested masks: what a level keeps is kept by every lower level.

    The masks are one draw of scores, pruned at each level. The lowest level, whose mask is the
    union of all, is trained as a `SparseGenerator` does: dense with a penalty on what it will
    remove, then under its mask. Every step trains it and one other, in turn, which is under its
    mask from the first step
    on: its few weights learn from the start to do without the others. What the lowest level removes
    ends exactly zero.
    """

    def __init__(
        self,
        network: NestedNetwork,
        config: SparsityConfig,
        warmup_epochs: int,
        seed: int,
        clips: Tensor,
    ) -> None:
        """warmup_epochs: dense ones of the lowest level; seed: of the masks alone; clips: of the
        size the network will take.
        """
        self._network = network
        self._others = len(config.levels) - 1
        generators = [
            SparseGenerator(blocks, config.at(level), warmup_epochs, seed)
            for blocks, level in zip(network.level_blocks, sorted(config.levels), strict=True)
        ]
        for generator, backbone in zip(generators, network.backbones, strict=True):
            generator.mask_constant_channels(backbone, clips)
        self._lowest = generators[0]
        for module in (
            module
            for blocks in network.level_blocks[1:]
            for block in blocks
            for module in block.modules()
        ):
            if isinstance(module, Masked):
                module.active = True

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        self._lowest.begin_epoch(epoch, optimizer)

    def begin_step(self, epoch: int, step: int) -> None:
        self._network.trained = (0, 1 + (epoch + step) % self._others)

    def penalty(self, epoch: int) -> Tensor | None:
        return self._lowest.penalty(epoch)


def attach_levels(
    network: LevelledNetwork, config: SparsityConfig, warmup_epochs: int, seed: int, clips: Tensor
) -> Schedule:
    """Masks at every level of a network of several, and what changes them while it trains; of
    experts and a mixture independent ones.

    clips: of the size the network will take.
    """
    if config.network == "nested":
        return NestedGenerator(cast("NestedNetwork", network), config, warmup_epochs, seed, clips)
    numbered = enumerate(zip(network.level_blocks, map(config.at, config.levels), strict=True))
    generators = [
        SparseGenerator(own, level, warmup_epochs, derive(seed, number))
        for number, (own, level) in numbered
    ]
    for generator, backbone in zip(generators, network.backbones, strict=True):
        generator.mask_constant_channels(backbone, clips)
    return Together(generators)
