"""Members: finished trials as an ensemble sees them.

Knows nothing of where they lie or how they were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from orchestrator.ensembling.stored import Stored
from orchestrator.sweep.ensembles import SEED
from trainables.contract.artifacts import TrialResult
from trainables.contract.config import Frozen, SelectionConfig, TrialConfig
from trainables.contract.scores import Scores

SWEEP = "sweep"
"""The axis of members that come from several sweeps."""


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


Load = Callable[[], Scores]
"""A score table that is read, or made, when it is asked for."""


class SeedScores:
    """What a network, or an ensemble, of trials of one seed says.

    A table that is given as a function is asked for at every use: hundreds of networks need not be
    in memory at once.
    """

    __slots__ = ("_selection", "_test")

    def __init__(self, selection: Scores | Load | None, test: Scores | Load) -> None:
        self._selection, self._test = selection, test

    @property
    def held_out(self) -> bool:
        """Whether there is a selection table; nothing is read."""
        return self._selection is not None

    @property
    def selection(self) -> Scores | None:
        """With labels; None when nothing was held out."""
        return self._selection() if callable(self._selection) else self._selection

    @property
    def selection_ids(self) -> tuple[str, ...] | None:
        """The clips of the selection table, whose scores are not read where they lie on disk."""
        return None if self._selection is None else _ids(self._selection)

    @property
    def test_ids(self) -> tuple[str, ...]:
        """The same of the test table."""
        return _ids(self._test)

    @property
    def test(self) -> Scores:
        """Unlabelled."""
        return self._test() if callable(self._test) else self._test


def _ids(table: Scores | Load) -> tuple[str, ...]:
    if isinstance(table, Scores | Stored):
        return table.ids
    return table().ids


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
    seeds: tuple[SeedRun, ...]  # the member itself first

    @property
    def selection(self) -> Scores | None:
        """With labels; None when nothing was held out."""
        return self.seeds[0].scores.selection

    @property
    def test(self) -> Scores:
        """Unlabelled."""
        return self.seeds[0].scores.test

    @property
    def division(self) -> Division:
        data = self.config.data
        return Division(store=data.store, protocol=data.protocol, selection=data.selection)

    def at_store(self, store: str) -> Member:
        """The same with the store at another place: a trial that ended before the store was moved
        names its old one.
        """
        data = self.config.data.model_copy(update={"store": store})
        return replace(self, config=self.config.model_copy(update={"data": data}))

    @property
    def dense(self) -> bool:
        return self.config.sparsity.dense

    @property
    def by_seed(self) -> dict[int, SeedScores]:
        return {run.seed: run.scores for run in self.seeds}


def by_its_seeds(member: Member) -> tuple[Member, ...]:
    """The trials of a cell that differ in nothing but the seed, each a member by itself with an
    axis `seed`; the first keeps the cell's name.
    """
    return tuple(
        replace(
            member,
            name=seed_name(member.name, run.seed) if i else member.name,
            axes={**member.axes, SEED: run.seed},
            trial=run.trial,
            config=member.config.model_copy(update={"seed": run.seed}),
            result=run.result,
            seeds=(run,),
        )
        for i, run in enumerate(member.seeds)
    )


def seed_name(cell: str, seed: int) -> str:
    """How a trial of a cell is called that is not the cell's first seed."""
    return f"{cell}-seed{seed}"


class _Network(Protocol):
    @property
    def dense(self) -> bool: ...
    @property
    def division(self) -> Division: ...
    @property
    def axes(self) -> Mapping[str, Any]: ...


N = TypeVar("N", bound=_Network)


def dense_counterparts(
    axes: Mapping[str, Any], division: Division, members: Iterable[N]
) -> list[N]:
    """The dense networks to hold a network or an ensemble with these axes against: those that share
    them, but for the sparsity's and what says nothing of the network. members: to choose from, or
    their rows of an evaluation.
    """
    shared = {
        axis: value
        for axis, value in axes.items()
        if not axis.startswith("sparsity.") and axis not in (SEED, SWEEP)
    }
    return [
        member
        for member in members
        if member.dense
        and member.division == division
        and all(member.axes.get(axis) == value for axis, value in shared.items())
    ]
