"""The searches of a sweep's cells, made from what is known of its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.search.protocol import AskedSearch, CellSearch, Outcome
from orchestrator.sweep import Sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.cell_space import CellSpace
from orchestrator.trials.cells import Cell
from orchestrator.trials.proposed import Trial


@dataclass(frozen=True, slots=True)
class Step:
    """A trial was proposed or, with an outcome, has ended."""

    trial: Trial
    outcome: Outcome | None = None


def asks(sweep: Sweep) -> bool:
    """Whether the sweep's method makes trials one by one."""
    return SEARCHES.find(sweep.method.name).given == "asked"


def listed_searches(sweep: Sweep, waiting: Mapping[str, Sequence[Trial]]) -> dict[str, CellSearch]:
    """Of a method whose trials are all known; waiting: those that have not ended, by cell."""
    make = SEARCHES.find(sweep.method.name).load()
    return {cell: make(trials) for cell, trials in waiting.items()}


def asked_searches(
    sweep: Sweep, cells: Iterable[Cell], known: Iterable[Trial], past: Iterable[Step] = ()
) -> dict[str, CellSearch]:
    """Of a method that makes trials one by one. known: the trials of the sweep, see `CellSpace`.
    past: what was proposed and has ended, in that order.
    """
    make = SEARCHES.find(sweep.method.name).load()
    searches: dict[str, AskedSearch] = {
        cell.id: make(CellSpace(sweep, cell, known)) for cell in cells
    }
    for step in past:
        search, name = searches.get(step.trial.proposal.cell), step.trial.proposal.trial
        if search is None:
            continue  # of a cell that the sweep has no more
        if step.outcome is None:
            search.recall(step.trial)
        else:
            search.tell(name, step.outcome)
    return dict(searches)
