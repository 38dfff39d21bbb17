"""What a search is asked, what it answers, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, Protocol

from orchestrator.sweep import Objective
from orchestrator.trials.space import Assignment, Trial
from trainables.contract.artifacts import TrialResult


class Wait(Enum):
    """The answer of a search that needs ends of its running trials before it can go on."""

    WAIT = "wait"


WAIT: Final = Wait.WAIT

Values = tuple[float | None, ...]
"""Of the objectives, in the sweep's order; None where one is not known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a proposed trial ended.

    finished: with a result. failed: for a reason that another attempt would meet again. pruned: a
    stopping rule ended it, and its values are those of an unfinished training. discarded: it was
    withdrawn before it started.
    """

    ending: Literal["finished", "failed", "pruned", "discarded"]
    result: TrialResult | None = None  # of a finished trial
    epochs: int = 0  # it was trained
    values: Values = ()  # as it last reported them; of a finished trial those of its result
    metrics: Mapping[str, float] = field(default_factory=dict)  # of a finished trial

    @classmethod
    def finished(cls, result: TrialResult, objectives: Sequence[Objective]) -> Outcome:
        """With this result."""
        metrics = result.metrics()
        values = tuple(metrics.get(each.metric) for each in objectives)
        return cls("finished", result, result.epochs, values, metrics)


class CellSearch(Protocol):
    """Proposes the trials of one cell.

    Trials of different cells never compete, so each cell has a search of its own.
    """

    def ask(self) -> Trial | Wait | None:
        """The next trial to run; WAIT: none before another of the cell's trials has ended; None:
        the cell needs no more, and stays with that. Listed trials not asked for by then are
        discarded.
        """
        ...

    def tell(self, trial: str, outcome: Outcome) -> None:
        """How a proposed trial ended."""
        ...


class AskedSearch(CellSearch, Protocol):
    """Makes the trials of its cell one by one.

    After an interruption it is made again and told the cell's past in its order: `recall` for each
    trial that was proposed, `tell` for each that ended. It then proposes what it would have.
    """

    def recall(self, trial: Trial) -> None:
        """An earlier run of the sweep has proposed this trial."""
        ...

    def learn(self, assignment: Assignment, outcome: Outcome) -> None:
        """So a trial of another sweep ended. It takes no slot and is not tried again."""
        ...
