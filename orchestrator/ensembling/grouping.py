"""Which sources go into which ensemble: by the axes of cells, of seeds and of earlier ensembles.

Knows names and axes, no scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.ensembling.members import Member, seed_name
from orchestrator.sweep.ensembles import SEED
from orchestrator.sweep.leaves import label
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig

Axes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """The sources of one ensemble, present or not."""

    name: str  # of the ensemble
    axes: Axes  # the values all its sources share, by `per`
    sources: Mapping[str, Axes]  # in order


def wants_seeds(recipe: EnsembleConfig) -> bool:
    """Whether the recipe tells the seeds of a cell apart."""
    return not recipe.from_ and SEED in (*recipe.axes, *recipe.per)


def groups_of(
    recipe: EnsembleConfig,
    cells: Mapping[str, Axes],
    members: Sequence[Member],
    earlier: Mapping[str, Mapping[str, Axes]],
) -> Iterator[Group]:
    """The ensembles that the recipe makes.

    cells: the axes of all cells, with or without a member. earlier: by name of a recipe above this
    one, the ensembles it makes and their axes. A source that lacks an axis of `per`, or all that
    are combined, is in none.
    """
    expected = _expected(recipe, cells, members, earlier)
    known = dict.fromkeys(axis for axes in expected.values() for axis in axes)
    absent = [axis for axis in (*recipe.per, *recipe.axes) if axis not in known]
    if absent:
        raise UserError(
            f"ensembles.{recipe.name}: must be over and per axes of its sources"
            f" ({', '.join(known)}), got {', '.join(absent)}"
        )
    found: dict[tuple[str, ...], list[str]] = {}
    for name, axes in expected.items():
        if axes.keys() >= set(recipe.per) and not axes.keys().isdisjoint(recipe.axes):
            found.setdefault(tuple(label(axes[axis]) for axis in recipe.per), []).append(name)
    for values, names in found.items():
        yield Group(
            ".".join([recipe.name, *(["-".join(map(_slug, values))] if values else [])]),
            {axis: expected[names[0]][axis] for axis in recipe.per},
            {name: expected[name] for name in names},
        )


def _expected(
    recipe: EnsembleConfig,
    cells: Mapping[str, Axes],
    members: Sequence[Member],
    earlier: Mapping[str, Mapping[str, Axes]],
) -> dict[str, Axes]:
    """Names and axes of all sources the recipe speaks of, present or not."""
    unknown = [name for name in recipe.from_ if name not in earlier]
    if unknown:
        raise UserError(
            f"ensembles.{recipe.name}.from: must name ensembles above it, got {', '.join(unknown)}"
        )
    if recipe.from_:
        return {name: axes for above in recipe.from_ for name, axes in earlier[above].items()}
    return _seeds(cells, members) if wants_seeds(recipe) else dict(cells)


def _seeds(cells: Mapping[str, Axes], members: Iterable[Member]) -> dict[str, Axes]:
    """Every cell with every seed that one of them has; the first seed of a cell has its name."""
    own = {member.name: [run.seed for run in member.seeds] for member in members}
    seeds = sorted({seed for each in own.values() for seed in each})
    found: dict[str, Axes] = {}
    for cell, axes in cells.items():
        first = own.get(cell, seeds[:1])[:1]
        for seed in (*first, *(each for each in seeds if each not in first)):
            name = cell if seed in first else seed_name(cell, seed)
            found[name] = {**axes, SEED: seed}
    return found


def _slug(text: str) -> str:
    """The text as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text)
