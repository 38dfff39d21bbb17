"""Recipes of a sweep file + members -> ensembles.

Chooses nothing on the test split and never sees its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from orchestrator.ensembling.budgets import Budget, Measure, resolved, written
from orchestrator.ensembling.combine import check_factors, check_same_clips, combine_scores
from orchestrator.ensembling.grouping import Axes, Group, groups_of, wants_seeds
from orchestrator.ensembling.members import (
    Division,
    Member,
    SeedScores,
    by_its_seeds,
    dense_counterparts,
)
from orchestrator.ensembling.spill import Rows
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.sweep.ensembles import SEED
from orchestrator.sweep.leaves import label
from orchestrator.sweep.presets import PRESETS, Combine
from orchestrator.sweep.strategies import STRATEGIES
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig


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
    scores: SeedScores
    # the same recipe on the trials of each seed that all its sources have
    by_seed: dict[int, SeedScores]
    temperatures: dict[str, float] = field(default_factory=dict)  # of sources that have one
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method, defaults and seed too
    cost: Mapping[Measure, float] = field(default_factory=dict)  # of its networks together
    limits: Mapping[Measure, float] = field(default_factory=dict)  # of its budget
    # what its weights were chosen on, and how; None: by a fixed recipe
    chosen_on: Sources | None = None
    choose: Callable[[Sources], Mapping[str, float] | Choice] | None = None
    recipe: str = ""  # its name in the file

    @property
    def selection(self) -> Scores | None:
        """With labels; None when nothing was held out."""
        return self.scores.selection

    @property
    def test(self) -> Scores:
        """Unlabelled."""
        return self.scores.test

    @property
    def has_probabilities(self) -> bool:
        """Whether the softmax of its scores means probabilities: their mean, or a sum whose weights
        were fitted so that it does.
        """
        return self.combine == "probabilities" or STRATEGIES.find(self.method).fits_probabilities


Source = Member | Ensemble


@dataclass(frozen=True, slots=True)
class Built:
    """The ensembles of a sweep, in the order of its file, and why others could not be built."""

    ensembles: tuple[Ensemble, ...]
    skipped: dict[str, str]
    # networks that they combine and that stand for no cell: further seeds
    others: tuple[Member, ...] = ()


def build_ensembles(
    recipes: Sequence[EnsembleConfig], members: Sequence[Member], cells: Mapping[str, Axes]
) -> Built:
    """Every ensemble the recipes ask for; `cells` holds the axes of all cells, with or without a
    member.

    An ensemble takes its sources from the cells, from their seeds, or from the groups of earlier
    ensembles (`from`). `per` makes one ensemble for each combination of these axes; `over` names
    the axes that are combined. Sources without scores are named in `missing`; with fewer than two
    left, beyond its budget, or where its strategy refuses them, the ensemble is skipped.
    """
    available: dict[str, Source] = {member.name: member for member in members}
    seeds = {each.name: each for member in members for each in by_its_seeds(member)}
    earlier: dict[str, dict[str, Axes]] = {}
    skipped: dict[str, str] = {}
    for recipe in recipes:
        groups = list(groups_of(recipe, cells, members, earlier))
        earlier[recipe.name] = {group.name: group.axes for group in groups}
        for group in groups:
            if group.name in available:
                raise UserError(
                    f"ensembles.{recipe.name}: must have a name of its own, '{group.name}' is a"
                    " cell or another ensemble"
                )
            present = {**available, **seeds} if wants_seeds(recipe) else available
            outcome = _build(recipe, group, present, members)
            if isinstance(outcome, str):
                skipped[group.name] = outcome
            else:
                available[group.name] = outcome
    ensembles = tuple(each for each in available.values() if isinstance(each, Ensemble))
    used = {member.name: member for each in ensembles for member in each.members}
    others = tuple(member for name, member in used.items() if name not in available)
    return Built(ensembles, skipped, others)


def _build(
    recipe: EnsembleConfig,
    group: Group,
    available: Mapping[str, Source],
    members: Sequence[Member],
) -> Ensemble | str:
    """The ensemble, or why there is none."""
    given = _given_weights(recipe, group.sources)
    unnamed = [each for each in group.sources if recipe.weights is not None and not given.get(each)]
    wanted = [each for each in group.sources if each not in unnamed]
    present = {each: available[each] for each in wanted if each in available}
    missing = tuple(each for each in wanted if each not in available)
    if len(present) < 2:
        return f"needs at least 2 sources, has {len(present)} of {len(wanted)}" + (
            f"; without scores: {', '.join(missing)}" if missing else ""
        )
    divisions = {source.division for source in present.values()}
    if len(divisions) > 1:
        raise UserError(
            f"ensembles.{recipe.name}: sources must share store, protocol and selection,"
            f" '{group.name}' mixes {len(divisions)}"
        )
    division = divisions.pop()
    if STRATEGIES.find(recipe.method).needs_selection and not division.held_out:
        return f"method {recipe.method} chooses on held-out clips, and nothing was held out"
    try:
        budget = _budget(recipe, group.axes, division, present, members)
    except UserError as error:
        return str(error)
    if nothing := _nothing_fits(budget, present):
        return nothing
    seen = _seen(recipe, present, given, budget)
    choice = _chosen(recipe, seen)
    if isinstance(choice, str):
        return choice
    sources = {name: present[name] for name in choice.weights}
    networks = {network.trial: network for each in sources.values() for network in _networks(each)}
    if excess := budget.excess(networks):
        return f"exceeds its budget: {excess}"
    chooses = STRATEGIES.find(recipe.method).needs_selection
    return Ensemble(
        name=group.name,
        axes=group.axes,
        division=division,
        method=recipe.method,
        combine=recipe.combine,
        weights=dict(choice.weights),
        temperatures=dict(choice.temperatures),
        options=_options(recipe).model_dump(mode="json"),
        members=tuple(networks.values()),
        missing=missing,
        left_out=(*unnamed, *(each for each in present if each not in sources)),
        scores=_combined([_scores(each) for each in sources.values()], choice, recipe.combine),
        by_seed=_by_seed(recipe, sources, choice),
        cost=budget.cost(networks),
        limits=budget.limits,
        chosen_on=seen if chooses else None,
        choose=_strategy(recipe) if chooses else None,
        recipe=recipe.name,
    )


def _networks(source: Source) -> tuple[Member, ...]:
    return source.members if isinstance(source, Ensemble) else (source,)


def _scores(source: Source) -> SeedScores:
    return source.scores if isinstance(source, Ensemble) else source.seeds[0].scores


def _budget(
    recipe: EnsembleConfig,
    axes: Axes,
    division: Division,
    sources: Mapping[str, Source],
    members: Sequence[Member],
) -> Budget:
    """The recipe's limits as numbers; UserError where the dense network is missing that one is
    relative to.

    That is the dense network with the ensemble's axes, of several the best on the selection split,
    of equally good ones the smallest.
    """
    networks = [network for source in sources.values() for network in _networks(source)]
    dense = min(dense_counterparts(axes, division, members), key=_best_then_smallest, default=None)
    unmasked = [each.result.cost for each in networks if each.config.sparsity.network == "single"]
    return resolved(
        recipe.budget,
        {network.trial: network.result.cost for network in networks},
        dense.result.cost if dense else None,
        min(unmasked, key=lambda cost: cost.deploy_params, default=None),
    )


def _best_then_smallest(member: Member) -> tuple[float, int]:
    return -(member.result.selection_top1 or 0.0), member.result.cost.deploy_nonzero_params


def _nothing_fits(budget: Budget, sources: Mapping[str, Source]) -> str:
    """Why no source fits into the budget; empty where one does."""
    trials = {name: [each.trial for each in _networks(source)] for name, source in sources.items()}
    if any(budget.fits(each) for each in trials.values()):
        return ""
    least: list[str] = []
    for measure, most in budget.limits.items():
        costs = {name: budget.cost(each).get(measure) for name, each in trials.items()}
        known = {name: cost for name, cost in costs.items() if cost is not None}
        if not known:
            least.append(f"{measure} is known of none of them")
        elif min(known.values()) > most:
            name = min(known, key=known.__getitem__)
            least.append(f"{name} has least {measure}, {written(known[name])} of {written(most)}")
    return "none of its sources fits into the budget" + (f": {'; '.join(least)}" if least else "")


def _seen(
    recipe: EnsembleConfig,
    sources: Mapping[str, Source],
    given: Mapping[str, float],
    budget: Budget,
) -> Sources:
    """What a strategy may see of the sources: their selection scores, read-only; none where it
    chooses nothing on them.
    """
    tables = [_scores(source) for source in sources.values()]
    first = tables[0].selection
    if not STRATEGIES.find(recipe.method).needs_selection or first is None or first.labels is None:
        values, labels = np.zeros((len(tables), 0, 0), np.float32), np.zeros(0, np.int64)
        ids: tuple[str, ...] = ()
    else:
        labels, ids, rows = first.labels.copy(), first.ids, Rows(first.logits.shape[1])
        for table in tables:
            scores = table.selection
            assert scores is not None  # all are of one division
            check_same_clips(first, scores)
            rows.append(scores.logits)
        values = rows.table().reshape(len(tables), *first.logits.shape)
    values.setflags(write=False)
    labels.setflags(write=False)
    return Sources(
        members=tuple(sources),
        values=values,
        labels=labels,
        ids=ids,
        given=dict(given),
        networks=tuple(
            frozenset(network.trial for network in _networks(source)) for source in sources.values()
        ),
        families=tuple(map(_family, sources.values())),
        combine=recipe.combine,
        budget=budget,
    )


def _family(source: Source) -> str:
    """What sources have in common that differ in the seed or the sparsity level only."""
    axes = {
        axis: value for axis, value in source.axes.items() if axis not in (SEED, "sparsity.level")
    }
    return " ".join(f"{axis}={label(value)}" for axis, value in axes.items()) or "all"


def _options(recipe: EnsembleConfig) -> BaseModel:
    return STRATEGIES.find(recipe.method).options.model_validate(recipe.options)


def _strategy(recipe: EnsembleConfig) -> Callable[[Sources], Mapping[str, float] | Choice]:
    """The recipe's strategy with its options."""
    card = STRATEGIES.find(recipe.method)
    options, choose = _options(recipe), card.load()

    def chosen(sources: Sources) -> Mapping[str, float] | Choice:
        answer: Mapping[str, float] | Choice = choose(sources, options)
        return answer

    return chosen


def _chosen(recipe: EnsembleConfig, seen: Sources) -> Choice | str:
    """The weights that the recipe's strategy gives, or why it gives none; UserError for an answer
    that is no weights.
    """
    try:
        answer = _strategy(recipe)(seen)
    except UserError as error:
        return f"method {recipe.method}: {str(error).removeprefix(f'{recipe.method}: ')}"
    choice = answer if isinstance(answer, Choice) else Choice(answer)
    unknown = [name for name in (*choice.weights, *choice.temperatures) if name not in seen.members]
    if unknown:
        raise UserError(
            f"ensembles.{recipe.name}: method {recipe.method} must give weights to the sources"
            f" ({', '.join(seen.members)}), got {', '.join(map(str, unknown))}"
        )
    weights = {
        name: float(choice.weights[name]) for name in seen.members if choice.weights.get(name)
    }
    if not weights or not all(np.isfinite(list(weights.values()))):
        raise UserError(
            f"ensembles.{recipe.name}: method {recipe.method} must give numbers, one of them other"
            f" than 0, got {dict(choice.weights)}"
        )
    temperatures = {
        name: float(value)
        for name, value in choice.temperatures.items()
        if name in weights and value != 1
    }
    if not all(np.isfinite(value) and value > 0 for value in temperatures.values()):
        raise UserError(
            f"ensembles.{recipe.name}: method {recipe.method} must give temperatures above 0, got"
            f" {temperatures}"
        )
    check_factors(list(weights.values()), recipe.combine)
    return Choice(weights, temperatures)


def _combined(sources: Sequence[SeedScores], choice: Choice, how: Combine) -> SeedScores:
    """The sums, each made when it is asked for and then kept."""
    factors = list(choice.weights.values())
    warmth = [choice.temperatures.get(name, 1.0) for name in choice.weights]

    @cache
    def selection() -> Scores:
        tables = (each.selection for each in sources)
        known = (table for table in tables if table is not None)
        return combine_scores(map(_cooled, known, warmth), factors, how)

    @cache
    def test() -> Scores:
        return combine_scores(map(_cooled, (each.test for each in sources), warmth), factors, how)

    return SeedScores(selection if all(each.held_out for each in sources) else None, test)


def _cooled(scores: Scores, temperature: float) -> Scores:
    """The logits over a temperature."""
    if temperature == 1:
        return scores
    return Scores(scores.ids, scores.logits / np.float32(temperature), scores.labels)


def _by_seed(
    recipe: EnsembleConfig, sources: Mapping[str, Source], choice: Choice
) -> dict[int, SeedScores]:
    """The same recipe on the trials of each seed that all its sources have; none where seeds are
    what is combined.
    """
    own = [source.by_seed for source in sources.values()]
    seeds = [seed for seed in own[0] if all(seed in each for each in own)]
    return {seed: _combined([each[seed] for each in own], choice, recipe.combine) for seed in seeds}


def _given_weights(
    recipe: EnsembleConfig, expected: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Weight of each source by the value it has on the axis `over`; sources whose value is not
    named get none. Empty for a plain mean; a preset without weights gives all the same.
    """
    preset = PRESETS[recipe.weights] if isinstance(recipe.weights, str) else None
    if preset is not None and not preset.weights:
        return dict.fromkeys(expected, 1.0)
    by_value = preset.weights if preset is not None else recipe.weights
    if not isinstance(by_value, Mapping):
        return {}
    values = {name: label(axes[recipe.axes[0]]) for name, axes in expected.items()}
    return {name: by_value[value] for name, value in values.items() if value in by_value}
