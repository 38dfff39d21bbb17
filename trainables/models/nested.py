"""Levels nested in one set of weights. Knows nothing of masks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.multilevel import MultiLevel, MultiLevelSpec, drawn


class Nested(MultiLevel):
    """One set of weights seen at several levels; the logits are the logarithm of the levels' mean
    probability.

    The levels' parameters are the same tensors; each level has statistics of its own in every
    BatchNorm. Loss: that of the mean probability of the levels in `trained` + that of each of them
    where `level_losses`.
    """

    def __init__(self, spec: MultiLevelSpec, seed: int) -> None:
        first = drawn(spec.member, seed)
        shared = {id(parameter): parameter for parameter in first.parameters()}
        super().__init__(
            spec, [first, *(copy.deepcopy(first, dict(shared)) for _ in spec.levels[1:])]
        )
        self.trained: tuple[int, ...] = tuple(range(len(spec.levels)))  # levels of the next step
        self.level_losses = True

    @property
    def blocks(self) -> list[nn.Module]:
        """Those of the lowest level, whose mask keeps all that any other keeps."""
        return self.level_blocks[0]

    def forward(self, clips: Tensor) -> Tensor:
        return log_mean_probability([level(clips) for level in self.networks])

    def objective(
        self, clips: Tensor, labels: Tensor, persons: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        losses, logits = zip(
            *(self.backbones[level].objective(clips, labels, persons) for level in self.trained),
            strict=True,
        )
        fused = log_mean_probability(logits)
        loss = F.nll_loss(fused, labels)
        return loss + sum(losses) if self.level_losses else loss, fused


def log_mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """log of the mean of softmax(logits), float32 at least: (N, K) from several (N, K)."""
    precise = torch.stack(
        [each if each.dtype == torch.float64 else each.float() for each in logits]
    )
    return torch.logsumexp(F.log_softmax(precise, dim=2), dim=0) - math.log(len(logits))
