"""The sparse generator: a fixed mask, dense warm-up with a penalty, then fine-tuning of the kept
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.constant_channels import constant_channels
from trainables.sparsity.masks import (
    Kept,
    Masked,
    Masks,
    Weighted,
    attach,
    magnitudes,
    prune,
    prune_structured,
    random_scores,
    raw_weight,
)
from trainables.sparsity.penalty import removal_penalty
from trainables.sparsity.sharing import (
    Layer,
    Pairs,
    SharedKernel,
    channel_masks,
    counted_kernels,
    parameters,
    put,
    removable,
)
from trainables.training.schedule import Schedule


class MaskSchedule(Schedule):
    """What all ways of training with masks share: layers and their masks, and the penalty of a
    dense warm-up.

    All state is in the masks' buffers. Whether they are active follows from the epoch and the step.
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Layer]],
        masked: Sequence[Sequence[Masked | SharedKernel]],
        config: SparsityConfig,
        warmup_epochs: int = 0,
    ) -> None:
        """layers and what is attached to them, by block; warmup_epochs: E_w, dense ones before the
        masks apply.
        """
        self.config = config
        self.warmup_epochs = warmup_epochs
        self._layers = layers
        self._masked = masked

    @property
    def removed(self) -> int:
        """Number of weights the masks remove, of those that the level counts."""
        return sum(int((masked.mask == 0).sum()) for block in self._masked for masked in block)

    def counted(self, network: nn.Module) -> list[Kept]:
        """What masks leave of what the level counts, in layer order, by the names that convolutions
        and fused modules have in the network.
        """
        names = {module: name for name, module in network.named_modules()}
        rows = zip(chain.from_iterable(self._layers), self.masks, strict=True)
        places = (
            (layer.fusion if isinstance(layer, SharedKernel) else layer, mask)
            for layer, mask in rows
        )
        return [
            Kept(names[place], tuple(mask.shape), int(mask.count_nonzero()))
            for place, mask in places
        ]

    @property
    def weights(self) -> list[Tensor]:
        """The parameters under the masks, in layer order."""
        return [
            raw_weight(layer)
            for block in self._layers
            for layer in block
            if isinstance(layer, nn.Conv2d)
        ]

    @property
    def masks(self) -> list[Tensor]:
        """0/1, in layer order."""
        return [masked.mask for block in self._masked for masked in block]

    def removable(self) -> list[Pairs]:
        """What a penalty on weights that will go sees, by block."""
        rows = zip(self._layers, self._masked, strict=True)
        return [
            [pair for layer, masked in zip(*row, strict=True) for pair in removable(layer, masked)]
            for row in rows
        ]

    def parameters(self) -> Pairs:
        """Parameters of which single numbers go, with their masks."""
        layers, masked = chain.from_iterable(self._layers), chain.from_iterable(self._masked)
        return [
            pair
            for layer, mask in zip(layers, masked, strict=True)
            for pair in parameters(layer, mask)
        ]

    def activate(self, active: bool) -> None:
        """Masks apply from now on, or do not."""
        for block in self._masked:
            for masked in block:
                masked.active = active

    @torch.no_grad()
    def replace_masks(self, kept: Sequence[Tensor]) -> None:
        """kept: booleans, in layer order. The buffers stay the same tensors."""
        torch._foreach_copy_(self.masks, list(kept))

    @torch.no_grad()
    def forget(self, optimizer: torch.optim.Optimizer) -> None:
        """Removed weights are zero, and so is their momentum: nothing moves them again."""
        for weight, mask in self.parameters():
            weight.mul_(mask)
            momentum = optimizer.state.get(weight, {}).get("momentum_buffer")
            if momentum is not None:
                momentum.mul_(mask)

    def penalty(self, epoch: int) -> Tensor | None:
        """lambda * L_p for a step of this epoch; None when nothing is to be added."""
        weight = self._penalty_weight(epoch)
        if weight == 0.0:
            return None
        pairs = self.removable()
        weights, masks = ([[pair[side] for pair in block] for block in pairs] for side in (0, 1))
        return weight * removal_penalty(weights, masks, self.config.penalty)

    def _penalty_weight(self, epoch: int) -> float:
        if self.config.penalty == "none" or epoch >= self.warmup_epochs:
            return 0.0
        if self.config.penalty_weight == "ramp":
            return min(1.0, epoch / self.warmup_epochs)
        return self.config.penalty_weight


class SparseGenerator(MaskSchedule):
    """Trains one network to a fixed mask (sparse ST-GCN paper, section 3.3): a random one, one by
    magnitude, or one from a file.

    Epochs 0 .. E_w - 1: all weights active, loss = cross entropy + lambda * L_p, where L_p is the
    group lasso over the weights that will be removed and lambda = min(1, epoch / E_w) ("ramp") or a
    constant. From epoch E_w on: weights * mask; the removed weights are set to zero, their momentum
    is cleared, so no gradient and no decay moves them again.

    The masks are attached to the module from outside as inactive parametrizations when this is
    made, so the state dict has the same names in both stages and a checkpoint carries its mask.
    With a sharing the level counts what ships, see `sharing`.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        config: SparsityConfig,
        warmup_epochs: int,
        seed: int,
        masks: Masks | None = None,
    ) -> None:
        """blocks: modules whose 2-D convolutions are maskable; warmup_epochs: E_w; seed: of the
        mask alone; masks: of generator predefined.
        """
        layers = counted_kernels(blocks, config.sharing if masks is None else "none")
        if masks is None:
            masks = (
                channel_masks(blocks, config, seed)
                if config.sharing == "channels"
                else choose_masks(layers, config, seed)
            )
        masked = [
            [put(layer, mask) for layer, mask in zip(*row, strict=True)]
            for row in zip(layers, masks, strict=True)
        ]
        super().__init__(layers, masked, config, warmup_epochs)
        self._blocks = blocks
        self._scales: list[tuple[nn.BatchNorm2d, Masked]] = []

    def mask_constant_channels(self, network: nn.Module, clips: Tensor) -> None:
        """Mask the scales of channels of which the masks leave a constant, see `constant_channels`;
        before the first epoch.

        network: has the blocks; clips (N, 3, T, V, M): of the size it will take.
        """
        self._scales = [
            (norm, attach(norm, mask))
            for norm, mask in constant_channels(network, self._blocks, clips)
        ]

    def parameters(self) -> Pairs:
        return super().parameters() + [
            (raw_weight(norm), scale.mask) for norm, scale in self._scales
        ]

    def activate(self, active: bool) -> None:
        super().activate(active)
        for _, scale in self._scales:
            scale.active = active

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Dense before E_w; from E_w on masks are active, removed weights are exactly zero and the
        optimiser has forgotten them.
        """
        self.activate(epoch >= self.warmup_epochs)
        if epoch >= self.warmup_epochs:
            self.forget(optimizer)


def choose_masks(layers: Sequence[Sequence[Weighted]], config: SparsityConfig, seed: int) -> Masks:
    """The masks that generator fixed_random or magnitude_at_init keeps, of the structure and level
    that are asked for.
    """
    structure = config.structure
    if config.generator == "magnitude_at_init":
        scores = magnitudes(layers)
    else:
        scores = random_scores(layers, torch.Generator().manual_seed(seed), structure)
    if structure == "weight":
        return prune(scores, config.expected_level, config.scope, config.distribution)
    return prune_structured(scores, config.expected_level, structure)
