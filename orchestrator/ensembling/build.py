"""Recipes of a sweep file + members -> ensembles.

Chooses nothing on the test split and never sees its labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.ensembling.combine import check_same_clips, combine_scores
from orchestrator.ensembling.members import Division, Member, SeedScores
from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.sweep.leaves import label
from orchestrator.sweep.presets import PRESETS, Combine
from orchestrator.sweep.strategies import STRATEGIES
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig, Sweep

Axes = Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Ensemble:
    """Sources (members or other ensembles) with weights, and their combined scores."""

    name: str
    axes: Axes  # the values all its sources share, by `per`
    division: Division
    method: str
    combine: Combine
    weights: dict[str, float]  # source -> weight
    members: tuple[Member, ...]  # the networks it needs, each once
    missing: tuple[str, ...]  # sources that have no scores
    left_out: tuple[str, ...]  # sources that got no weight
    selection: Scores | None  # with labels
    test: Scores  # unlabelled
    # the same recipe on the trials of each seed that all its sources have
    by_seed: dict[int, SeedScores]

    @property
    def has_probabilities(self) -> bool:
        """Whether the softmax of its scores means probabilities."""
        return self.combine == "probabilities"


@dataclass(frozen=True, slots=True)
class Built:
    """The ensembles of a sweep, in the order of its file, and why others could not be built."""

    ensembles: tuple[Ensemble, ...]
    skipped: dict[str, str]


def build_ensembles(sweep: Sweep, members: Sequence[Member], cells: Mapping[str, Axes]) -> Built:
    """Every ensemble the sweep asks for; `cells` holds the axes of all cells, with or without a
    member.

    An ensemble takes its sources from the cells, or from the groups of earlier ensembles (`from`).
    `per` makes one ensemble for each combination of these axes; `over` is the axis its weights
    speak of. Sources without scores are named in `missing`; with fewer than two left the ensemble
    is skipped.
    """
    available: dict[str, Member | Ensemble] = {member.name: member for member in members}
    groups_of: dict[str, dict[str, Axes]] = {}
    skipped: dict[str, str] = {}
    for recipe in sweep.ensembles:
        expected = _expected(recipe, cells, groups_of)
        groups_of[recipe.name] = {}
        for name, axes, names in _groups(recipe, expected):
            if name in available:
                raise UserError(
                    f"ensembles.{recipe.name}: must have a name of its own, '{name}' is a cell or"
                    " another ensemble"
                )
            groups_of[recipe.name][name] = axes
            outcome = _build(
                recipe, name, axes, {each: expected[each] for each in names}, available
            )
            if isinstance(outcome, str):
                skipped[name] = outcome
            else:
                available[name] = outcome
    return Built(tuple(each for each in available.values() if isinstance(each, Ensemble)), skipped)


def _expected(
    recipe: EnsembleConfig, cells: Mapping[str, Axes], groups_of: Mapping[str, Mapping[str, Axes]]
) -> dict[str, Axes]:
    """Names and axes of all sources the recipe speaks of, present or not."""
    if not recipe.from_:
        return dict(cells)
    unknown = [name for name in recipe.from_ if name not in groups_of]
    if unknown:
        raise UserError(
            f"ensembles.{recipe.name}.from: must name ensembles above it, got {', '.join(unknown)}"
        )
    return {name: axes for earlier in recipe.from_ for name, axes in groups_of[earlier].items()}


def _groups(
    recipe: EnsembleConfig, expected: Mapping[str, Axes]
) -> Iterable[tuple[str, Axes, list[str]]]:
    """(name, shared axes, sources) of every ensemble the recipe makes; a source that lacks one of
    its axes is in none.
    """
    needed, known = (
        (*recipe.per, recipe.over),
        dict.fromkeys(axis for axes in expected.values() for axis in axes),
    )
    absent = [axis for axis in needed if axis not in known]
    if absent:
        raise UserError(
            f"ensembles.{recipe.name}: must be over and per axes of its sources"
            f" ({', '.join(known)}), got {', '.join(absent)}"
        )
    found: dict[tuple[str, ...], list[str]] = {}
    for name, axes in expected.items():
        if not axes.keys() >= set(needed):
            continue
        found.setdefault(tuple(label(axes[axis]) for axis in recipe.per), []).append(name)
    for values, names in found.items():
        shared = {axis: expected[names[0]][axis] for axis in recipe.per}
        yield (
            ".".join([recipe.name, *(["-".join(map(_slug, values))] if values else [])]),
            shared,
            names,
        )


def _slug(text: str) -> str:
    """The text as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text)


def _build(
    recipe: EnsembleConfig,
    name: str,
    axes: Axes,
    expected: Mapping[str, Axes],
    available: Mapping[str, Member | Ensemble],
) -> Ensemble | str:
    """The ensemble, or why there is none."""
    given = _given_weights(recipe, expected)
    unnamed = [each for each in expected if recipe.weights is not None and not given.get(each)]
    wanted = [each for each in expected if each not in unnamed]
    present = [each for each in wanted if each in available]
    missing = tuple(each for each in wanted if each not in available)
    if len(present) < 2:
        return f"needs at least 2 sources, has {len(present)} of {len(wanted)}" + (
            f"; without scores: {', '.join(missing)}" if missing else ""
        )
    divisions = {available[each].division for each in present}
    if len(divisions) > 1:
        raise UserError(
            f"ensembles.{recipe.name}: sources must share store, protocol and selection, '{name}'"
            f" mixes {len(divisions)}"
        )
    seen = _seen({each: available[each] for each in present}, given)
    if STRATEGIES.find(recipe.method).needs_selection and not seen.ids:
        return f"method {recipe.method} chooses on held-out clips, and nothing was held out"
    chosen = _chosen(recipe, seen)
    sources = [available[each] for each in chosen]
    factors = list(chosen.values())
    combined = _combined(
        [SeedScores(source.selection, source.test) for source in sources], factors, recipe.combine
    )
    by_seed = [source.by_seed for source in sources]
    seeds = [seed for seed in by_seed[0] if all(seed in each for each in by_seed)]
    networks = {
        member.trial: member
        for source in sources
        for member in (source.members if isinstance(source, Ensemble) else (source,))
    }
    return Ensemble(
        name=name,
        axes=axes,
        division=divisions.pop(),
        method=recipe.method,
        combine=recipe.combine,
        weights=chosen,
        members=tuple(networks.values()),
        missing=missing,
        left_out=(*unnamed, *(each for each in present if each not in chosen)),
        selection=combined.selection,
        test=combined.test,
        by_seed={
            seed: _combined([each[seed] for each in by_seed], factors, recipe.combine)
            for seed in seeds
        },
    )


def _seen(sources: Mapping[str, Member | Ensemble], given: Mapping[str, float]) -> Sources:
    """What a strategy may see of the sources: their selection scores, read-only."""
    tables = {name: source.selection for name, source in sources.items()}
    known = [each for each in tables.values() if each is not None]
    classes = next(iter(sources.values())).test.logits.shape[1]
    values = np.zeros((len(sources), 0, classes), np.float32)
    labels = np.zeros(0, np.int64)
    ids: tuple[str, ...] = ()
    if known and len(known) == len(tables) and known[0].labels is not None:
        for other in known[1:]:
            check_same_clips(known[0], other)
        values, ids = np.stack([each.logits for each in known]), known[0].ids
        labels = known[0].labels.copy()
    values.setflags(write=False)
    labels.setflags(write=False)
    return Sources(tuple(sources), values, labels, ids, dict(given))


def _chosen(recipe: EnsembleConfig, seen: Sources) -> dict[str, float]:
    """The weights that the recipe's strategy gives; UserError where they are none."""
    card = STRATEGIES.find(recipe.method)
    weights = card.load()(seen, card.options.model_validate(recipe.options))
    unknown = [name for name in weights if name not in seen.members]
    if unknown:
        raise UserError(
            f"ensembles.{recipe.name}: method {recipe.method} must give weights to the sources"
            f" ({', '.join(seen.members)}), got {', '.join(map(str, unknown))}"
        )
    chosen = {name: float(weights[name]) for name in seen.members if weights.get(name)}
    if not chosen or not all(np.isfinite(list(chosen.values()))):
        raise UserError(
            f"ensembles.{recipe.name}: method {recipe.method} must give numbers, one of them other"
            f" than 0, got {dict(weights)}"
        )
    return chosen


def _combined(sources: Sequence[SeedScores], factors: Sequence[float], how: Combine) -> SeedScores:
    selections = [source.selection for source in sources if source.selection is not None]
    return SeedScores(
        selection=(
            combine_scores(selections, factors, how) if len(selections) == len(sources) else None
        ),
        test=combine_scores([source.test for source in sources], factors, how),
    )


def _given_weights(recipe: EnsembleConfig, expected: Mapping[str, Axes]) -> dict[str, float]:
    """Weight of each source by the value it has on the axis `over`; sources whose value is not
    named get none. Empty for a plain mean.
    """
    values = {name: label(axes[recipe.over]) for name, axes in expected.items()}
    if isinstance(recipe.weights, str):
        by_value = PRESETS[recipe.weights].weights or dict.fromkeys(values.values(), 1.0)
    else:
        by_value = recipe.weights or {}
    return {name: by_value[value] for name, value in values.items() if value in by_value}
