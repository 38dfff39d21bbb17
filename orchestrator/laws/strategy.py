"""Laws that every ensemble strategy keeps: which weights it may give, and what it leaves alone.

A subject names the strategy, and its `options` where they are not the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from orchestrator.ensembling.budgets import Budget, Measure
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.sweep.strategies import STRATEGIES, StrategyCard
from trainables.laws.law import Law, PartSettings, card_is_light, check_about, require

CLIPS, CLASSES = 40, 5
SIZES = (1, 2, 6)
"""Numbers of sources."""


def card_names_a_function(subject: PartSettings) -> None:
    """It says what it does in one line, and its module holds a function."""
    card = STRATEGIES.find(subject["strategy"])
    check_about(card)
    require(callable(card.load()), f"{card.module} must be a function, got {card.load()!r}")


def weighs_its_sources(subject: PartSettings, *, sources: int, clips: int = CLIPS) -> None:
    """Finite weights that are not negative, of sources alone, and one at least above 0; so it does
    for sources that are all alike, and where all are wrong. Temperatures are finite and above 0.
    """
    card = STRATEGIES.find(subject["strategy"])
    if not clips and card.needs_selection:
        return  # it says so in its card, and a sweep that has no such clips is refused
    usual = _sources(card, sources, clips)
    alike = _with_values(usual, np.repeat(usual.values[:1], sources, axis=0))
    wrong = _with_values(usual, -usual.values)
    for what, made in (("sources", usual), ("equal sources", alike), ("bad sources", wrong)):
        choice = _chosen(subject, made)
        strange = sorted(set(choice.weights) - set(made.members))
        require(not strange, f"{what}: {', '.join(strange)} is no source")
        for name, weight in choice.weights.items():
            require(
                math.isfinite(weight) and weight >= 0,
                f"{what}: the weight of {name} must be finite and not negative, got {weight}",
            )
        require(any(choice.weights.values()), f"{what}: one weight at least must be above 0")
        for name, heat in choice.temperatures.items():
            fits = name in made.members and math.isfinite(heat) and heat > 0
            require(fits, f"{what}: the temperature of {name} must be finite and above 0: {heat}")


def answers_the_same_twice(subject: PartSettings) -> None:
    """Whatever was drawn before: what is drawn comes from a seed, and numpy's global generator is
    left as it is.
    """
    card = STRATEGIES.find(subject["strategy"])
    before = np.random.get_state()  # noqa: NPY002, the global one is what must not be used
    first = _chosen(subject, _sources(card, 6, CLIPS))
    after = np.random.get_state()  # noqa: NPY002
    require(str(before) == str(after), "nothing may be drawn from numpy's global generator")
    np.random.random(3)  # noqa: NPY002
    second = _chosen(subject, _sources(card, 6, CLIPS))
    require(
        dict(first.weights) == dict(second.weights)
        and dict(first.temperatures) == dict(second.temperatures),
        f"the same scores must give the same weights, got {first.weights} and {second.weights}",
    )


def leaves_its_sources_alone(subject: PartSettings) -> None:
    """The arrays are shared with every other ensemble: writing to them is an error."""
    sources = _sources(STRATEGIES.find(subject["strategy"]), 6, CLIPS)
    values, labels, given = sources.values.copy(), sources.labels.copy(), dict(sources.given)
    _chosen(subject, sources)
    same = np.array_equal(values, sources.values) and np.array_equal(labels, sources.labels)
    require(same and given == sources.given, "scores, labels and weights must be left as they are")


def keeps_its_budget(subject: PartSettings) -> None:
    """Who promises it in the card: networks of 1, 2, 3, ..., the dearer the better, that may have 3
    together. It may refuse, too.
    """
    from trainables.contract.errors import UserError

    card = STRATEGIES.find(subject["strategy"])
    if not card.keeps_budget:
        return
    usual = _sources(card, 6, CLIPS)
    figures: dict[str, dict[Measure, float]] = {
        name: {"nonzero_params": 1.0 + i} for i, name in enumerate(usual.members)
    }
    sources = replace(usual, budget=Budget({"nonzero_params": 3.0}, figures))
    try:
        choice = _chosen(subject, sources)
    except UserError:
        return
    excess = sources.budget.excess([name for name, weight in choice.weights.items() if weight])
    require(not excess, f"its card says that it keeps a budget, got {excess}")


def _chosen(subject: PartSettings, sources: Sources) -> Choice:
    """What it answers, weights alone or more."""
    card = STRATEGIES.find(subject["strategy"])
    answer = card.load()(sources, options_of(card, subject.get("options", {})))
    require(
        isinstance(answer, Choice | Mapping),
        f"it must give a mapping of weights or a Choice, got {type(answer).__name__}",
    )
    return answer if isinstance(answer, Choice) else Choice(answer)


def options_of(card: StrategyCard, options: Mapping[str, object]) -> BaseModel:
    """The options of a strategy, checked; UserError where one is wrong."""
    from trainables.contract.errors import UserError, in_words

    try:
        return card.options.model_validate(dict(options))
    except ValidationError as error:
        raise UserError.of(
            f"options {'.'.join(map(str, item['loc']))}: {in_words(item['msg'])}"
            for item in error.errors()
        ) from error


def _sources(card: StrategyCard, number: int, clips: int) -> Sources:
    """Sources of different accuracy on random clips, arrays read-only as in a sweep."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, clips)
    values = generator.normal(size=(number, clips, CLASSES)).astype(np.float32)
    for source in range(number):
        values[source, np.arange(clips), labels] += 0.5 + 0.5 * source
    names = tuple(f"cell-{source}" for source in range(number))
    given = {name: 1.0 + place for place, name in enumerate(names)} if card.takes_weights else {}
    ids = tuple(f"clip-{place:03d}" for place in range(clips))
    combine = card.combine or "probabilities"
    made = Sources(names, values, labels.astype(np.int64), ids, given, combine=combine)
    return _with_values(made, values)


def _with_values(sources: Sources, values: npt.NDArray[np.float32]) -> Sources:
    values, labels = values.copy(), sources.labels.copy()
    values.flags.writeable = labels.flags.writeable = False
    return replace(sources, values=values, labels=labels)


CARD_LAWS: tuple[Law, ...] = (
    Law(
        "has a card that imports neither torch nor ray",
        lambda subject: card_is_light(STRATEGIES.path(subject["strategy"])),
    ),
    Law("has a card that names a function", card_names_a_function),
)
LAWS: tuple[Law, ...] = (
    Law(
        "gives finite weights to its sources",
        weighs_its_sources,
        tuple({"sources": number} for number in SIZES),
    ),
    Law(
        "needs no selection clips, or says so in its card",
        weighs_its_sources,
        tuple({"sources": number, "clips": 0} for number in SIZES),
    ),
    Law("keeps a budget, or does not promise it", keeps_its_budget),
    Law("answers the same twice", answers_the_same_twice),
    Law("leaves scores and labels as they are", leaves_its_sources_alone),
)
