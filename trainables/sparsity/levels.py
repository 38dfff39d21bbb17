"""Masks of networks of several levels, and what changes them while such a network trains. Knows no backbone."""

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
    def level_blocks(self) -> list[list[nn.Module]]:
        """Of every level, the modules whose 2-D convolutions are maskable."""


class NestedNetwork(LevelledNetwork, Protocol):
    """One of nested levels, which are numbered from the lowest; `level_blocks` hold the same weights in every level."""

    trained: tuple[int, ...]  # levels of the next step
    scored: tuple[int, ...]  # levels that the network's logits are made of

    def start_levels(self) -> None:
        """What each level has for itself is from now on that of the first."""


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
        penalties = [penalty for part in self._parts if (penalty := part.penalty(epoch)) is not None]
        return torch.stack(penalties).sum() if penalties else None

    def before_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        for part in self._parts:
            part.before_update(epoch, step, optimizer)

    def after_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        for part in self._parts:
            part.after_update(epoch, step, optimizer)


class NestedGenerator(Schedule):
    """Trains one set of weights to nested masks: what a level keeps is kept by every lower level.

    The masks are one draw cut at each level. Epochs 0 .. E_w - 1: dense, all weights active, with the penalty of each level on what it
    will remove, averaged over the levels: a weight that all levels remove is in every term, one that the lowest keeps in fewer. From
    epoch E_w on every step trains the lowest level, whose mask is the union of all, and one other, in turn. What the lowest level
    removes is exactly zero from then on.
    """

    def __init__(self, network: NestedNetwork, config: SparsityConfig, warmup_epochs: int, seed: int) -> None:
        """warmup_epochs: E_w; seed: of the masks alone."""
        self._network = network
        self._warmup = warmup_epochs
        levels = zip(network.level_blocks, sorted(config.levels), strict=True)
        self._parts = [SparseGenerator(blocks, config.at(level), warmup_epochs, seed) for blocks, level in levels]
        modules = (module for blocks in network.level_blocks for block in blocks for module in block.modules())
        self._masks = [module for module in modules if isinstance(module, Masked)]
        self._activate(True)  # a network that is not trained any further is scored at its levels

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        self._parts[0].begin_epoch(epoch, optimizer)
        self._activate(epoch >= self._warmup)

    def begin_step(self, epoch: int, step: int) -> None:
        if (epoch, step) == (self._warmup, 0):
            self._network.start_levels()
        if epoch >= self._warmup:
            self._network.trained = (0, 1 + (epoch + step) % (len(self._parts) - 1))

    def penalty(self, epoch: int) -> Tensor | None:
        penalties = [penalty for part in self._parts if (penalty := part.penalty(epoch)) is not None]
        return torch.stack(penalties).mean() if penalties else None

    def _activate(self, active: bool) -> None:
        """Levels apart under their masks, or one dense network."""
        for mask in self._masks:
            mask.active = active
        self._network.scored = tuple(range(len(self._parts))) if active else (0,)
        self._network.trained = self._network.scored


def attach_levels(network: LevelledNetwork, config: SparsityConfig, warmup_epochs: int, seed: int) -> Schedule:
    """Masks at every level of a network of several, and what changes them while it trains; of experts and a mixture independent ones."""
    if config.network == "nested":
        return NestedGenerator(cast("NestedNetwork", network), config, warmup_epochs, seed)
    levels = enumerate(zip(network.level_blocks, config.levels, strict=True))
    return Together([SparseGenerator(blocks, config.at(level), warmup_epochs, derive(seed, number)) for number, (blocks, level) in levels])
