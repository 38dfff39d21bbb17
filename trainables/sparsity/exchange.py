"""Dynamic sparse training: RigL and SET drop weights and grow others while the network trains,
their number stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.contract.errors import UserError
from trainables.contract.sparsity import SparsityConfig
from trainables.seeding import derive
from trainables.sparsity.generator import MaskSchedule
from trainables.sparsity.masks import attach_all, maskable, prune, random_scores, without_smallest


class Exchange(MaskSchedule):
    """RigL (Evci et al. 2020, Rigging the lottery) and SET (Mocanu et al. 2018): sparse from the
    first step on.

    The first mask is random. Every `update_every` steps until `update_until` of all steps, each
    tensor drops the share f(t) = update_share / 2 (1 + cos(pi t / T_end)) of its kept weights,
    those with the smallest |w|, and grows as many of the others: where the loss's gradient is
    largest (rigl), or at random (set). As many stay in each tensor as were drawn first, so the
    level stays exact, whatever its scope. Grown weights start at zero without momentum; one that is
    dropped and grown at once is left as it was.

    As in RigL an exchange takes the place of that step's update. Removed weights are zero, so the
    network with its masks inactive gives the same loss, and the gradient of every weight.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        config: SparsityConfig,
        epochs: int,
        steps: int,
        seed: int,
    ) -> None:
        """steps: of an epoch; seed: of the first mask and of what grows at random."""
        layers = maskable(blocks)
        scores = random_scores(layers, torch.Generator().manual_seed(seed))
        masks = prune(scores, config.expected_level, config.scope, config.distribution)
        super().__init__(layers, attach_all(layers, masks), config)
        self._removed = [int((mask == 0).sum()) for block in masks for mask in block]
        self._steps = steps
        self._end = config.update_until * epochs * steps  # T_end
        self._seed = seed
        if config.update_every >= self._end:
            raise UserError(
                f"sparsity.update_every must be less than the {self._end:g} steps in which weights"
                f" are exchanged (update_until = {config.update_until:g} of {epochs} epochs of"
                f" {steps} steps), got {config.update_every}"
            )

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        self.activate(True)
        self.forget(optimizer)

    def begin_step(self, epoch: int, step: int) -> None:
        if self.config.generator == "rigl" and self.share(epoch, step) > 0:
            self.activate(False)

    def before_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        share = self.share(epoch, step)
        if share == 0:
            return
        self._exchange(share, derive(self._seed, "grow", epoch, step))
        self.activate(True)
        self.forget(optimizer)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # no update in this step

    def share(self, epoch: int, step: int) -> float:
        """f(t) of an exchange, 0 in steps without one."""
        t = epoch * self._steps + step
        if t == 0 or t % self.config.update_every or t >= self._end:
            return 0.0
        return self.config.update_share / 2 * (1 + math.cos(math.pi * t / self._end))

    @torch.no_grad()
    def _exchange(self, share: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        kept = []
        for weight, mask, removed in zip(self.weights, self.masks, self._removed, strict=True):
            count = int(share * (weight.numel() - removed))
            sizes = weight.abs().masked_fill_(mask == 0, -1.0).flatten()  # what is gone goes first
            stays = without_smallest(sizes, removed + count)
            kept.append(
                without_smallest(
                    self._promise(weight, generator).masked_fill_(stays, math.inf), removed
                ).view_as(weight)
            )
        self.replace_masks(kept)

    def _promise(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """(n,): those with the most grow."""
        if self.config.generator == "set":
            return torch.rand(weight.numel(), generator=generator).to(weight.device)
        assert weight.grad is not None
        return weight.grad.abs().flatten()
