"""What a search needs to know of one cell to make its trials: values, rules, and how a trial is
made of an assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from orchestrator.sweep import Parameter, Sweep
from orchestrator.trials.cells import Cell
from orchestrator.trials.dense import linked, starts_from_dense
from orchestrator.trials.proposed import Proposal, Trial
from orchestrator.trials.space import (
    Assignment,
    allowed,
    build_config,
    canonical,
    draw_allowed,
    key_of,
    shuffled,
)
from trainables.contract.errors import UserError


class CellSpace:
    """The assignments of one cell."""

    def __init__(self, sweep: Sweep, cell: Cell, known: Iterable[Trial] = ()) -> None:
        """known: the trials of the sweep, among which dense ones are looked for; it may grow."""
        self.sweep = sweep
        self.cell = cell
        self._known = known
        self._passed = 0  # of the listed ones, tried without a gap

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What is searched within the cell, in the file's order."""
        return {name: self.sweep.parameters[name] for name in self.sweep.searched}

    @property
    def slots(self) -> int:
        """How many assignments are tried, at most."""
        assert self.sweep.method.trials_per_cell is not None
        return self.sweep.method.trials_per_cell

    @property
    def startup(self) -> int:
        """How many trials must have ended before a search learns from them."""
        given = self.sweep.method.startup_trials
        return given if given is not None else max(2, min(10, self.slots // 4))

    @cached_property
    def listed(self) -> Sequence[Assignment] | None:
        """All assignments in the order of random search; None where they cannot be listed."""
        return shuffled(self.sweep, self.cell)

    @cached_property
    def _keys(self) -> list[str]:
        """Of the listed assignments."""
        return [key_of(each) for each in self.listed or ()]

    def holds(self, assignment: Mapping[str, Any]) -> bool:
        """Whether the cell could have this assignment, by its values and its constraints."""
        for name, value in assignment.items():
            parameter = self.parameters.get(name)
            if parameter is None or not _holds(parameter, value):
                return False
        return self.assignment(assignment) == dict(assignment)

    def random(self, index: int, tried: Mapping[str, Assignment]) -> Assignment | None:
        """What random search takes as its assignment number `index`, where those were `tried`,
        which may only grow from call to call; None where it finds none.
        """
        if self.listed is not None:
            keys = self._keys
            while self._passed < len(keys) and keys[self._passed] in tried:
                self._passed += 1
            return self.listed[self._passed] if self._passed < len(keys) else None
        return draw_allowed(self.sweep, self.cell, index, tried)

    def assignment(self, values: Mapping[str, Any]) -> Assignment | None:
        """The assignment that these values of the searched leaves make: without those that have no
        effect beside the others. None where the constraints, or the leaves' own rules, forbid it.
        """
        found = canonical(self.sweep, self.cell, dict(values))
        if not allowed(self.sweep, self.cell, found):
            return None
        try:
            build_config(self.sweep, self.cell, found, self.sweep.seed)
        except UserError:
            return None
        return found

    def trial(self, assignment: Assignment, seed: int) -> Trial:
        """The trial that tries it."""
        config = build_config(self.sweep, self.cell, assignment, seed)
        name = f"{self.cell.id}-{config.digest()}"
        made = Trial(Proposal(name, self.cell.id, self.cell.axes, assignment, seed), config)
        return linked([made], self._known)[0] if starts_from_dense(made) else made


def _holds(parameter: Parameter, value: Any) -> bool:
    if parameter.values:
        return value in parameter.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert parameter.min is not None
    assert parameter.max is not None
    return parameter.min <= value <= parameter.max
