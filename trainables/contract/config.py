"""The configuration of one trial: typed, frozen, unknown keys refused. Every leaf can be fixed or searched by a sweep."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Frozen(BaseModel):
    """Base of all configuration: immutable, strict about names, hashable by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StreamConfig(Frozen):
    """What one ensemble member sees of the skeleton, as a record so that every published reading can be written down.

    The order of operations is: bone, then motion, then the k-hop representation (all three are linear, so motion commutes).
    """

    bone: bool = False  # difference to the other end of the bone instead of the position
    motion: bool = False  # difference to the next frame, zero at the last
    hops: int = Field(default=0, ge=0)  # k of the k-hop representation; 0 = off
    orientation: Literal["parent_children", "child_parent"] = "parent_children"

    @field_validator("orientation")
    @classmethod
    def _is_used(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("hops") == 0 and value != cls.model_fields["orientation"].default:
            raise ValueError(f"has no effect at hops 0, got '{value}'; leave it out")
        return value


STREAMS: dict[str, StreamConfig] = {
    "joint": StreamConfig(),
    "bone": StreamConfig(bone=True),
    "joint_motion": StreamConfig(motion=True),
    "bone_motion": StreamConfig(bone=True, motion=True),
    # HPI-GCN's ensemble script, read as digit = k: j0 b0 j1 b1 j2 b2 (j0 and b0 are joint and bone).
    "joint_hop1": StreamConfig(hops=1),
    "bone_hop1": StreamConfig(bone=True, hops=1),
    "joint_hop2": StreamConfig(hops=2),
    "bone_hop2": StreamConfig(bone=True, hops=2),
    # InfoGCN's multi-modal representation: x - (k-th ancestor); its k = 8 is the plain joint stream.
    "infogcn_hop1": StreamConfig(hops=1, orientation="child_parent"),
    "infogcn_hop2": StreamConfig(hops=2, orientation="child_parent"),
    "infogcn_hop1_motion": StreamConfig(hops=1, motion=True, orientation="child_parent"),
    "infogcn_hop2_motion": StreamConfig(hops=2, motion=True, orientation="child_parent"),
}


class SelectionConfig(Frozen):
    """Which clips of the training split are held out to choose on; the test split is never chosen on."""

    kind: Literal["subject", "clip", "protocol", "none"] = "subject"
    # subject: whole subjects; clip: single clips, stratified by class; protocol: the store's own validation split; none: paper protocol
    fraction: float = Field(default=0.1, gt=0.0, lt=1.0)  # of the subjects (at least one) or of the clips
    seed: int = Field(default=7, ge=0)

    @field_validator("fraction", "seed")
    @classmethod
    def _is_used(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("kind") in ("protocol", "none") and value != cls.model_fields[str(info.field_name)].default:
            raise ValueError(f"has no effect where kind is {info.data['kind']}, got {value:g}; leave it out")
        return value


def lost_rotation(rotation: float | None, pipeline: str) -> str | None:
    """The rule that `data.rotation` breaks under a store's pipeline, None if it keeps them all.

    Pipeline ucla draws whole degrees, so an angle (radians) that rounds to 0 degrees would not turn anything.
    """
    if pipeline != "ucla" or not rotation or round(math.degrees(rotation)) > 0:
        return None
    return f"must be 0 or more than {math.radians(0.5):.5f} radians under pipeline ucla, which draws whole degrees, got {rotation:g} radians"


class DataConfig(Frozen):
    """Which clips, split how, seen as which stream."""

    store: str  # folder made by `orchestrate data import` or `data synth`
    protocol: str  # one of the store's protocols
    selection: SelectionConfig = SelectionConfig()
    stream: str | StreamConfig = "joint"
    frames: int = Field(default=64, ge=2)  # length every clip is brought to
    pipeline: Literal["auto", "ntu", "ucla"] = "auto"  # auto: what the store recommends
    rotation: float | None = Field(default=None, ge=0.0)  # largest training rotation in radians; None: the pipeline's own
    repeat: int = Field(default=1, ge=1)  # how often one epoch passes over the training clips

    @field_validator("stream")
    @classmethod
    def _known_stream(cls, value: str | StreamConfig) -> str | StreamConfig:
        if isinstance(value, str) and value not in STREAMS:
            raise ValueError(f"must be one of {', '.join(STREAMS)} or a record, got '{value}'")
        return value

    @property
    def stream_config(self) -> StreamConfig:
        """The stream as a record, whatever form it was given in."""
        return STREAMS[self.stream] if isinstance(self.stream, str) else self.stream

    @property
    def stream_name(self) -> str:
        """The stream's short name; a record without one is spelled out."""
        if isinstance(self.stream, str):
            return self.stream
        for name, record in STREAMS.items():
            if record == self.stream:
                return name
        parts = ["bone" if self.stream.bone else "joint"]
        parts += [f"hop{self.stream.hops}_{self.stream.orientation}"] if self.stream.hops else []
        parts += ["motion"] if self.stream.motion else []
        return "_".join(parts)


class ModelConfig(Frozen):
    """A backbone and what the papers vary in it."""

    backbone: Literal["hpi_gcn_rp", "hpi_gcn_op"] = "hpi_gcn_rp"
    layout: str = "auto"  # auto: the store's; a name is checked against the store
    channels: int = Field(default=64, ge=1)  # width of the first stage; later stages have 2x and 4x
    stages: tuple[Annotated[int, Field(ge=1)], ...] = (3, 3, 3)  # blocks per stage; every stage but the first halves T
    adjacencies: int = Field(default=5, ge=1)  # hpi_gcn_rp: parallel adjacency matrices (PA) that sum to one at inference
    groups: int = Field(default=8, ge=1)  # hpi_gcn_op: channel groups with an adjacency each
    kernel_size: int = Field(default=5, ge=5)  # Rep-TCN temporal kernel, odd
    input_block: Literal["auto", "emm", "conv"] = "auto"  # auto: conv for bone streams, explicit motion modelling otherwise
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)  # before the classifier

    @field_validator("kernel_size")
    @classmethod
    def _known_kernel(cls, value: int) -> int:
        if value not in (5, 9):
            raise ValueError(f"must be 5 or 9, got {value}")
        return value

    @property
    def block_plan(self) -> tuple[tuple[int, int, int], ...]:
        """(input channels, output channels, temporal stride) of every block: each stage but the first doubles C and halves T."""
        plan = []
        width = self.channels
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                grows = stage > 0 and block == 0
                plan.append((width, 2 * width if grows else width, 2 if grows else 1))
                width = plan[-1][1]
        return tuple(plan)

    def input_block_for(self, stream: StreamConfig) -> Literal["emm", "conv"]:
        """The input block that `auto` stands for."""
        if self.input_block == "auto":
            return "conv" if stream.bone else "emm"
        return self.input_block

    @model_validator(mode="after")
    def _widths_divide(self) -> Self:
        if not self.stages:
            raise ValueError("stages must name at least one stage, got []")
        if self.backbone == "hpi_gcn_op" and self.channels % self.groups:
            raise ValueError(f"groups must divide channels, got groups={self.groups} and channels={self.channels}")
        if self.channels % 8:
            raise ValueError(f"channels must be a multiple of 8, got {self.channels}")
        return self


class SparsityConfig(Frozen):
    """How many weights to remove, how they are chosen, and from which point of training on (sparse ST-GCN paper, section 3.3)."""

    level: float = Field(default=0.0, ge=0.0, lt=1.0)  # fraction of maskable weights removed
    generator: Literal["fixed_random"] = "fixed_random"  # mask drawn once, before training, and kept
    scope: Literal["block", "tensor", "global"] = "block"  # within what the level holds exactly
    warmup: float = Field(default=0.6, ge=0.0, lt=1.0)  # fraction of the epochs trained dense before the mask applies
    penalty: Literal["group_lasso", "none"] = "group_lasso"  # on the weights that will be removed, during warm-up
    penalty_weight: Literal["ramp"] | Annotated[float, Field(ge=0.0)] = "ramp"  # ramp: 0 to 1 over the warm-up


Milestones = tuple[Annotated[int, Field(ge=1)], ...]


def _default_warmup(before: Mapping[str, Any]) -> int:
    """5, or all epochs but the last where there are no more than 5."""
    return min(5, int(before.get("epochs", 110)) - 1)


def _default_milestones(before: Mapping[str, Any]) -> tuple[int, ...]:
    """9/11 and 10/11 of the epochs, rounded down: the published 90 and 100 of 110. Always these two where the schedule has no steps."""
    epochs = int(before.get("epochs", 110)) if before.get("schedule") == "step" else 110
    return tuple(sorted({epochs * 9 // 11, epochs * 10 // 11} - {0}))


class TrainConfig(Frozen):
    """The recipe of one training run."""

    epochs: int = Field(default=110, ge=1)
    batch_size: int = Field(default=128, ge=1)
    eval_batch_size: int = Field(default=256, ge=1)
    optimizer: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    nesterov: bool = True
    weight_decay: float = Field(default=4e-4, ge=0.0)
    schedule: Literal["step", "cosine"] = "step"
    warmup_epochs: int = Field(default_factory=_default_warmup, ge=0)  # linear: lr * (epoch + 1) / warmup_epochs; default 5 if epochs > 5
    milestones: Milestones = Field(default_factory=_default_milestones)  # epochs from which lr is times lr_decay; default 9/11, 10/11 of epochs
    lr_decay: float = Field(default=0.1, gt=0.0, le=1.0)
    clip_norm: float | None = Field(default=None, gt=0.0)  # largest L2 norm of the whole gradient
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 autocast where the device gains from it
    keep: Literal["best", "last"] = "best"  # epoch that is shipped: best on the selection split after the sparsity warm-up, or last

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs momentum > 0, got momentum=0.0")
        return self

    @model_validator(mode="after")
    def _within_the_epochs(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than epochs, got warmup_epochs={self.warmup_epochs} and epochs={self.epochs}")
        late = [milestone for milestone in self.milestones if milestone >= self.epochs]
        if self.schedule == "step" and late:
            raise ValueError(f"milestones must be less than epochs, got milestone {', '.join(map(str, late))} and epochs={self.epochs}")
        return self


def dense_epochs(warmup: float, epochs: int) -> int:
    """Whole epochs of a sparsity warm-up: round(warmup * epochs), halves to even."""
    return round(warmup * epochs)


class TrialConfig(Frozen):
    """One configuration, trained once."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    sparsity: SparsityConfig = SparsityConfig()
    train: TrainConfig = TrainConfig()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sparse_weights_are_trained(self) -> Self:
        if self.sparsity.level > 0 and self.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"sparsity.warmup must leave at least one of train.epochs to train the kept weights, got {self.sparsity.warmup:g} "
                f"of {self.train.epochs}, which rounds to {self.warmup_epochs} dense epochs"
            )
        return self

    @property
    def warmup_epochs(self) -> int:
        """Epochs trained dense before the mask applies; 0 for a dense trial."""
        return dense_epochs(self.sparsity.warmup, self.train.epochs) if self.sparsity.level > 0 else 0

    def digest(self) -> str:
        """Eight hexadecimal digits that name this configuration."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]
