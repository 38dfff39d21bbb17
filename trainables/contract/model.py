"""A backbone and what can be varied in it: options, their defaults per backbone, and the
combinations that cannot be built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from trainables.contract.backbones import BACKBONES, BackboneCard
from trainables.contract.cards import NameOf
from trainables.contract.frozen import Frozen
from trainables.contract.options import OwnOptions, Record, own_options
from trainables.contract.streams import StreamConfig

DEFAULT_BACKBONE = "hpi_gcn_rp"

Temporal = Literal["conv", "rep_tcn", "ms_tcn", "ms_tcn6", "dg_ms_tcn"]
Graph = Literal["spatial", "stgcn_spatial", "random"]
Branch = Literal["origin", "pointwise", "average"] | Annotated[int, Field(ge=3)]


BackboneName = Annotated[str, NameOf(BACKBONES)]
"""A name of the table of backbones, of an installed package, or `package.module:NAME`."""


def _card(before: Mapping[str, Any]) -> BackboneCard:
    return BACKBONES.find(before.get("backbone", DEFAULT_BACKBONE))


def _own_default(setting: str, before: Mapping[str, Any]) -> Any:
    """What the backbone's card says; None where the usual default is right."""
    return _card(before).default(setting, before)


def _default_stages(before: Mapping[str, Any]) -> tuple[int, ...]:
    """Three stages: 9 blocks behind an input block, 10 without."""
    return _own_default("stages", before) or ((3, 3, 3) if _card(before).stem else (4, 3, 3))


def _default_strides(before: Mapping[str, Any]) -> tuple[int, ...]:
    """1 for the first stage, 2 for every other."""
    return _own_default("strides", before) or (1, *(2 for _ in before.get("stages", (1, 1, 1))[1:]))


def _default_temporal(before: Mapping[str, Any]) -> Temporal:
    temporal: Temporal = _own_default("temporal", before) or "conv"
    return temporal


def _default_kernel_size(before: Mapping[str, Any]) -> int:
    """The card's; else 3 where dilations widen the view, 5 otherwise."""
    return _own_default("kernel_size", before) or (
        3 if before.get("temporal") in ("ms_tcn6", "dg_ms_tcn") else 5
    )


def default_branches(kernel_size: int) -> tuple[Branch, ...]:
    """origin, pointwise, average, and 1x1-then-kx1 branches: 5 for K = 5, 5 and 7 for K = 9 as
    published; every odd k from 5 to K - 2 beyond.
    """
    return (
        "origin",
        "pointwise",
        "average",
        *((5,) if kernel_size == 5 else range(5, kernel_size - 1, 2)),
    )


def branch_taps(branch: Branch, kernel_size: int) -> int:
    """Frames that a branch of Rep-TCN sees, its own in the middle."""
    return (
        branch
        if isinstance(branch, int)
        else {"origin": kernel_size, "pointwise": 1, "average": 3}[branch]
    )


def reached_taps(branches: tuple[Branch, ...], kernel_size: int) -> int:
    """Frames that Rep-TCN sees with these branches."""
    return max(branch_taps(branch, kernel_size) for branch in branches)


def _default_branches(before: Mapping[str, Any]) -> tuple[Branch, ...]:
    return default_branches(before.get("kernel_size", 5))


def _default_subsets(before: Mapping[str, Any]) -> int:
    return _own_default("subsets", before) or 3


def _default_graph(before: Mapping[str, Any]) -> Graph:
    graph: Graph = _own_default("graph", before) or "random"
    return graph


def _default_dropout(before: Mapping[str, Any]) -> float:
    return _own_default("dropout", before) or 0.0


class ModelConfig(Frozen):
    """A backbone and what the papers vary in it.

    Defaults that depend on the backbone are the papers' own.
    """

    # a name, or package.module:NAME of a card in another package
    backbone: BackboneName = DEFAULT_BACKBONE
    layout: str = "auto"  # auto: the store's; a name is checked against the store
    # width of the first stage, a multiple of 8; every later stage is twice as wide
    channels: int = Field(default=64, ge=1, le=4096)
    # blocks per stage
    stages: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(default_factory=_default_stages)
    # of time, by each stage's first block
    strides: tuple[Annotated[int, Field(ge=1, le=4)], ...] = Field(default_factory=_default_strides)
    # the module of every block that convolves over time
    temporal: Temporal = Field(default_factory=_default_temporal)
    # conv: one convolution; rep_tcn: HPI-GCN's branches; ms_tcn: CTR-GCN's 4 branches; ms_tcn6,
    # dg_ms_tcn: ST-GCN++'s and DG-STGCN's 6
    # of the temporal module, in frames, odd
    kernel_size: int = Field(default_factory=_default_kernel_size, ge=3)
    # rep_tcn: a number k is a 1x1-then-kx1 branch
    branches: tuple[Branch, ...] = Field(default_factory=_default_branches)
    # hpi_gcn_rp: parallel adjacency matrices (PA) that sum to one at inference
    adjacencies: int = Field(default=5, ge=1, le=1000)
    groups: int = Field(default=8, ge=1)  # hpi_gcn_op: channel groups with an adjacency each
    # adjacency matrices with weights of their own (K of DG-STGCN)
    subsets: int = Field(default_factory=_default_subsets, ge=1, le=1000)
    # scaled: a fixed graph times learned factors
    adjacency: Literal["learned", "scaled", "fixed"] = "learned"
    graph: Graph = Field(default_factory=_default_graph)  # what the adjacency matrices start from
    # aa_gcn: attention over joints, frames and channels behind the graph convolution
    attention: bool = False
    # ctr_gcn: which code base's contraction, reduction and final ReLU
    convention: Literal["official", "pyskl"] = "official"
    # hd_gcn: centre of mass; joint numbers as published, from 1
    centre: Literal["root"] | Annotated[int, Field(ge=1)] = "root"
    # hpi_gcn_baseline: false = as released: no BatchNorm in graph convolution and residuals,
    # adjacency from zeros
    normalised: bool = True
    # auto: conv for bone streams, explicit motion modelling otherwise
    input_block: Literal["auto", "emm", "conv"] = "auto"
    # before the classifier
    dropout: float = Field(default_factory=_default_dropout, ge=0.0, lt=1.0)
    # settings that only a backbone of another package has, by name; its card checks them
    options: OwnOptions = Field(default_factory=Record)

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, got {value}")
        return value

    @model_validator(mode="after")
    def _options_are_its_own(self) -> Self:
        """Options as the card's model has them, without those that are defaults: a default that is
        written down makes no other trial.
        """
        own = own_options(self.card.name, self.card.options, self.options)
        object.__setattr__(self, "options", own)
        return self

    @property
    def card(self) -> BackboneCard:
        """What is known of the backbone without its network."""
        return BACKBONES.find(self.backbone)

    @property
    def block_plan(self) -> tuple[tuple[int, int, int], ...]:
        """(input channels, output channels, temporal stride) of every block: each stage but the
        first doubles C.
        """
        plan = []
        inside, width = (self.channels if self.card.stem else 3), self.channels
        for stage, (blocks, stride) in enumerate(zip(self.stages, self.strides, strict=True)):
            width = self.channels * 2**stage
            for block in range(blocks):
                plan.append((inside, width, stride if block == 0 else 1))
                inside = width
        return tuple(plan)

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return self.block_plan[-1][1]

    @property
    def gate(self) -> ModelConfig:
        """The gate of a mixture of this backbone: a single adjacency, learned from random numbers,
        where the backbone has several.
        """
        single = {"subsets": 1, "graph": "random", "adjacency": "learned", "adjacencies": 1}
        return ModelConfig.model_validate(
            self.model_dump()
            | {name: value for name, value in single.items() if name in self.card.settings}
        )

    def input_block_for(self, stream: StreamConfig) -> Literal["emm", "conv"]:
        """The input block that `auto` stands for."""
        if self.input_block == "auto":
            return "conv" if stream.bone else "emm"
        return self.input_block

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if not self.stages:
            raise ValueError("stages must name at least one stage, got []")
        if len(self.strides) != len(self.stages):
            raise ValueError(
                f"strides must name one stride per stage, got strides={list(self.strides)} and"
                f" stages={list(self.stages)}"
            )
        return self

    @model_validator(mode="after")
    def _card_agrees(self) -> Self:
        self.card.check(self)
        if self.channels % 8:
            raise ValueError(f"channels must be a multiple of 8, got {self.channels}")
        return self

    @model_validator(mode="after")
    def _graph_has_its_subsets(self) -> Self:
        own = self.card.settings
        if "graph" in own and self.graph != "random" and self.subsets != 3:
            raise ValueError(f"subsets must be 3 where graph is {self.graph}, got {self.subsets}")
        if "adjacency" in own and self.adjacency != "learned" and self.graph == "random":
            raise ValueError(
                f"adjacency {self.adjacency} needs a graph of the skeleton (spatial or"
                " stgcn_spatial), got graph=random"
            )
        return self

    @model_validator(mode="after")
    def _branches_fit(self) -> Self:
        if self.temporal != "rep_tcn":
            return self
        sizes = [branch for branch in self.branches if isinstance(branch, int)]
        if not self.branches or len(set(self.branches)) != len(self.branches):
            raise ValueError(
                f"branches must be different and at least one, got {list(self.branches)}"
            )
        wrong = [size for size in sizes if size % 2 == 0 or size > self.kernel_size]
        if wrong:
            raise ValueError(
                f"branches must be odd and at most kernel_size, got {wrong[0]} where"
                f" kernel_size={self.kernel_size}"
            )
        return self


def option_used(name: str, backbone: str, temporal: str) -> bool:
    """Whether the model option `name` changes anything for that backbone and temporal module."""
    card = BACKBONES.find(backbone)
    if name == "branches":
        return "temporal" in card.settings and temporal == "rep_tcn"
    if name == "options":
        return card.options is not None
    return name in ("backbone", "layout") or name in card.settings
