"""The configuration of one trial: typed, frozen, unknown keys refused.

Every leaf can be fixed or searched by a sweep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainables.contract.backbones import BACKBONES
from trainables.contract.frozen import Frozen, once_each, without_defaults
from trainables.contract.generators import GENERATORS
from trainables.contract.model import ModelConfig, option_used
from trainables.contract.sparsity import SparsityConfig, dense_epochs, setting_used
from trainables.contract.streams import STREAM_PRESETS, STREAMS, StreamConfig

__all__ = [
    "STREAMS",
    "STREAM_PRESETS",
    "DataConfig",
    "Frozen",
    "ModelConfig",
    "SelectionConfig",
    "SparsityConfig",
    "StreamConfig",
    "TrainConfig",
    "TrialConfig",
    "dense_epochs",
]


class SelectionConfig(Frozen):
    """Which clips of the training split are held out to choose on; the test split is never chosen
    on.
    """

    kind: Literal["subject", "clip", "protocol", "none"] = "subject"
    # subject: whole subjects; clip: single clips, stratified by class; protocol: the store's own
    # validation split; none: paper protocol
    # of the subjects (at least one) or of the clips
    fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    seed: int = Field(default=7, ge=0)

    @field_validator("fraction", "seed")
    @classmethod
    def _is_used(cls, value: float, info: ValidationInfo) -> float:
        if (
            info.data.get("kind") in ("protocol", "none")
            and value != cls.model_fields[str(info.field_name)].default
        ):
            raise ValueError(
                f"has no effect where kind is {info.data['kind']}, got {value:g}; leave it out"
            )
        return value


class DataConfig(Frozen):
    """Which clips, split how, seen as which stream."""

    store: str  # folder made by `orchestrate data import` or `data synth`, or an address
    protocol: str  # one of the store's protocols
    selection: SelectionConfig = SelectionConfig()
    stream: str | StreamConfig = "joint"
    # length every clip is brought to; the longest recordings of the known data sets have some
    # thousands, and a network's memory grows with it
    frames: int = Field(default=64, ge=2, le=10_000)
    pipeline: Literal["auto", "ctr", "pyskl", "ucla"] = "auto"  # auto: what the store recommends
    # largest training rotation in radians; None: the pipeline's own
    rotation: float | None = Field(default=None, ge=0.0)
    # pyskl: first spine upright along z, shoulders along x; None: where the layout names these
    # joints
    align_spine: bool | None = None
    # ctr: every person turned by the body's own axes in the first frame, spine along z, hips along
    # x, as InfoGCN does; persons who are not in that frame are left out
    align_persons: bool = False
    # pyskl: views of a recording whose softmax is averaged in final scores; None: 10
    views: int | None = Field(default=None, ge=1, le=1000)
    repeat: int = Field(
        default=1, ge=1, le=10_000
    )  # how often one epoch passes over the training clips
    # where joints are kept while training; changes no result
    residence: Literal["auto", "device", "host", "mmap"] = "auto"

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


Milestones = tuple[Annotated[int, Field(ge=1)], ...]


def _default_warmup(before: Mapping[str, Any]) -> int:
    """5, or all epochs but the last where there are no more than 5."""
    return min(5, int(before.get("epochs", 110)) - 1)


def _default_milestones(before: Mapping[str, Any]) -> tuple[int, ...]:
    """9/11 and 10/11 of the epochs, rounded down: the published 90 and 100 of 110.

    Always these two where the schedule has no steps.
    """
    epochs = int(before.get("epochs", 110)) if before.get("schedule") == "step" else 110
    return tuple(sorted({epochs * 9 // 11, epochs * 10 // 11} - {0}))


class TrainConfig(Frozen):
    """The recipe of one training run."""

    # beyond these bounds there is no recipe, only a slip of the keyboard
    epochs: int = Field(default=110, ge=1, le=100_000)
    batch_size: int = Field(default=128, ge=1, le=100_000)
    eval_batch_size: int = Field(default=256, ge=1, le=100_000)  # every view of a recording counts
    optimizer: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    nesterov: bool = True
    weight_decay: float = Field(default=4e-4, ge=0.0)
    schedule: Literal["step", "cosine"] = "step"
    # linear: lr * (epoch + 1) / warmup_epochs; default 5 if epochs > 5
    warmup_epochs: int = Field(default_factory=_default_warmup, ge=0)
    # epochs from which lr is times lr_decay; default 9/11, 10/11 of epochs
    milestones: Milestones = Field(default_factory=_default_milestones)
    lr_decay: float = Field(default=0.1, gt=0.0, le=1.0)
    clip_norm: float | None = Field(default=None, gt=0.0)  # largest L2 norm of the whole gradient
    # auto: bf16 autocast where the device gains from it
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # epoch that is shipped: best on the selection split after the sparsity warm-up, or last
    keep: Literal["best", "last"] = "best"
    # exact rewrites of the training step that cost less; off: the plain arithmetic. Results differ
    # by rounding only
    fast: Literal["auto", "off"] = "auto"
    # on CPUs a step under masks computes with the weights they keep alone, in layers where that
    # costs less (needs numba); off: dense, zeros included. Results differ by rounding only
    sparse_kernels: Literal["auto", "off"] = "auto"

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs momentum > 0, got momentum=0.0")
        return self

    @model_validator(mode="after")
    def _within_the_epochs(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be less than epochs, got warmup_epochs={self.warmup_epochs}"
                f" and epochs={self.epochs}"
            )
        late = [milestone for milestone in self.milestones if milestone >= self.epochs]
        if self.schedule == "step" and late:
            raise ValueError(
                f"milestones must be less than epochs, got milestone {', '.join(map(str, late))}"
                f" and epochs={self.epochs}"
            )
        return self


class TrialConfig(Frozen):
    """One configuration, trained once."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    sparsity: SparsityConfig = SparsityConfig()
    train: TrainConfig = TrainConfig()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sparse_weights_are_trained(self) -> Self:
        if self.warmup_epochs >= self.train.epochs:
            raise ValueError(
                "sparsity.warmup must leave at least one of train.epochs to train the kept"
                f" weights, got {self.sparsity.warmup:g} of {self.train.epochs}, which rounds to"
                f" {self.warmup_epochs} epochs"
            )
        if self.sparsity.level == "learned" and self.warmup_epochs == 0:
            raise ValueError(
                "sparsity.warmup must give at least one of train.epochs to learn the level in, got"
                f" {self.sparsity.warmup:g} of {self.train.epochs}, which rounds to none"
            )
        return self

    @model_validator(mode="after")
    def _something_is_fused(self) -> Self:
        sharing, model = self.sparsity.sharing, self.model
        if sharing == "none" or not setting_used(
            "sharing", self.sparsity.model_dump(by_alias=True).__getitem__
        ):
            return self
        place = f"sparsity.sharing {sharing} needs"
        if sharing == "branches" and model.temporal != "rep_tcn":
            raise ValueError(
                f"{place} model.temporal rep_tcn, whose branches share a mask, got {model.temporal}"
            )
        if (
            sharing == "branches"
            and "average" in model.branches
            and set(model.branches) <= {"pointwise", "average"}
        ):
            raise ValueError(
                f"{place} a branch whose kernel can have any mask (origin or a number), got"
                f" branches={list(model.branches)}"
            )
        if model.temporal != "rep_tcn" and not model.card.fuses_graph_convolutions:
            fusing = ", ".join(
                sorted(
                    name for name in BACKBONES.own if BACKBONES.find(name).fuses_graph_convolutions
                )
            )
            raise ValueError(
                f"{place} kernels that the deploy form fuses: model.temporal rep_tcn or one of the"
                f" backbones {fusing}, got {model.backbone} with temporal {model.temporal}"
            )
        return self

    @model_validator(mode="after")
    def _rewinding_has_epochs_left(self) -> Self:
        sparsity = self.sparsity
        if sparsity.rewinds and sparsity.rewind_epoch >= self.train.epochs:
            raise ValueError(
                f"sparsity.rewind_epoch must be less than train.epochs, got {sparsity.rewind_epoch}"
                f" and train.epochs={self.train.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _branches_where_nothing_acts_yet(self) -> Self:
        sparsity = self.sparsity
        if sparsity.dense or isinstance(sparsity.branch_at, str):
            return self
        most = sparsity.dense_start(self.train.epochs)
        if most == 0:
            kinds = [GENERATORS.find(name) for name in sorted(GENERATORS.own)]
            warm = ", ".join(each.name for each in kinds if each.dense_until == "warmup")
            raise ValueError(
                f"sparsity.branch_at {sparsity.branch_at} needs a beginning that is the same at"
                " every level: generator rewinding, or penalty none and a warmup with one of"
                f" {warm}; got {_of_the_warmup(sparsity)}"
            )
        if sparsity.branch_at > most:
            raise ValueError(
                f"sparsity.branch_at must be at most {most}, the epoch in which masks begin to act,"
                f" got {sparsity.branch_at}"
            )
        return self

    @model_validator(mode="after")
    def _bone_streams_take_the_convolution(self) -> Self:
        has_block = option_used("input_block", self.model.backbone, self.model.temporal)
        if (
            has_block
            and isinstance(self.data.stream, str)
            and self.data.stream_config.bone
            and self.model.input_block == "emm"
        ):
            raise ValueError(
                f"model.input_block must be auto or conv for the stream {self.data.stream}:"
                " explicit motion modelling is for joint streams, got emm (a stream written as a"
                " record may have it)"
            )
        return self

    @property
    def warmup_epochs(self) -> int:
        """Epochs trained before the mask is final; 0 for a dense trial."""
        return self.sparsity.warmup_epochs(self.train.epochs)

    @property
    def total_epochs(self) -> int:
        """Epochs the trial is trained: more than train.epochs where sparsity goes through them in
        rounds.
        """
        return self.sparsity.total_epochs(self.train.epochs)

    @property
    def first_kept_epoch(self) -> int:
        """The first epoch whose weights may be shipped: before it the network is dense, or not yet
        as sparse as asked.
        """
        sparsity = self.sparsity
        return (
            self.total_epochs - (self.train.epochs - sparsity.rewind_epoch)
            if sparsity.rewinds
            else self.warmup_epochs
        )

    def recipe_epoch(self, epoch: int) -> int:
        """The epoch of `train` that epoch number `epoch` of the trial is: rounds repeat them."""
        return self.sparsity.recipe_epoch(epoch, self.train.epochs)

    def collapses_persons(self, persons: int) -> bool:
        """Whether training runs the persons that clips do not have once per batch and place;
        persons: places of a clip.
        """
        return self.train.fast == "auto" and persons > 1 and self.model.card.persons_apart

    @property
    def trains_kept_weights(self) -> bool:
        """Whether, on a CPU with numba, steps under masks may compute with kept weights alone: not
        where removed weights learn, or scores of theirs.
        """
        return (
            self.train.sparse_kernels == "auto"
            and self.train.precision != "bf16"
            and not self.sparsity.dense
            and self.sparsity.level != "learned"
            and not self.sparsity.card.scored
        )

    def evaluates_deployed(self, clips: int, persons: int) -> bool:
        """Whether an epoch's evaluation on so many clips pays for the deploy form, which is made
        first, in up to a second on a CPU.

        Few clips are enough where branches become one kernel or absent persons are left out.
        Networks that choose are evaluated as they train: rounding can change a choice.
        """
        if not self.model.card.continuous or self.sparsity.network == "mixture":
            return False
        spares_much = persons > 1 or self.model.temporal == "rep_tcn"
        return self.train.fast == "auto" and clips >= (64 if spares_much else 512)

    @once_each
    def digest(self) -> str:
        """Eight hexadecimal digits that name this configuration.

        Trials that differ only in how they reach the joints, in which of two equal ways a step is
        computed, or in what of them is trained with others are the same trial. Settings at their
        defaults take no part, so that one added later renames no trial; a default must not change.
        """
        plain = self.train.model_copy(update={"fast": "auto", "sparse_kernels": "auto"})
        alone = self.sparsity.model_copy(update={"branch_at": "auto"})
        content = without_defaults(self.model_copy(update={"train": plain, "sparsity": alone}))
        content["data"].pop("residence", None)
        return _digest(content, 8)

    @property
    def branch_epoch(self) -> int:
        """Epochs at the beginning that other trials may have trained as well; 0: none."""
        at, dense = self.sparsity.branch_at, self.sparsity.dense
        if dense or at == "off":
            return 0
        return self.sparsity.dense_start(self.train.epochs) if at == "auto" else at

    def beginning_digest(self, epochs: int) -> str:
        """Sixteen hexadecimal digits that are equal for trials that do the same, to the last bit,
        in their first `epochs`, none of which may be later than `sparsity.dense_start`.

        Everything that first acts later takes no part: masks, their level, which epoch is kept.
        """
        sparsity = self.sparsity
        train = self.train.model_copy(update={"keep": "best", "sparse_kernels": "auto"})
        content = without_defaults(
            self.model_copy(update={"train": train, "sparsity": SparsityConfig()})
        )
        content["data"].pop("residence", None)
        content["beginning"] = [
            epochs,
            None if sparsity.dense else sparsity.source,
            # the network holds what it goes back to
            sparsity.rewind_epoch if sparsity.rewinds else 0,
        ]
        return _digest(content, 16)


def _of_the_warmup(sparsity: SparsityConfig) -> str:
    """The settings that decide what happens before masks act, in words."""
    if sparsity.card.dense_until != "warmup":
        return f"generator {sparsity.generator}"
    return (
        f"generator {sparsity.generator}, penalty {sparsity.penalty} and warmup {sparsity.warmup:g}"
    )


def _digest(content: Mapping[str, Any], digits: int) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:digits]
