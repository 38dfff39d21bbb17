"""From a sweep to its cells: the points of the grid of cell axes. Trials of one cell compete, trials of different cells never do."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from orchestrator.sweep import Sweep
from orchestrator.sweep.leaves import label

_LONGEST_ID = 80
_SPEAK_FOR_THEMSELVES = ("model.backbone", "data.stream")
"""Axes whose values need no name beside them."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid of cell axes."""

    id: str  # file-system safe, unique in the sweep, the same in every run of it
    axes: Mapping[str, Any] = field(hash=False)  # leaf -> JSON value, in the file's order


def expand(sweep: Sweep) -> tuple[Cell, ...]:
    """All cells, the last axis of the file changing fastest; a sweep without cell axes has one cell, `all`."""
    names = sweep.cell_axes
    points = [dict(zip(names, values, strict=True)) for values in product(*(sweep.parameters[name].values for name in names))]
    ids = [_slug(point) for point in points]
    ambiguous = {each for each in ids if ids.count(each) > 1}
    return tuple(
        Cell(f"{each[: _LONGEST_ID - 9]}-{_digest(point)}" if each in ambiguous or len(each) > _LONGEST_ID else each, point)
        for each, point in zip(ids, points, strict=True)
    )


def _slug(point: Mapping[str, Any]) -> str:
    """`hpi_gcn_rp-joint-level0.6`."""
    parts = [label(value) if axis in _SPEAK_FOR_THEMSELVES else f"{axis.rpartition('.')[2]}{label(value)}" for axis, value in point.items()]
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("_") for part in parts) or "all"


def _digest(point: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8]
