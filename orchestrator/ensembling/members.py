"""Members: finished trials as an ensemble sees them.

Knows nothing of where they lie or how they were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.contract.artifacts import TrialResult
from trainables.contract.config import Frozen, SelectionConfig, TrialConfig
from trainables.contract.scores import Scores


class Division(Frozen):
    """How a store was divided into training, selection and test clips; members of one division are
    scored on the same clips.
    """

    store: str
    protocol: str
    selection: SelectionConfig

    @property
    def held_out(self) -> bool:
        """False under the paper protocol, which keeps nothing aside to choose on."""
        return self.selection.kind != "none"


@dataclass(frozen=True, eq=False, slots=True)
class SeedScores:
    """What a network, or an ensemble, of trials of one seed says."""

    selection: Scores | None  # with labels; None when nothing was held out
    test: Scores  # unlabelled


@dataclass(frozen=True, eq=False, slots=True)
class SeedRun:
    """One of several trials that differ in nothing but the seed."""

    trial: str
    seed: int
    result: TrialResult
    scores: SeedScores
    levels: Mapping[str, SeedScores]  # of a network of several levels, each by itself


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """The chosen trial of a cell.

    With several seeds it is the one of the first seed, never the luckiest.
    """

    name: str  # the cell's id
    cell: str
    axes: Mapping[str, Any]  # grid axis -> value
    trial: str
    config: TrialConfig
    result: TrialResult
    selection: Scores | None  # with labels; None when nothing was held out
    test: Scores  # unlabelled
    seeds: tuple[SeedRun, ...]  # the member itself first

    @property
    def division(self) -> Division:
        data = self.config.data
        return Division(store=data.store, protocol=data.protocol, selection=data.selection)

    @property
    def dense(self) -> bool:
        return self.config.sparsity.dense

    @property
    def by_seed(self) -> dict[int, SeedScores]:
        return {run.seed: run.scores for run in self.seeds}
