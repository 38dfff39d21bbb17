"""What networks of several levels have in common: experts beside each other, levels nested in one
network, a mixture of experts. Knows nothing of masks.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.frozen import Frozen
from trainables.contract.sparsity import Level, SparsityConfig, level_name
from trainables.layouts import Layout
from trainables.models.backbone import Backbone, NetworkSpec, SkeletonNetwork
from trainables.models.build import build_training_form, network_spec
from trainables.module_copies import module_copy
from trainables.reparam.fusible import FULL, deployed
from trainables.seeding import derive


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
    def objective(
        self, clips: Tensor, labels: Tensor, persons: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(loss, logits (N, K)) of one training step; persons: as of a backbone."""

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
                twin._modules[name] = deployed(module_copy(child).double(), FULL).to(precision)
        return twin.eval()


def training_features(network: SkeletonNetwork, clips: Tensor, persons: Tensor | None) -> Tensor:
    """Of a part in either form; persons: see `Backbone.objective`, None in deploy form."""
    if persons is None:
        return network.features(clips)
    return cast("Backbone", network).features(clips, persons)


def drawn(spec: NetworkSpec, seed: int, *purpose: str | int, head: bool = True) -> Backbone:
    """A backbone whose weights depend on seed and purpose alone; without a head its logits are its
    features.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, *purpose) if purpose else seed)
        network = build_training_form(spec)
    if not head:
        network.head = nn.Identity()
    return network
