"""How weights are removed from a network: which ones, how they are chosen, and when.

Part of a trial's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from trainables.contract.cards import NameOf
from trainables.contract.frozen import Frozen
from trainables.contract.generators import GENERATORS, GeneratorCard
from trainables.contract.options import OwnOptions, Record, own_options

Level = Annotated[float, Field(ge=0.0, lt=1.0)]
"""Fraction of the maskable weights that is removed."""

Scope = Literal["block", "tensor", "global"]
Distribution = Literal["uniform", "erk"]
Generator = Annotated[str, NameOf(GENERATORS)]
"""A name of the table of generators, of an installed package, or `package.module:NAME`."""

NetworkKind = Literal["single", "experts", "nested", "mixture"]

FROM_THE_SWEEP = "dense"
"""`sparsity.from`: the dense trial of the same sweep that agrees in everything else."""

LEVEL_TOLERANCE = 0.001
"""How far `sparsity.level` may be from what a mask file, or n:m, removes: a level is written with a
few digits.
"""

_STRUCTURE = re.compile(r"weight|channel|[1-9]\d*:[1-9]\d*|[1-9]\d*x[1-9]\d*")


class SparsityConfig(Frozen):
    """How many weights to remove, how they are chosen, and from which point of training on (sparse
    ST-GCN paper, sections 3.2 and 3.3).
    """

    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    # fraction of maskable weights removed; learned: found in training, see gate, target and price
    level: Level | Literal["learned"] = 0.0
    # several levels in one network, trained end to end: experts beside each other, one nested in
    # the other, mixture
    network: NetworkKind = "single"
    levels: tuple[Level, ...] = ()  # of network experts, nested and mixture
    generator: Generator = "fixed_random"  # how the mask comes about
    # fixed_random: drawn once, before training, and kept; magnitude_at_init: the largest first
    # weights stay; predefined: those of a file
    # score_trainable: as released, scores move with the weights; supermask: a lottery ticket,
    # scores are trained and weights are not
    # rewinding: iterative magnitude pruning; rigl, set: weights are dropped and grown while
    # training
    # what is removed together: weight, channel (whole output channels), n:m (n of m stay), or
    # blocks such as 4x4
    structure: str = "weight"
    # generator predefined: file with one mask per weight, .npz or .pt; level says what it removes,
    # to 0.001
    mask: str | None = None
    # weights to start from: a trial's folder, an MLflow run, or dense (of this sweep)
    source: str | None = Field(default=None, alias="from")
    scope: Scope = "block"  # within what the level holds exactly
    # scope tensor: the same level for each, or lower ones for small tensors (erk)
    distribution: Distribution = "uniform"
    # masks that survive fusing, where the deploy form fuses kernels
    sharing: Literal["none", "branches", "channels", "fused"] = "none"
    # branches: one pattern for the branches of rep_tcn; channels: the same channels everywhere in a
    # block; fused: on the fused kernel itself
    # before the mask is final: fraction, or epochs
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] | Annotated[int, Field(ge=1)] = 0.6
    # on the weights that will be removed, during warm-up
    penalty: Literal["group_lasso", "global", "detached", "none"] = "group_lasso"
    # group_lasso: sum over blocks of L2 norms; global: one L2 norm; detached: as released, in the
    # reported loss but without a gradient
    # ramp: 0 to 1 over the warm-up
    penalty_weight: Literal["ramp"] | Annotated[float, Field(ge=0.0)] = "ramp"
    # epoch up to which trials of other levels train the same, once for all of them; auto: as long
    # as neither masks nor a penalty act; off: each trains it alone; changes no result
    branch_at: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = "auto"
    train_head: bool = False  # supermask: train the classifier beside the scores
    # rewinding: prunings; after each the weights are trained again from rewind_epoch on
    rounds: int = Field(default=5, ge=1)
    # rewinding: weights and learning rate go back to the start of this epoch
    rewind_epoch: int = Field(default=0, ge=0)
    # rigl, set: steps from one exchange of weights to the next
    update_every: int = Field(default=100, ge=1)
    # rigl, set: of the kept weights that the first exchange replaces, then less
    update_share: float = Field(default=0.3, gt=0.0, le=1.0)
    # rigl, set: fraction of the steps after which the mask stays
    update_until: float = Field(default=0.75, gt=0.0, le=1.0)
    fusion: Literal["mean", "weighted", "concat"] = (
        # experts: how their features become one; weighted: learned weights; concat: a linear layer
        "mean"
    )
    # experts, nested: a loss for each level beside the fused one; experts then have own classifiers
    expert_losses: bool = True
    # experts: weight of the released code's divergence, which draws features together
    divergence: float = Field(default=0.0, ge=0.0)
    active: int = Field(default=2, ge=1)  # mixture: experts that see a clip
    # level learned: a learned threshold per tensor, or a random gate per weight
    gate: Literal["threshold", "hard_concrete"] = "threshold"
    # level learned: the level to end at, over all tensors together
    target: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    # level learned: loss for keeping all weights, instead of a target
    price: Annotated[float, Field(gt=0.0)] | None = None
    # settings that only a generator of another package has, by name; its card checks them
    options: OwnOptions = Field(default_factory=Record)

    @field_validator("structure")
    @classmethod
    def _known_structure(cls, value: str) -> str:
        if not _STRUCTURE.fullmatch(value):
            raise ValueError(
                f"must be weight, channel, n:m such as 2:4, or a block such as 4x4, got '{value}'"
            )
        n, _, m = value.partition(":")
        if m and int(n) >= int(m):
            raise ValueError(f"n of n:m must be less than m, got '{value}'")
        return value

    @model_validator(mode="after")
    def _options_are_its_own(self) -> Self:
        own = own_options(self.card.name, self.card.options, self.options)
        object.__setattr__(self, "options", own)
        return self

    @property
    def card(self) -> GeneratorCard:
        """What is known of the generator without its code."""
        return GENERATORS.find(self.generator)

    @property
    def dense(self) -> bool:
        """Nothing is removed: no masks are attached."""
        return self.level == 0.0 and self.network == "single"

    @property
    def described(self) -> str:
        """What is removed, in a few words: `0.8`, `learned, target 0.9`, `learned, price 0.5`,
        `nested 0.6 0.8 0.95 0.99`.
        """
        if self.network != "single":
            return " ".join([self.network, *map(level_name, self.levels)])
        if self.level != "learned":
            return level_name(self.level)
        return (
            f"learned, price {self.price:g}"
            if self.target is None
            else f"learned, target {self.target:g}"
        )

    @property
    def singles(self) -> tuple[SparsityConfig, ...]:
        """The same as single networks: one for every level, of nested ones the lowest first.

        A learned level counts as one of all tensors together, and as 0 where a price decides it.
        """
        if self.network != "single":
            return tuple(
                map(self.at, sorted(self.levels) if self.network == "nested" else self.levels)
            )
        return (
            (
                SparsityConfig(level=self.expected_level, scope="global")
                if self.level == "learned"
                else self
            ),
        )

    @property
    def disjoint(self) -> tuple[SparsityConfig, ...]:
        """Those of `singles` that have weights of their own: the lowest of nested levels stands for
        all.
        """
        return self.singles[:1] if self.network == "nested" else self.singles

    @property
    def counts_fused(self) -> bool:
        """Whether the level counts weights of kernels that the deploy form fuses, not of those it
        fuses them from.
        """
        return (
            self.sharing in ("branches", "fused")
            and setting_used("sharing", self.model_dump(by_alias=True).__getitem__)
            and not self.dense
        )

    def at(self, level: float) -> SparsityConfig:
        """The same for a single network at one of the levels."""
        return self.model_copy(update={"network": "single", "levels": (), "level": level})

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.distribution != "uniform" and self.scope != "tensor":
            raise ValueError(
                f"distribution {self.distribution} gives every tensor a level of its own and needs"
                f" scope tensor, got {self.scope}"
            )
        if self.network == "single" and self.levels:
            raise ValueError(
                f"levels needs network experts, nested or mixture, got levels={list(self.levels)}"
                " and network=single"
            )
        if self.network != "single":
            self._check_levels()
        if self.level == "learned" and (self.target is None) == (self.price is None):
            raise ValueError(
                "level learned needs either target or price, got"
                f" {'neither' if self.target is None else 'both'}"
            )
        if not self.dense and self.level != "learned" and self.network == "single":
            self._check_masks(self.level)
        return self

    def _check_masks(self, level: float) -> None:
        if self.card.from_file and self.mask is None:
            raise ValueError(
                f"generator {self.generator} needs mask, a file with one mask per weight"
            )
        if not self.card.from_file and self.mask is not None:
            raise ValueError(
                f"mask is for generator predefined alone, got mask={self.mask} and"
                f" generator={self.generator}"
            )
        n, _, m = self.structure.partition(":")
        if m and self.card.structured and abs(level - (1 - int(n) / int(m))) > LEVEL_TOLERANCE:
            raise ValueError(
                f"level must be 1 - n/m = {1 - int(n) / int(m):.4g} where structure is"
                f" {self.structure}, got {level:g}"
            )

    def _check_levels(self) -> None:
        if self.level != 0.0:
            raise ValueError(
                f"level must be left out where network is {self.network}: its levels are in levels,"
                f" got level={self.level}"
            )
        if len(self.levels) < 2 or len(set(self.levels)) != len(self.levels):
            raise ValueError(
                f"levels must name at least two different levels where network is {self.network},"
                f" got {list(self.levels)}"
            )
        if self.generator not in ("fixed_random", "magnitude_at_init"):
            raise ValueError(
                f"network {self.network} needs generator fixed_random or magnitude_at_init, got"
                f" {self.generator}"
            )
        if len({level_name(level) for level in self.levels}) < len(self.levels):
            raise ValueError(f"levels must differ within six digits, got {list(self.levels)}")
        if self.structure != "weight":
            raise ValueError(
                f"network {self.network} removes single weights and needs structure weight, got"
                f" {self.structure}"
            )
        if self.sharing != "none":
            raise ValueError(
                f"network {self.network} has masks on every convolution and needs sharing none, got"
                f" {self.sharing}"
            )
        if self.network == "mixture" and self.active > len(self.levels):
            raise ValueError(
                f"active must be at most the number of levels, got active={self.active} and"
                f" levels={list(self.levels)}"
            )

    def warmup_epochs(self, epochs: int) -> int:
        """Epochs trained before the mask is final: dense ones, or those in which a level is
        learned; 0 where there are none.
        """
        return (
            dense_epochs(self.warmup, epochs)
            if setting_used("warmup", self.model_dump(by_alias=True).__getitem__)
            else 0
        )

    def dense_start(self, epochs: int) -> int:
        """Of a recipe of `epochs`, the first ones that train as those of a dense network do, to the
        last bit: neither masks nor a penalty act.
        """
        if self.dense:
            return epochs
        if self.network != "single" or self.level == "learned":
            return 0
        if self.card.dense_until == "pruning":
            return epochs
        unpunished = self.penalty == "none" or self.penalty_weight == 0.0
        if self.card.dense_until == "warmup" and unpunished:
            return self.warmup_epochs(epochs)
        return 0

    @property
    def rewinds(self) -> bool:
        """Trained in rounds, from the same weights again and again."""
        return self.card.rewinds and not self.dense and self.level != "learned"

    def total_epochs(self, epochs: int) -> int:
        """Epochs of a trial whose recipe has `epochs`: rewinding goes through them once and, from
        rewind_epoch on, rounds times more.
        """
        return epochs + self.rounds * (epochs - self.rewind_epoch) if self.rewinds else epochs

    def recipe_epoch(self, epoch: int, epochs: int) -> int:
        """The epoch of the recipe that epoch number `epoch` of the trial repeats."""
        if epoch < epochs or not self.rewinds:
            return epoch
        return self.rewind_epoch + (epoch - epochs) % (epochs - self.rewind_epoch)

    @property
    def expected_level(self) -> float:
        """The level a single network ends at as far as it is known: that of a price is found in
        training, here 0.
        """
        return (self.target or 0.0) if self.level == "learned" else self.level


def level_name(level: float) -> str:
    """A level as it stands in names: 0.6 -> '0.6', 0.0 -> '0'."""
    return f"{level:g}"


def dense_epochs(warmup: float, epochs: int) -> int:
    """Whole epochs of a sparsity warm-up: a whole number as it is, a fraction as round(warmup *
    epochs), halves to even.
    """
    return int(warmup) if warmup >= 1 else round(warmup * epochs)


def setting_used(name: str, value: Callable[[str], Any]) -> bool:
    """Whether the setting `name` changes anything beside the others, whatever the number of epochs;
    value: of another setting.
    """
    card, network = GENERATORS.find(value("generator")), value("network")
    single, learned = network == "single", network == "single" and value("level") == "learned"
    if name == "network" or (name == "level" and single):
        return True
    if value("level") == 0 and single:
        return False
    structured = card.structured and not learned and network == "single"
    # these alone say what goes together, in every tensor alike
    channels = structured and value("sharing") == "channels"
    scoped = (
        "scope" in card.settings
        and not learned
        and not channels
        and not (structured and value("structure") != "weight")
    )
    used: dict[str, bool] = {
        "level": False,  # several levels are in levels
        "levels": network != "single",
        "generator": not learned,
        "structure": structured and not channels,
        "from": network == "single",
        "scope": scoped,
        "distribution": scoped and value("scope") == "tensor" and network == "single",
        "sharing": structured,
        "warmup": learned or "warmup" in card.settings,
        "penalty_weight": "penalty" in card.settings and not learned and value("penalty") != "none",
        "options": card.options is not None and not learned,
        "branch_at": single,
        "fusion": network == "experts",
        "expert_losses": network in ("experts", "nested"),
        "divergence": network == "experts",
        "active": network == "mixture",
        **dict.fromkeys(("gate", "target", "price"), learned),
    }
    # the others are a generator's own
    return used.get(name, name in card.settings and not learned)


def run_of(source: str) -> str | None:
    """The id of the MLflow run that a `sparsity.from` names as `mlflow:ID` or `runs:/ID`; None
    where it is a folder or `dense`.
    """
    match = re.fullmatch(r"(?:mlflow:|runs:/)([A-Za-z0-9]+)", source)
    return match[1] if match else None
