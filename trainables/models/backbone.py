"""What every backbone is: a specification, two forms, and the path input -> blocks -> logits. Knows no particular backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from trainables.contract.config import Frozen, ModelConfig
from trainables.models.layers import DataNorm, JointMixing, MeanClassifier, ParallelJointMixing
from trainables.reparam.fusible import ConvBN, temporal_conv
from trainables.reparam.rep_tcn import RepTCN


class NetworkSpec(Frozen):
    """All that is needed to build a network's architecture; stored beside the weights of a deploy form."""

    model: ModelConfig
    joints: int = Field(ge=1)
    classes: int = Field(ge=1)
    persons: int = Field(ge=1)

    @model_validator(mode="after")
    def _input_block_is_decided(self) -> Self:
        if self.model.input_block == "auto":
            raise ValueError("model.input_block must be decided before a network is built, got 'auto'")
        return self


@dataclass(frozen=True, slots=True)
class Form:
    """Which module stands for each linear piece of a network; the names of the pieces are the same in both forms."""

    conv_bn: Callable[[int, int, int], nn.Module]  # (C_in, C_out, stride): 1x1 convolution and BatchNorm
    temporal: Callable[[int, int, int], nn.Module]  # (C, kernel size, stride): Rep-TCN
    mixing: Callable[[int, int], nn.Module]  # (parallel adjacencies, V)


TRAINING = Form(
    conv_bn=lambda inside, outside, stride: ConvBN(inside, outside, stride=stride),
    temporal=lambda channels, size, stride: RepTCN(channels, size, stride),
    mixing=lambda matrices, joints: ParallelJointMixing(matrices, joints),
)
"""Branches and BatchNorms as they are trained."""

DEPLOY = Form(
    conv_bn=lambda inside, outside, stride: temporal_conv(inside, outside, stride=stride),
    temporal=lambda channels, size, stride: temporal_conv(channels, channels, kernel_size=size, stride=stride),
    mixing=lambda _matrices, joints: JointMixing(joints),
)
"""One kernel for every piece that fuses exactly."""


class Backbone(nn.Module):
    """(N, 3, T, V, M) -> logits (N, K). A subclass hands over its stem and blocks; `blocks` holds every weight a mask may touch."""

    def __init__(self, spec: NetworkSpec, *, stem: nn.Module, blocks: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.spec = spec
        self.data_norm = DataNorm(spec.persons, spec.joints)
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = MeanClassifier(channels, classes=spec.classes, persons=spec.persons, dropout=spec.model.dropout)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.stem(self.data_norm(clips))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits
