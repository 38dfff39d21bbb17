"""Which recorded curve stands for a trial: its own, or that of the nearest trial of its cell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.simulation.curves import Curve
from orchestrator.sweep import Parameter, Sweep
from orchestrator.sweep.document import show
from orchestrator.sweep.leaves import DERIVED_FROM, leaves_of, unused
from orchestrator.trials.space import Trial
from trainables.contract.errors import UserError

SAME_CURVES = (
    "data.store",
    "data.residence",
    "train.fast",
    "train.sparse_kernels",
    "sparsity.branch_at",
)
"""Leaves that may differ: where the clips lie, not what they are, how a step is computed, and what
is trained for several trials at once.
"""
MOST_NAMED = 5


class Axis:
    """The distance between two values of one searched leaf, 0 for equal ones and at most 1 within
    the sweep's range: on the scale it is drawn from, by rank among listed numbers, else 1.
    """

    def __init__(self, parameter: Parameter, recorded: Iterable[Any]) -> None:
        self._log = bool(parameter.distribution) and "log" in str(parameter.distribution)
        self._values: dict[str, float] = {}
        self._low, self._width = 0.0, 1.0
        if parameter.min is not None and parameter.max is not None:
            self._low = self._scaled(parameter.min)
            self._width = (self._scaled(parameter.max) - self._low) or 1.0
            self.is_number = True
            return
        known = {json.dumps(value): value for value in (*parameter.values, *recorded)}
        self.is_number = all(map(_is_number, known.values()))
        ordered = sorted(known, key=lambda key: known[key] if self.is_number else key)
        steps = max(len(ordered) - 1, 1) if self.is_number else 1
        self._values = {key: place / steps for place, key in enumerate(ordered)}

    def place(self, value: Any) -> float:
        """Of a value; distances of numbers are differences of places."""
        if self._values:
            return self._values.get(json.dumps(value), -1.0)
        return (self._scaled(value) - self._low) / self._width if _is_number(value) else -1.0

    def _scaled(self, value: float) -> float:
        return log(value) if self._log else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, eq=False)
class Shelf:
    """The curves of one cell that were recorded to the end."""

    curves: list[Curve]
    names: tuple[str, ...]  # of the searched leaves
    axes: tuple[Axis, ...]
    places: NDArray[np.float64]  # (curves, leaves); not a number where a leaf has no effect
    exact: dict[str, list[int]]  # by assignment

    @classmethod
    def of(cls, curves: list[Curve], sweep: Sweep) -> Shelf:
        names, assigned = sweep.searched, [_assigned(curve, sweep.searched) for curve in curves]
        axes = tuple(
            Axis(sweep.parameters[name], (each[name] for each in assigned if name in each))
            for name in names
        )
        exact: dict[str, list[int]] = {}
        for position, assignment in enumerate(assigned):
            exact.setdefault(_key(assignment), []).append(position)
        shelf = cls(curves, names, axes, np.empty((0, 0)), exact)
        places = np.array([shelf._place(each) for each in assigned], dtype=float)
        return cls(curves, names, axes, places.reshape(len(curves), len(names)), exact)

    def _place(self, assignment: Mapping[str, Any]) -> list[float]:
        return [
            axis.place(assignment[name]) if name in assignment else np.nan
            for name, axis in zip(self.names, self.axes, strict=True)
        ]

    def nearest(self, trial: Trial) -> tuple[Curve, bool]:
        """The curve, and whether it is of the trial's own assignment. Among equally near ones that
        of the trial's seed, or one that the seed decides.
        """
        proposal = trial.proposal
        found = self.exact.get(_key(proposal.assignment))
        own = found is not None
        if found is None:
            distance = self._distances(proposal.assignment)
            found = [int(each) for each in np.flatnonzero(distance == distance.min())]
        same = [each for each in found if self.curves[each].seed == proposal.seed]
        return self.curves[(same or found)[proposal.seed % len(same or found)]], own

    def _distances(self, assignment: Mapping[str, Any]) -> NDArray[np.float64]:
        """(curves,): sums of squares over the leaves; an effect beside none is 1 apart."""
        apart = np.abs(self.places - np.array(self._place(assignment)))
        for column, axis in enumerate(self.axes):
            if not axis.is_number:
                apart[:, column] = np.where(
                    np.isnan(apart[:, column]), np.nan, apart[:, column] > 0
                )
        lacking = np.array([name not in assignment for name in self.names], dtype=bool)
        apart = np.where(np.isnan(apart), np.isnan(self.places) != lacking, apart)
        total: NDArray[np.float64] = (apart**2).sum(axis=1)
        return total


class Library:
    """The curves that stand for the trials of a sweep."""

    def __init__(self, curves: Iterable[Curve], sweep: Sweep, trials: Sequence[Trial]) -> None:
        """trials: of the sweep, at least one of every cell. UserError where the curves are not of
        its space: of other cells, or of other settings than those that all its trials share.
        """
        whole = [curve for curve in curves if curve.result is not None]
        firsts: dict[str, Trial] = {}
        for trial in trials:
            firsts.setdefault(trial.proposal.cell, trial)
        self.cells: dict[str, Shelf] = {}
        lacking: dict[str, list[str]] = {}
        for cell, trial in firsts.items():
            leaves = leaves_of(trial.config)
            of_cell = [curve for curve in whole if _is_of_cell(curve, trial)]
            others = {curve.trial: _differences(sweep, leaves, curve) for curve in of_cell}
            fitting = [curve for curve in of_cell if not others[curve.trial]]
            if fitting:
                self.cells[cell] = Shelf.of(fitting, sweep)
            else:
                reasons = min(others.values(), key=len, default=["no trial of that cell"])
                lacking.setdefault("; ".join(reasons[:MOST_NAMED]), []).append(cell)
        if lacking:
            raise UserError.of(
                f"{_listed(cells)}: the curves hold no finished trial of this space: {reason}"
                for reason, cells in lacking.items()
            )

    def nearest(self, trial: Trial) -> tuple[Curve, bool]:
        """See `Shelf.nearest`."""
        return self.cells[trial.proposal.cell].nearest(trial)


def _is_of_cell(curve: Curve, trial: Trial) -> bool:
    return all(curve.leaves.get(axis) == value for axis, value in trial.proposal.axes.items())


def _differences(sweep: Sweep, leaves: Mapping[str, Any], curve: Curve) -> list[str]:
    """Settings with an effect that all trials of the cell share, and that the curve does not."""
    if curve.leaves.keys() != leaves.keys():
        return ["recorded with a version that has other settings"]
    idle = unused(leaves) | unused(curve.leaves)
    return [
        f"{name} is {show(curve.leaves[name])} in the curves and {show(value)} in the sweep"
        for name, value in leaves.items()
        if value != curve.leaves[name]
        and name not in idle
        and name not in sweep.parameters
        and name not in SAME_CURVES
        and sweep.parameters.keys().isdisjoint(DERIVED_FROM.get(name, ()))
    ]


def _assigned(curve: Curve, names: Sequence[str]) -> dict[str, Any]:
    """What the curve's trial has for these leaves, without those that have no effect in it."""
    idle = unused(curve.leaves)
    return {name: curve.leaves[name] for name in names if name not in idle}


def _key(assignment: Mapping[str, Any]) -> str:
    return json.dumps(dict(assignment), sort_keys=True)


def _listed(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
    return f"cell{'' if len(cells) == 1 else 's'} {', '.join(cells[:MOST_NAMED])}{more}"
