"""The searches of a sweep's cells, made from what is known of its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.search.protocol import AskedSearch, CellSearch, Outcome
from orchestrator.sweep import Sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.cell_space import CellSpace
from orchestrator.trials.cells import Cell
from orchestrator.trials.proposed import Trial
from orchestrator.trials.space import key_of


@dataclass(frozen=True, slots=True)
class Step:
    """A trial was proposed or, with an outcome, has ended."""

    trial: Trial
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """A trial of another sweep that has ended."""

    axes: Mapping[str, Any]  # of its cell
    assignment: Mapping[str, Any]
    outcome: Outcome


def asks(sweep: Sweep) -> bool:
    """Whether the sweep's method makes trials one by one."""
    return SEARCHES.find(sweep.method.name).asked


def listed_searches(sweep: Sweep, waiting: Mapping[str, Sequence[Trial]]) -> dict[str, CellSearch]:
    """Of a method whose trials are all known; waiting: those that have not ended, by cell."""
    make = SEARCHES.find(sweep.method.name).load()
    return {cell: make(trials) for cell, trials in waiting.items()}


def asked_searches(
    sweep: Sweep,
    cells: Iterable[Cell],
    known: Iterable[Trial],
    past: Iterable[Step] = (),
    earlier: Iterable[Earlier] = (),
) -> dict[str, CellSearch]:
    """Of a method that makes trials one by one. known: the trials of the sweep, see `CellSpace`.
    past: what was proposed and has ended, in that order. earlier: of other sweeps.
    """
    make = SEARCHES.find(sweep.method.name).load()
    searches: dict[str, AskedSearch] = {}
    by_axes: dict[str, AskedSearch] = {}
    spaces: dict[str, CellSpace] = {}
    for cell in cells:
        space = CellSpace(sweep, cell, known)
        key = key_of(cell.axes)
        searches[cell.id] = by_axes[key] = make(space)
        spaces[key] = space
    for each in earlier:
        key = key_of(each.axes)
        if key in by_axes and spaces[key].holds(each.assignment):
            by_axes[key].learn(dict(each.assignment), each.outcome)
    for step in past:
        search, name = searches.get(step.trial.proposal.cell), step.trial.proposal.trial
        if search is None:
            continue  # of a cell that the sweep has no more
        if step.outcome is None:
            search.recall(step.trial)
        else:
            search.tell(name, step.outcome)
    return dict(searches)
