"""What every backbone is: a specification, and the path clips -> normalisation -> stem -> blocks ->
head. Knows no particular backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.config import Frozen, ModelConfig
from trainables.contract.errors import UserError
from trainables.layouts import check_tree
from trainables.models.layers import Classifier
from trainables.models.persons import collapse
from trainables.reparam.counts import BatchNorm2d, Counts


class NetworkSpec(Frozen):
    """All that is needed to build a network's architecture; stored beside the weights of a file."""

    model: ModelConfig
    # the skeleton tree its graphs are made of: joint v hangs on parents[v]
    parents: tuple[int, ...] = Field(min_length=1)
    classes: int = Field(ge=1)
    persons: int = Field(ge=1)

    @property
    def joints(self) -> int:
        """V."""
        return len(self.parents)

    @field_validator("parents")
    @classmethod
    def _is_a_tree(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        try:
            check_tree("parents", value, range(len(value)))
        except UserError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _input_block_is_decided(self) -> Self:
        if self.model.input_block == "auto":
            raise ValueError(
                "model.input_block must be decided before a network is built, got 'auto'"
            )
        return self


class SkeletonNetwork(nn.Module):
    """(N, 3, T, V, M) -> logits (N, K): what training form and deploy form of a network have in
    common.
    """

    spec: NetworkSpec
    head: nn.Module

    def features(self, clips: Tensor) -> Tensor:
        """(N, C): what the head sees, the mean over frames, joints and persons."""
        raise NotImplementedError

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(clips))
        return logits


class Backbone(SkeletonNetwork):
    """(N, 3, T, V, M) -> logits (N, K), in its training form.

    data_norm: clips -> (N M, C, T, V), persons folded into samples, each on its own from there on.
    stem: the input block.
    blocks: hold every weight a mask may touch. head: the mean over frames, joints and persons (N,
    C) -> logits.
    """

    merges: ClassVar[bool] = False
    """Whether the deploy form can make the two convolutions around an adjacency one."""

    continuous: ClassVar[bool] = True
    """False where the network chooses (nearest joints), so that rounding can change a logit by more
    than rounding.
    """

    kept: ClassVar[str] = ""
    """What is not linear and therefore stays as it is in the deploy form, besides ReLU; empty if
    nothing.
    """

    never_learns: ClassVar[tuple[str, ...]] = ()
    """Parts of the names of parameters that checkpoints have and training does not use."""

    as_rows: ClassVar[bool] = False
    """Whether the deploy form is faster on a CPU with feature maps in memory as rows of
    channels.
    """

    released_deploys: ClassVar[bool] = False
    """Whether the released code has a deploy form of its own."""

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        data_norm: nn.Module,
        blocks: Sequence[nn.Module],
        stem: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.data_norm = data_norm
        self.stem = nn.Identity() if stem is None else stem
        self.blocks = nn.ModuleList(blocks)
        self.head = (
            Classifier(spec.model.width, spec.classes, spec.model.dropout) if head is None else head
        )
        self.counts = Counts()
        for module in (*self.stem.modules(), *self.blocks.modules()):
            if isinstance(module, BatchNorm2d):
                module.counts = self.counts

    def features(self, clips: Tensor, persons: Tensor | None = None) -> Tensor:
        """(N, C); persons: see `objective`."""
        x = self.data_norm(clips)
        equal = None if persons is None else collapse(persons, self.spec.persons)
        if equal is None:
            features = person_features(x, self.stem, self.blocks)
        else:
            equal = equal.to(x.device)
            with self.counts.of(equal.counts, len(x)):
                alone = person_features(x.index_select(0, equal.kept), self.stem, self.blocks)
            features = alone.index_select(0, equal.rows)
        return features.view(-1, self.spec.persons, self.spec.model.width).mean(dim=1)

    def objective(
        self, clips: Tensor, labels: Tensor, persons: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(loss, logits (N, K)) of one training step.

        persons (N,) int64 on the CPU: of each clip. The others of its M places are zero, and equal
        ones are run once: up to rounding nothing changes (see `BackboneCard.persons_apart`). None:
        every place is run.
        """
        # one that a subclass overrides may know of clips alone
        features = self.features(clips) if persons is None else self.features(clips, persons)
        return self.head_objective(self.head, features, labels)

    def head_objective(
        self, head: nn.Module, features: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, logits (N, K)) of a head of this backbone's kind on features (N, C); cross entropy
        unless it is trained on something else.
        """
        logits: Tensor = head(features)
        return F.cross_entropy(logits.float(), labels), logits


def person_features(x: Tensor, stem: nn.Module, blocks: nn.ModuleList) -> Tensor:
    """(P, C, T, V) of P persons -> mean over frames and joints of the last block (P, C')."""
    x = stem(x)
    for block in blocks:
        x = block(x)
    return x.mean(dim=(2, 3))
