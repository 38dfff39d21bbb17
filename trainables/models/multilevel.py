"""Networks of several levels: experts beside each other, levels nested in one network, a mixture of
experts. Knows nothing of masks.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.frozen import Frozen
from trainables.contract.sparsity import Level, SparsityConfig, level_name
from trainables.layouts import Layout
from trainables.models.backbone import Backbone, NetworkSpec, SkeletonNetwork
from trainables.models.build import build_training_form, network_spec
from trainables.reparam.fusible import FULL, deployed
from trainables.seeding import derive

BALANCE_WEIGHT = 1e-2
"""Of the loss that spreads the clips over the experts of a mixture."""


class MultiLevelSpec(Frozen):
    """All that is needed to build such a network's architecture; stored beside the weights of a
    file.
    """

    network: Literal["experts", "nested", "mixture"]
    levels: tuple[Level, ...] = Field(min_length=2)  # of nested: the lowest first
    member: NetworkSpec
    gate: NetworkSpec | None = None  # mixture
    fusion: Literal["mean", "weighted", "concat"] = "mean"  # experts
    own_heads: bool = True  # experts: each has a classifier of its own
    active: int = Field(default=1, ge=1)  # mixture: experts that see a clip

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.gate is not None) != (self.network == "mixture"):
            raise ValueError(
                f"gate must be given for a mixture and nothing else, got network={self.network}"
            )
        if self.active > len(self.levels):
            raise ValueError(f"active must be at most the number of levels, got {self.active}")
        return self

    @property
    def model(self) -> ModelConfig:
        """Of every member."""
        return self.member.model

    @property
    def persons(self) -> int:
        """M."""
        return self.member.persons

    @property
    def joints(self) -> int:
        """V."""
        return self.member.joints

    @property
    def classes(self) -> int:
        """K."""
        return self.member.classes


def multi_level_spec(
    model: ModelConfig,
    sparsity: SparsityConfig,
    layout: Layout,
    *,
    classes: int,
    persons: int,
    stream: StreamConfig,
) -> MultiLevelSpec:
    """The architecture that a configuration of several levels asks for on that skeleton; UserError
    where they do not fit together.
    """
    assert sparsity.network != "single"
    mixture, nested = sparsity.network == "mixture", sparsity.network == "nested"
    return MultiLevelSpec(
        network=sparsity.network,
        levels=tuple(sorted(sparsity.levels)) if nested else sparsity.levels,
        member=network_spec(model, layout, classes=classes, persons=persons, stream=stream),
        gate=network_spec(model.gate, layout, classes=classes, persons=persons, stream=stream)
        if mixture
        else None,
        fusion=sparsity.fusion if sparsity.network == "experts" else "mean",
        own_heads=nested or (sparsity.network == "experts" and sparsity.expert_losses),
        active=sparsity.active if mixture else 1,
    )


class MultiLevel(nn.Module):
    """(N, 3, T, V, M) -> logits (N, K) of several networks together, one per level, in training
    form or in deploy form.
    """

    members: nn.ModuleList
    """One network per level, in the order of spec.levels: backbones, or their deploy forms once
    deployed.
    """

    def __init__(self, spec: MultiLevelSpec, members: Sequence[Backbone]) -> None:
        super().__init__()
        self.spec = spec
        self.members = nn.ModuleList(members)

    @property
    def networks(self) -> list[SkeletonNetwork]:
        """The members by what both their forms have in common."""
        return cast("list[SkeletonNetwork]", list(self.members))

    @property
    def backbones(self) -> list[Backbone]:
        """The members of the training form."""
        return cast("list[Backbone]", list(self.members))

    @property
    def level_names(self) -> list[str]:
        """Of every level, in the order of the members."""
        return [level_name(level) for level in self.spec.levels]

    @property
    def level_blocks(self) -> list[list[nn.Module]]:
        """Of every level, the blocks whose weights a mask may touch."""
        return [list(member.blocks) for member in self.backbones]

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks whose weights a mask may touch, every weight once."""
        return [block for blocks in self.level_blocks for block in blocks]

    @property
    def continuous(self) -> bool:
        """As of a backbone."""
        return self.backbones[0].continuous

    @property
    def kept(self) -> str:
        """As of a backbone."""
        return self.backbones[0].kept

    def levels(self) -> dict[str, nn.Module]:
        """Name of a level -> clips to its logits alone; empty where the levels have no classifier
        of their own.
        """
        return (
            dict(zip(self.level_names, self.networks, strict=True)) if self.spec.own_heads else {}
        )

    @abstractmethod
    def objective(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, logits (N, K)) of one training step."""

    def made_of(self, part: Callable[[SkeletonNetwork], SkeletonNetwork]) -> Self:
        """This network with `part` of each of its networks in their place and all else frozen and
        rounded once; no shared memory.
        """
        twin = copy.copy(self)
        twin.__dict__.update(
            {
                name: OrderedDict()
                for name, value in vars(self).items()
                if "_hooks" in name and isinstance(value, dict)
            }
        )
        twin._modules = {}
        for name, child in self._modules.items():
            if isinstance(child, nn.ModuleList):
                twin._modules[name] = nn.ModuleList(
                    part(cast("SkeletonNetwork", member)) for member in child
                )
            elif isinstance(child, SkeletonNetwork):
                twin._modules[name] = part(child)
            elif child is not None:
                precision = next(
                    (parameter.dtype for parameter in child.parameters()), torch.get_default_dtype()
                )
                twin._modules[name] = deployed(copy.deepcopy(child).double(), FULL).to(precision)
        return twin.eval()


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
                _drawn(spec.member, seed, "level", number, head=spec.own_heads)
                for number in range(len(spec.levels))
            ],
        )
        self.fusion = FUSIONS[spec.fusion](len(spec.levels), spec.model.width)
        self.head = _drawn(spec.member, seed, "head").head
        self.divergence = 0.0

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.fusion(self._features(clips)))
        return logits

    def objective(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        features, experts = self._features(clips), self.backbones
        loss, logits = experts[0].head_objective(self.head, self.fusion(features), labels)
        if self.spec.own_heads:
            loss = loss + sum(
                expert.head_objective(expert.head, own, labels)[0]
                for expert, own in zip(experts, features, strict=True)
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


class Nested(MultiLevel):
    """One set of weights seen at several levels; the logits are the logarithm of the levels' mean
    probability.

    The levels' parameters are the same tensors; each level has statistics of its own in every
    BatchNorm. Loss: that of the mean probability of the levels in `trained` + that of each of them
    where `level_losses`.
    """

    def __init__(self, spec: MultiLevelSpec, seed: int) -> None:
        first = _drawn(spec.member, seed)
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

    def objective(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, logits = zip(
            *(self.backbones[level].objective(clips, labels) for level in self.trained), strict=True
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
                _drawn(spec.member, seed, "level", number, head=False)
                for number in range(len(spec.levels))
            ],
        )
        self.gate: SkeletonNetwork = _drawn(spec.gate, seed, "gate", head=False)
        self.choice = nn.Linear(spec.model.width, len(spec.levels), bias=False)
        nn.init.zeros_(self.choice.weight)
        self.head = _drawn(spec.member, seed, "head").head

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

    def objective(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        weights, chosen = self._gates(clips)
        loss, logits = self.backbones[0].head_objective(
            self.head, self._mixed(clips, weights, chosen), labels
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

    def _gates(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (N, k) that sum to one, and the numbers (N, k) of the experts; the larger first.

        In float32 at least.
        """
        features = self.gate.features(clips)
        with torch.autocast(clips.device.type, enabled=False):
            logits = self.choice(features.to(self.choice.weight.dtype))
            ordered, experts = torch.sort(logits, dim=1, descending=True, stable=True)
            return F.softmax(ordered[:, : self.spec.active], dim=1), experts[:, : self.spec.active]

    def _mixed(self, clips: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
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
                expert.features(clips[part])
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
    return weights.new_zeros(len(weights), experts).scatter(1, chosen, weights)


def squared_variation(values: Tensor) -> Tensor:
    """CV^2 = unbiased variance / (mean^2 + 1e-10), a measure of imbalance (Shazeer et al. 2017)."""
    return values.var() / (values.mean().square() + 1e-10)


def build_multi_level(
    spec: MultiLevelSpec, *, seed: int, sparsity: SparsityConfig | None = None
) -> MultiLevel:
    """The training form on the CPU.

    Weights depend on `seed` alone; the global generator is untouched. sparsity: what the loss is
    made of.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "fusion"))
        network = NETWORKS[spec.network](spec, seed)
    if isinstance(network, Experts) and sparsity is not None:
        network.divergence = sparsity.divergence
    if isinstance(network, Nested) and sparsity is not None:
        network.level_losses = sparsity.expert_losses
    return network


NETWORKS: dict[str, Callable[[MultiLevelSpec, int], MultiLevel]] = {
    "experts": Experts,
    "nested": Nested,
    "mixture": Mixture,
}
"""sparsity.network -> the class of the network."""


def _drawn(spec: NetworkSpec, seed: int, *purpose: str | int, head: bool = True) -> Backbone:
    """A backbone whose weights depend on seed and purpose alone; without a head its logits are its
    features.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *purpose) if purpose else seed)
        network = build_training_form(spec)
    if not head:
        network.head = nn.Identity()
    return network
