"""Experts beside each other, and how their features become one. Knows nothing of masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.multilevel import MultiLevel, MultiLevelSpec, drawn, training_features


class Experts(MultiLevel):
    """Networks of their own, trained together: head(fusion(pooled features of every expert)) (as
    the sparse ST-GCN study's code assembles them).

    Loss: that of the fused head + that of each expert's own head where there are such +
    `divergence` times `batch_divergence`.
    """

    def __init__(self, spec: MultiLevelSpec, seed: int) -> None:
        super().__init__(
            spec,
            [
                drawn(spec.member, seed, "level", number, head=spec.own_heads)
                for number in range(len(spec.levels))
            ],
        )
        self.fusion = FUSIONS[spec.fusion](len(spec.levels), spec.model.width)
        self.head = drawn(spec.member, seed, "head").head
        self.divergence = 0.0

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.fusion(self._features(clips)))
        return logits

    def objective(
        self, clips: Tensor, labels: Tensor, persons: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        experts = self.backbones
        features = torch.stack([training_features(expert, clips, persons) for expert in experts])
        loss, logits = experts[0].head_objective(self.head, self.fusion(features), labels)
        if self.spec.own_heads:
            loss = loss + sum(
                expert.head_objective(expert.head, pooled, labels)[0]
                for expert, pooled in zip(experts, features, strict=True)
            )
        if self.divergence:
            loss = loss + self.divergence * batch_divergence(features.float())
        return loss, logits

    def _features(self, clips: Tensor) -> Tensor:
        """(H, N, C)."""
        return torch.stack([expert.features(clips) for expert in self.networks])


class MeanFusion(nn.Module):
    """Mean over the experts: (H, N, C) -> (N, C)."""

    def __init__(self, experts: int, channels: int) -> None:
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=0)


class WeightedFusion(nn.Module):
    """sum_h alpha_h f_h / H with learned alpha, which starts at 1: (H, N, C) -> (N, C)."""

    def __init__(self, experts: int, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(experts))

    def forward(self, features: Tensor) -> Tensor:
        return (features * self.alpha[:, None, None]).mean(dim=0)


class ConcatFusion(nn.Module):
    """A linear layer on all features of a clip: (H, N, C) -> (N, C). The released 1x1 convolution
    before the mean, after it.
    """

    def __init__(self, experts: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(experts * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        fused: Tensor = self.linear(features.transpose(0, 1).flatten(1))
        return fused


FUSIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "mean": MeanFusion,
    "weighted": WeightedFusion,
    "concat": ConcatFusion,
}


def batch_divergence(features: Tensor) -> Tensor:
    """Mean over pairs of experts i < j of KL(softmax(f_j) || softmax(f_i)), each softmax over the
    clips of the batch; features: (H, N, C).

    As released: summed over clips and channels. Added to a loss it draws the experts' features
    together.
    """
    logs = F.log_softmax(features, dim=1)
    first, second = torch.triu_indices(
        len(features), len(features), offset=1, device=features.device
    )
    return (
        F.kl_div(logs[first], logs[second], reduction="none", log_target=True)
        .sum(dim=(1, 2))
        .mean()
    )
