"""A trial or an ensemble as one module: raw clips -> preparation -> networks -> fused logits.

How the members are fused is a bundle's recipe: {"trial": id}, or {"combine": how, "sources":
[[weight, recipe, temperature where there is one], ...]}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.data.batches.settings import check_settings, pipeline_of, views_of
from trainables.data.store.description import Description, layout_of
from trainables.deploy.export.preparation import Stream, ThreeNumbers, build_preparation
from trainables.deploy.form import DeployForm
from trainables.models.multilevel import MultiLevel
from trainables.training.evaluate import log_mean_softmax

Recipe = Mapping[str, Any]
TINY = torch.finfo(torch.float32).tiny
NETWORK = "network"
"""Of a member, in the names of a traced program: what a lower precision may touch."""


@dataclass(frozen=True)
class Member:
    """One network, what it sees, and the trial it comes from."""

    trial: str
    form: DeployForm | MultiLevel
    data: DataConfig


class Whole(nn.Module):
    """Raw clips (N, C, T, V, M) -> logits (N, K) and their softmax, as a bundle gives them."""

    def __init__(
        self, members: Sequence[Member], description: Description, recipe: Recipe, longest: int
    ) -> None:
        """longest: length in frames of the longest clip for which pipeline pyskl looks at exactly
        the frames that evaluation looks at.
        """
        super().__init__()
        self.numbers = ThreeNumbers(description.channels)
        self.preparations = nn.ModuleDict()
        self.members = nn.ModuleDict()
        self._prepared_by: dict[str, str] = {}
        names: dict[str, str] = {}
        for number, member in enumerate(members):
            check_settings(member.data, description, layout_of(description.layout))
            key = _preparation_key(member.data, description)
            if key not in names:
                names[key] = f"p{len(names)}"
                self.preparations[names[key]] = build_preparation(member.data, description, longest)
            self._prepared_by[f"m{number}"] = names[key]
            self.members[f"m{number}"] = _Seeing(member, description)
        self._of_trial = {member.trial: f"m{number}" for number, member in enumerate(members)}
        self._recipe = recipe
        self.eval().requires_grad_(False)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        numbers = self.numbers(clips)
        joints = {name: prepare(numbers) for name, prepare in self.preparations.items()}
        logits = {
            name: member(joints[self._prepared_by[name]]) for name, member in self.members.items()
        }
        scores = self._fused(self._recipe, logits)
        return scores, scores.softmax(dim=1)

    def _fused(self, recipe: Recipe, logits: Mapping[str, Tensor]) -> Tensor:
        if "trial" in recipe:
            return logits[self._of_trial[recipe["trial"]]]
        tables, weights = [], []
        for weight, source, *temperature in recipe["sources"]:
            own = self._fused(source, logits)
            tables.append(own / temperature[0] if temperature else own)
            weights.append(float(weight))
        return combine(tables, weights, recipe["combine"])

    def networks(self) -> list[nn.Module]:
        """The networks of the members."""
        return [member.network for member in self.members.values()]  # type: ignore[misc]


class _Seeing(nn.Module):
    """Joints (N views, 3, frames, V, M) -> logits (N, K) of one member."""

    def __init__(self, member: Member, description: Description) -> None:
        super().__init__()
        self.views = views_of(member.data, description)
        self.stream = Stream(member.data, description)
        self.network = member.form

    def forward(self, joints: Tensor) -> Tensor:
        precision = next(self.network.parameters()).dtype
        logits: Tensor = self.network(self.stream(joints).to(precision)).float()
        return (
            logits
            if self.views == 1
            else log_mean_softmax(logits.view(-1, self.views, logits.shape[1]))
        )


def _preparation_key(data: DataConfig, description: Description) -> str:
    """Equal for members whose joints are prepared alike."""
    pipeline = pipeline_of(data, description)
    moving = data.stream_config.motion and pipeline == "pyskl"
    alike = (pipeline, data.frames, data.align_spine, data.align_persons, data.views, moving)
    return repr(alike)


def combine(tables: Sequence[Tensor], weights: Sequence[float], how: str) -> Tensor:
    """One table (N, K) of several: the sums that an ensemble of this rule makes."""
    if how not in ("logits", "probabilities", "normalised"):
        raise UserError(f"combine: must be logits, probabilities or normalised, got {how}")
    summands = {
        "logits": lambda scores: scores,
        "probabilities": lambda scores: scores.softmax(dim=1),
        "normalised": _normalised,
    }[how]
    total = sum(
        (weight * summands(table) for weight, table in zip(weights, tables, strict=True)),
        torch.zeros(()),
    )
    if how != "probabilities":
        return total
    return (total / sum(weights)).clamp(min=TINY).log()


def _normalised(scores: Tensor) -> Tensor:
    """Over their standard deviation; as they are where all are equal."""
    spread = (scores - scores.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True).sqrt()
    return scores / torch.where(spread > 0, spread, 1.0)
