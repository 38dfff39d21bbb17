"""From a sweep to its cells: the points of the grid of cell axes.

Trials of one cell compete, trials of different cells never do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from orchestrator.sweep import Parameter, Sweep
from orchestrator.sweep.constraints import holds, leaf_names
from orchestrator.sweep.leaves import DECIDING, UNUSED_WHEN, Leaves, completed, label
from trainables.contract.frozen import once_each

_LONGEST_ID = 80
_SPEAK_FOR_THEMSELVES = ("model.backbone", "data.stream")
"""Axes whose values need no name beside them."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid of cell axes."""

    id: str  # file-system safe, unique in the sweep, the same in every run of it
    # leaf -> JSON value, in the file's order; without those that have no effect in the cell
    axes: Mapping[str, Any] = field(hash=False)


@once_each
def expand(sweep: Sweep) -> tuple[Cell, ...]:
    """All cells, the last axis of the file changing fastest; a sweep without cell axes has one
    cell, `all`.

    Points that differ in nothing but an axis without effect beside the others (the penalty at level
    0) are one cell, which lacks the axis. Points that a constraint rules out, whatever is searched
    within them, are no cells, unless it rules out all of them.
    """
    names = sweep.cell_axes
    others = [sweep.leaves() | each for each in deciding_combinations(sweep, sweep.searched)]
    distinct: dict[str, dict[str, Any]] = {}
    for values in product(*(sweep.parameters[name].values for name in names)):
        point = _with_effect(dict(zip(names, values, strict=True)), others)
        distinct.setdefault(json.dumps(point), point)
    points = [point for point in distinct.values() if _possible(sweep, point)] or list(
        distinct.values()
    )
    ids = [_slug(point) for point in points]
    ambiguous = {each for each in ids if ids.count(each) > 1}
    return tuple(
        Cell(
            f"{each[: _LONGEST_ID - 9]}-{_digest(point)}"
            if each in ambiguous or len(each) > _LONGEST_ID
            else each,
            point,
        )
        for each, point in zip(ids, points, strict=True)
    )


def _possible(sweep: Sweep, point: dict[str, Any]) -> bool:
    """Whether the constraints that read nothing searched within the cell hold at that point.

    A constraint without a value there holds: whoever makes the cell's trials reports it.
    """
    leaves = completed({**sweep.leaves(), **point})
    for constraint in sweep.constraints:
        if isinstance(constraint, str) and not set(leaf_names(constraint)) & set(sweep.searched):
            with suppress(ValueError):
                if not holds(constraint, leaves):
                    return False
    return True


def deciding_combinations(sweep: Sweep, names: Iterable[str]) -> list[dict[str, Any]]:
    """Combinations of those values of the searched leaves `names` that decide which leaves have an
    effect.
    """
    deciding = {
        name: _deciding_values(sweep.parameters[name]) for name in DECIDING if name in names
    }
    return [dict(zip(deciding, values, strict=True)) for values in product(*deciding.values())]


def _deciding_values(parameter: Parameter) -> list[Any]:
    """The values that decide which leaves have an effect in some combination: of numbers the
    largest does.
    """
    if parameter.max is not None:
        return [parameter.max]
    numbers = [value for value in parameter.values if isinstance(value, int | float)]
    return [value for value in parameter.values if not isinstance(value, int | float)] + (
        [max(numbers)] if numbers else []
    )


def _with_effect(point: dict[str, Any], others: Sequence[Leaves]) -> dict[str, Any]:
    """The point without the axes that have no effect in it, whatever is searched within the cell:
    `others` with all the other leaves.
    """
    settings = [completed({**leaves, **point}) for leaves in others]
    return {
        axis: value
        for axis, value in point.items()
        if axis not in UNUSED_WHEN or not all(map(UNUSED_WHEN[axis], settings))
    }


def _slug(point: Mapping[str, Any]) -> str:
    """`hpi_gcn_rp-joint-level0.6`."""
    parts = [
        label(value)
        if axis in _SPEAK_FOR_THEMSELVES
        else f"{axis.rpartition('.')[2]}{label(value)}"
        for axis, value in point.items()
    ]
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("_") for part in parts) or "all"


def _digest(point: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8]
