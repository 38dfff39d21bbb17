"""A mixture of experts behind a gate. Knows nothing of masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.backbone import SkeletonNetwork
from trainables.models.multilevel import MultiLevel, MultiLevelSpec, drawn, training_features

BALANCE_WEIGHT = 1e-2
"""Of the loss that spreads the clips over the experts of a mixture."""


class Mixture(MultiLevel):
    """A dense gate chooses the experts that see a clip: head(sum_h g_h * pooled features of expert
    h) (the released code's sparse mixture).

    g: softmax of the `active` largest gate logits, the gate's pooled features times W, which starts
    at 0; of equal ones the first expert is taken. Every clip goes to its chosen experts only. Loss:
    that of the head + BALANCE_WEIGHT * (CV^2(sum over the batch of g_h) + CV^2(clips of expert h)).
    """

    def __init__(self, spec: MultiLevelSpec, seed: int) -> None:
        assert spec.gate is not None
        super().__init__(
            spec,
            [
                drawn(spec.member, seed, "level", number, head=False)
                for number in range(len(spec.levels))
            ],
        )
        self.gate: SkeletonNetwork = drawn(spec.gate, seed, "gate", head=False)
        self.choice = nn.Linear(spec.model.width, len(spec.levels), bias=False)
        nn.init.zeros_(self.choice.weight)
        self.head = drawn(spec.member, seed, "head").head

    @property
    def continuous(self) -> bool:
        """Never: rounding can change which experts are chosen."""
        return False

    def levels(self) -> dict[str, nn.Module]:
        """Each expert as if the gate had sent it every clip."""
        return {
            name: _WithHead(member, self.head)
            for name, member in zip(self.level_names, self.networks, strict=True)
        }

    def forward(self, clips: Tensor) -> Tensor:
        weights, chosen = self._gates(clips)
        logits: Tensor = self.head(self._mixed(clips, weights, chosen))
        return logits

    def objective(
        self, clips: Tensor, labels: Tensor, persons: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        weights, chosen = self._gates(clips, persons)
        loss, logits = self.backbones[0].head_objective(
            self.head, self._mixed(clips, weights, chosen, persons), labels
        )
        gates = _per_expert(weights, chosen, len(self.members))
        balance = squared_variation(gates.sum(dim=0)) + squared_variation(
            (gates > 0).sum(dim=0).float()
        )
        return loss + BALANCE_WEIGHT * balance, logits

    def sent(self, clips: Tensor) -> Tensor:
        """(N, H) booleans: which experts the gate sends a clip to, `active` of them."""
        weights, chosen = self._gates(clips)
        return _per_expert(torch.ones_like(weights), chosen, len(self.members)) > 0

    def _gates(self, clips: Tensor, persons: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weights (N, k) that sum to one, and the numbers (N, k) of the experts; the larger first.

        In float32 at least.
        """
        features = training_features(self.gate, clips, persons)
        with torch.autocast(clips.device.type, enabled=False):
            logits = self.choice(features.to(self.choice.weight.dtype))
            ordered, experts = torch.sort(logits, dim=1, descending=True, stable=True)
            return F.softmax(ordered[:, : self.spec.active], dim=1), experts[:, : self.spec.active]

    def _mixed(
        self, clips: Tensor, weights: Tensor, chosen: Tensor, persons: Tensor | None = None
    ) -> Tensor:
        """(N, C): sum of the chosen experts' features, weighted.

        How many clips each expert gets is read from the device once.
        """
        if torch.compiler.is_compiling():  # shapes must not depend on the choice
            # (N, H, C)
            everything = torch.stack([expert.features(clips) for expert in self.networks], dim=1)
            return (everything * _per_expert(weights, chosen, len(self.members))[:, :, None]).sum(
                dim=1
            )
        flat = chosen.flatten()  # (N k,)
        order = torch.argsort(flat, stable=True)  # by expert, then by clip
        counts = (
            (flat[:, None] == torch.arange(len(self.members), device=flat.device))
            .sum(dim=0)
            .tolist()
        )
        parts = torch.split(order // chosen.shape[1], counts)
        features = torch.cat(
            [
                training_features(
                    expert, clips[part], None if persons is None else persons[part.cpu()]
                )
                for expert, part in zip(self.networks, parts, strict=True)
                if len(part)
            ]
        )
        return (features[torch.argsort(order)].view(*chosen.shape, -1) * weights[:, :, None]).sum(
            dim=1
        )


class _WithHead(nn.Module):
    """An expert of a mixture with the mixture's head."""

    def __init__(self, expert: SkeletonNetwork, head: nn.Module) -> None:
        super().__init__()
        self.expert = expert
        self.head = head

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.expert.features(clips))
        return logits


def _per_expert(weights: Tensor, chosen: Tensor, experts: int) -> Tensor:
    """(N, H): the weights (N, k) in the places of the chosen experts, 0 elsewhere."""
    # not len(weights), which a traced program would take for a constant
    return weights.new_zeros(weights.shape[0], experts).scatter(1, chosen, weights)


def squared_variation(values: Tensor) -> Tensor:
    """CV^2 = unbiased variance / (mean^2 + 1e-10), a measure of imbalance (Shazeer et al. 2017)."""
    return values.var() / (values.mean().square() + 1e-10)
