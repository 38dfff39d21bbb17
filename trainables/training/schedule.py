"""What the training loop asks of anything that changes while a module trains, such as masks.

Knows nothing of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Schedule:
    """Something that changes while a module trains besides the learning rate, such as masks.

    What is not overridden does nothing.

    All that it keeps must be in the module's state dict or follow from the epoch and the step: a
    run can continue at any step.
    """

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """Before the first step of an epoch, and before the first step after a continuation."""

    def begin_step(self, epoch: int, step: int) -> None:
        """Before the forward pass."""

    def penalty(self, epoch: int) -> Tensor | None:
        """What is added to the loss of a step; None: nothing."""
        return None

    def before_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Between the backward pass and the update: gradients are there."""

    def after_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        """After the update of the weights."""

    def end_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """After the evaluation of an epoch and before its checkpoint: what is changed here is what
        the next epoch starts from.
        """

    def metrics(self) -> dict[str, float]:
        """Numbers to report of the epoch that was just trained, beside those of the loop; the same
        names in every epoch.
        """
        return {}
