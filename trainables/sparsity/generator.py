"""The sparse generator: a fixed random mask, dense warm-up with a penalty, then fine-tuning of the kept weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.masks import Masked, attach, cut, magnitudes, random_scores, raw_weight
from trainables.sparsity.penalty import removal_penalty
from trainables.sparsity.sharing import Layer, Pairs, SharedKernel, channel_masks, counted_kernels, silent_channels
from trainables.training.schedule import Schedule


class SparseGenerator(Schedule):
    """Trains one network to a fixed mask (sparse ST-GCN paper, section 3.3): a random one, or one that keeps the largest first weights.

    Epochs 0 .. E_w - 1: all weights active, loss = cross entropy + lambda * L_p, where L_p is the group lasso over the weights
    that will be removed and lambda = min(1, epoch / E_w) ("ramp") or a constant. From epoch E_w on: weights * mask; the removed
    weights are set to zero, their momentum is cleared, so no gradient and no decay moves them again.

    The masks are attached to the module from outside as inactive parametrizations when this is made, so the state dict has the
    same names in both stages and a checkpoint carries its mask. With a sharing the level counts what ships, see `sharing`.
    """

    def __init__(self, blocks: Sequence[nn.Module], config: SparsityConfig, warmup_epochs: int, seed: int) -> None:
        """blocks: modules whose 2-D convolutions are maskable; warmup_epochs: E_w; seed: of the mask alone."""
        self.config = config
        self.warmup_epochs = warmup_epochs
        generator = torch.Generator().manual_seed(seed)
        self._layers = counted_kernels(blocks, config.sharing)
        self._masked = [
            [self._attach(layer, mask.to(layer.weight)) for layer, mask in zip(layers, masks, strict=True)]
            for layers, masks in zip(self._layers, self._draw(blocks, generator), strict=True)
        ]
        self._activate(True)
        self._scales = [(norm, attach(norm, kept)) for norm, kept in silent_channels(blocks)]
        self._activate(False)

    def _activate(self, active: bool) -> None:
        for masked in chain.from_iterable(self._masked):
            masked.active = active

    def _draw(self, blocks: Sequence[nn.Module], generator: torch.Generator) -> list[list[Tensor]]:
        config = self.config
        if config.sharing == "channels":
            return channel_masks(blocks, config, generator)
        scores = random_scores(self._layers, generator) if config.generator == "fixed_random" else magnitudes(self._layers)
        return cut(scores, config.expected_level, config.scope, config.distribution)

    def _attach(self, layer: Layer, mask: Tensor) -> Masked | SharedKernel:
        return layer.attach(mask) if isinstance(layer, SharedKernel) else attach(layer, mask)

    @property
    def removed(self) -> int:
        """Number of weights the masks remove."""
        return sum(int(masked.mask.numel() - masked.mask.sum(dtype=torch.float64).item()) for block in self._masked for masked in block)

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Dense before E_w; from E_w on masks are active, removed weights are exactly zero and the optimiser has forgotten them."""
        active = epoch >= self.warmup_epochs
        self._activate(active)
        for _, scale in self._scales:
            scale.active = active
        if not active:
            return
        for layer, masked in zip(chain.from_iterable(self._layers), chain.from_iterable(self._masked), strict=True):
            for weight, mask in _parameters(layer, masked):
                _forget(weight, mask, optimizer)
        for norm, scale in self._scales:
            _forget(raw_weight(norm), scale.mask, optimizer)

    def penalty(self, epoch: int) -> Tensor | None:
        """lambda * L_p for a step of this epoch; None when nothing is to be added."""
        weight = self._penalty_weight(epoch)
        if weight == 0.0:
            return None
        pairs = [
            [pair for layer, masked in zip(layers, block, strict=True) for pair in _removable(layer, masked)]
            for layers, block in zip(self._layers, self._masked, strict=True)
        ]
        weights, masks = ([[pair[side] for pair in block] for block in pairs] for side in (0, 1))
        return weight * removal_penalty(weights, masks, self.config.penalty)

    def _penalty_weight(self, epoch: int) -> float:
        if self.config.penalty == "none" or epoch >= self.warmup_epochs:
            return 0.0
        if self.config.penalty_weight == "ramp":
            return min(1.0, epoch / self.warmup_epochs)
        return self.config.penalty_weight


def _removable(layer: Layer, masked: Masked | SharedKernel) -> Pairs:
    return layer.removable() if isinstance(layer, SharedKernel) else [(raw_weight(layer), masked.mask)]


def _parameters(layer: Layer, masked: Masked | SharedKernel) -> list[tuple[nn.Parameter, Tensor]]:
    return layer.parameters() if isinstance(layer, SharedKernel) else [(raw_weight(layer), masked.mask)]


@torch.no_grad()
def _forget(weight: nn.Parameter, mask: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Zero the removed entries of the weight and of its momentum."""
    weight.mul_(mask)
    momentum = optimizer.state.get(weight, {}).get("momentum_buffer")
    if momentum is not None:
        momentum.mul_(mask)
