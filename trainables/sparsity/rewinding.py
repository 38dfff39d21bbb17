"""Iterative magnitude pruning with rewinding: train, prune, go back, train again.

Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.amounts import unit_counts
from trainables.sparsity.generator import MaskSchedule
from trainables.sparsity.masks import MASK, attach_all, maskable, prune_units

REWIND_POINT = "rewind_point_"
"""What the names of buffers begin with that hold, inside the
network, what its tensors go back to.
"""


class Rewinding(MaskSchedule):
    """Iterative magnitude pruning (Frankle et al. 2020, Linear mode connectivity and the lottery
    ticket hypothesis).

    R + 1 trainings of one trial. After each but the last the smallest |w| of those left are
    removed, and everything that is left (kept weights, biases, BatchNorm, adjacency, classifier)
    goes back to what it was at the start of epoch `rewind_epoch` of the first training; momentum is
    forgotten and the recipe goes on from that epoch. Of the n weights of a unit of the scope
    round(n (k / n)^(r / R)) stay after pruning r, where k are those that the level leaves: the same
    fraction goes every time, and after R prunings exactly as many as the level asks for.
    """

    def __init__(
        self, network: nn.Module, blocks: Sequence[nn.Module], config: SparsityConfig, epochs: int
    ) -> None:
        """network: all of it, as it starts; epochs: of the recipe."""
        layers = maskable(blocks)
        super().__init__(
            layers,
            attach_all(
                layers, [[torch.ones_like(layer.weight) for layer in block] for block in layers]
            ),
            config,
        )
        self._network = network
        self._epochs = epochs
        sizes = [layer.weight.numel() for block in layers for layer in block]
        shapes = [[tuple(layer.weight.shape) for layer in block] for block in layers]
        self._units = []  # (tensors, weights, of which stay in the end) of each unit of the scope
        for tensors, removed in unit_counts(
            shapes, config.expected_level, config.scope, config.distribution
        ):
            size = sum(sizes[:tensors])
            del sizes[:tensors]
            self._units.append((tensors, size, size - removed))
        # saved where whoever builds the network could not make it again
        for number, tensor in enumerate(self._state()):
            network.register_buffer(
                f"{REWIND_POINT}{number}", tensor.clone(), persistent=config.rewind_epoch > 0
            )

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        self.activate(True)
        self.forget(optimizer)

    def end_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        if epoch + 1 == self.config.rewind_epoch:
            torch._foreach_copy_(self._rewind_point(), self._state())
        trained = epoch + 1 - self._epochs  # epochs since the end of the first training
        per_round = self._epochs - self.config.rewind_epoch
        if trained >= 0 and trained % per_round == 0 and trained // per_round < self.config.rounds:
            self._prune(trained // per_round + 1)
            self._rewind(optimizer)

    @torch.no_grad()
    def _prune(self, number: int) -> None:
        """Pruning `number` of R, counted from 1."""
        magnitudes = torch._foreach_abs(self.weights)
        for magnitude, mask in zip(magnitudes, self.masks, strict=True):
            magnitude.masked_fill_(mask == 0, -1.0)  # what is gone goes first
        self.replace_masks(
            prune_units(
                magnitudes,
                [
                    (tensors, size - self.kept(size, last, number))
                    for tensors, size, last in self._units
                ],
            )
        )

    def kept(self, size: int, last: int, number: int) -> int:
        """How many of a unit's weights stay after pruning
        `number`, where `last` stay in the end.
        """
        fraction: float = (last / size) ** (number / self.config.rounds)
        return round(size * fraction)

    @torch.no_grad()
    def _rewind(self, optimizer: torch.optim.Optimizer) -> None:
        torch._foreach_copy_(self._state(), self._rewind_point())
        optimizer.state.clear()
        self.forget(optimizer)

    def _state(self) -> list[Tensor]:
        """Everything that training changes: parameters, statistics; not the masks."""
        state = self._network.state_dict(keep_vars=True)
        return [
            tensor.data
            for name, tensor in state.items()
            if not name.endswith(MASK) and not name.startswith(REWIND_POINT)
        ]

    def _rewind_point(self) -> list[Tensor]:
        return [
            buffer
            for name, buffer in self._network.named_buffers(recurse=False)
            if name.startswith(REWIND_POINT)
        ]
