"""Masks made of trained scores: the released generator, whose scores move beside the weights, and
the lottery ticket's supermask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.amounts import unit_counts
from trainables.sparsity.generator import MaskSchedule
from trainables.sparsity.masks import Layers, Masked, maskable, prune_units


class _StraightThrough(torch.autograd.Function):
    """W m, where the scores get the gradient that W m would pass on to m: dL/dS = dL/d(W m) W, and
    dL/dW = dL/d(W m) m.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
        """mask None: all ones."""
        ctx.save_for_backward(weight, mask)
        return weight.clone() if mask is None else weight * mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weight, mask = ctx.saved_tensors
        to_weight = gradient if mask is None else gradient * mask
        return (
            to_weight if ctx.needs_input_grad[0] else None,
            gradient * weight if ctx.needs_input_grad[1] else None,
            None,
        )


class Scored(Masked):
    """weight -> weight * mask, where the mask is 1 at the largest scores and scores are trained;
    all ones while training and not `active`.

    In evaluation the mask always applies. It is kept beside the scores and made anew from them
    after every step.
    """

    only_kept_learn = False  # scores of removed weights do

    def __init__(self, scores: Tensor) -> None:
        super().__init__(torch.ones_like(scores))
        self.scores = nn.Parameter(scores)

    def forward(self, weight: Tensor) -> Tensor:
        effective: Tensor = _StraightThrough.apply(  # type: ignore[no-untyped-call]
            weight, self.scores, None if self.training and not self.active else self.mask
        )
        return effective


class TrainedScores(MaskSchedule):
    """As the released code trains: a score per weight, the weights of the largest scores stay, and
    scores move like weights.

    tau is the k-th smallest score of a unit of the scope, k = 1 + round(level (n - 1)), and M = 1[S
    >= tau]. Scores get straight-through gradients, momentum and weight decay in every epoch, dense
    or not, so the mask drifts. Removed weights get no gradient but keep momentum and decay; they
    can come back. The penalty, where it is on, is on those that the mask of the step would remove.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        config: SparsityConfig,
        warmup_epochs: int,
        seed: int,
        *,
        redraw: bool = True,
    ) -> None:
        """redraw: weights start as the released code's, see `released_start`; otherwise they stay
        what they are.
        """
        generator = torch.Generator().manual_seed(seed)
        layers = maskable(blocks)
        if redraw:
            released_start(blocks, generator)
        self._scored = [
            [Scored(_kaiming_uniform(layer, generator)) for layer in block] for block in layers
        ]
        for block, row in zip(layers, self._scored, strict=True):
            for layer, scored in zip(block, row, strict=True):
                parametrize.register_parametrization(layer, "weight", scored)
        super().__init__(layers, self._scored, config, warmup_epochs)
        self._units = unit_counts(
            _shapes(layers), config.expected_level, config.scope, config.distribution
        )
        self._choose()

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        self.activate(epoch >= self.warmup_epochs)

    def after_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        self._choose()

    @torch.no_grad()
    def _choose(self) -> None:
        """Make the masks anew from the scores. Thresholds stay on the device."""
        self.replace_masks(
            prune_units([scored.scores for block in self._scored for scored in block], self._units)
        )


class Supermask(TrainedScores):
    """A lottery ticket (sparse ST-GCN paper, section 3.2): only scores are trained, by
    straight-through gradients.

    Weights, biases, BatchNorm's scales and shifts, adjacency and classifier stay what they are:
    trained by another trial, or as they were drawn. BatchNorm's running statistics follow the
    network as it is. Masks apply from the first step on.
    """

    def __init__(
        self,
        network: nn.Module,
        blocks: Sequence[nn.Module],
        config: SparsityConfig,
        seed: int,
        *,
        trained: nn.Module | None,
        redraw: bool,
    ) -> None:
        """network: all of it; trained: the part whose weights are trained beside the scores;
        redraw: as for trained scores.
        """
        network.requires_grad_(False)
        if trained is not None:
            trained.requires_grad_(True)
        super().__init__(blocks, config, 0, seed, redraw=redraw)


def released_start(blocks: Sequence[nn.Module], generator: torch.Generator) -> None:
    """What the released sparse networks start from: weights U(-b, b), b = sqrt(6 / fan_in), biases
    0, BatchNorm's scales 1 and shifts 0.

    The starts of their own that dense networks have, such as BatchNorm scales near 0, are replaced:
    frozen, they would let nothing through.
    """
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                with torch.no_grad():
                    module.weight.copy_(_kaiming_uniform(module, generator))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_parameters()


def _kaiming_uniform(layer: nn.Conv2d, generator: torch.Generator) -> Tensor:
    """U(-b, b) of the weight's shape and kind, b = sqrt(6 / fan_in) (He et al. 2015); drawn on the
    CPU.
    """
    weight = layer.weight
    bound = math.sqrt(6.0 / weight[0].numel())
    return (
        bound * (2.0 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1.0)
    ).to(weight)


def _shapes(layers: Layers) -> list[list[tuple[int, ...]]]:
    return [[tuple(layer.weight.shape) for layer in block] for block in layers]
