"""The `ensembles` of a sweep file: defaults, and checks against the cell axes and each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from orchestrator.sweep.document import Document, Path, plain
from orchestrator.sweep.leaves import label
from orchestrator.sweep.limits import EnsembleBudget
from orchestrator.sweep.problems import nearest, one_of, report
from orchestrator.sweep.schema import CHOICE, EnsembleConfig, Parameter
from orchestrator.sweep.strategies import STRATEGIES

SEED = "seed"
"""The axis of trials that differ in nothing but the seed."""
_ONE_AXIS = "are per value of one axis: combine one axis after the other (from)"


def default_ensembles(
    searched: Mapping[str, Parameter], *, held_out: bool, sparse: bool
) -> tuple[EnsembleConfig, ...]:
    """The papers' fixed recipe, the mean over sparsity levels where there are several, then over
    streams; and what greedy selection chooses of all cells, where clips are held out to choose on.

    sparse: some networks are. Greedy then keeps within the size of the dense network.
    """
    several = [
        name
        for name, parameter in searched.items()
        if parameter.axis == "cell" and len(parameter.values) > 1
    ]
    found: list[EnsembleConfig] = []
    if "sparsity.level" in several:
        found.append(EnsembleConfig(name="multi_level", over="sparsity.level"))
    if "data.stream" in several:
        above = tuple(each.name for each in found)
        found.append(EnsembleConfig(name="final", over="data.stream", from_=above))
    if several and held_out:
        over = several[0] if len(several) == 1 else tuple(several)
        budget = EnsembleBudget(nonzero_params="1x" if sparse else None)
        greedy = EnsembleConfig(name=CHOICE, over=over, per=(), method="greedy", budget=budget)
        found.append(greedy.model_copy(update={"default": True}))
    return tuple(found)


def resolve_ensembles(
    document: Document,
    ensembles: Sequence[EnsembleConfig],
    searched: Mapping[str, Parameter],
    seeds: Sequence[int],
) -> tuple[EnsembleConfig, ...]:
    """The ensembles with `per` and `combine` filled in; problems go to the document.

    seeds: those with which every assignment is trained; several are an axis.
    """
    values: dict[str, Sequence[Any]] = {
        name: parameter.values for name, parameter in searched.items() if parameter.axis == "cell"
    }
    if len(seeds) > 1:
        values[SEED] = seeds
    # by name of an ensemble: what still tells its results apart
    axes_of: dict[str, tuple[str, ...]] = {}
    resolved: list[EnsembleConfig] = []
    for i, ensemble in enumerate(ensembles):
        place: Path = ("ensembles", i)
        if ensemble.name in axes_of:
            document.add(
                (*place, "name"), "must differ from the other ensembles' names", ensemble.name
            )
        axes = _axes_of_sources(document, place, ensemble, axes_of, tuple(values))
        per = ensemble.per if "per" in ensemble.model_fields_set else _remaining(ensemble, axes)
        axes_of[ensemble.name] = per
        _check_axes(document, place, ensemble, axes)
        filled = ensemble.model_copy(update={"per": per} | _summed(document, place, ensemble))
        _check_options(document, place, filled, _most_families(filled, axes, values))
        if values.keys() >= set(ensemble.axes):
            filled = filled.model_copy(update=_weights(document, place, ensemble, values))
        resolved.append(filled)
    return tuple(resolved)


def _remaining(ensemble: EnsembleConfig, axes: Iterable[str]) -> tuple[str, ...]:
    """What `per` is where the file does not say it: the axes that are not combined. Seeds of a cell
    stay apart only where the file says so: its first seed stands for it.
    """
    return tuple(
        axis
        for axis in axes
        if axis not in ensemble.axes and (axis != SEED or bool(ensemble.from_))
    )


def _axes_of_sources(
    document: Document,
    place: Path,
    ensemble: EnsembleConfig,
    axes_of: Mapping[str, tuple[str, ...]],
    axes: tuple[str, ...],
) -> tuple[str, ...]:
    """The axes by which the ensemble's sources are told apart."""
    if not ensemble.from_:
        return axes
    known = [axes_of[name] for name in ensemble.from_ if name in axes_of]
    for j, name in enumerate(ensemble.from_):
        if name not in axes_of:
            document.add(
                (*place, "from", j), f"must name an ensemble above it{nearest(name, axes_of)}", name
            )
    return tuple(axis for axis in axes if all(axis in each for each in known))


def _check_axes(
    document: Document, place: Path, ensemble: EnsembleConfig, axes: Sequence[str]
) -> None:
    rule = f"must be a cell axis of its sources ({', '.join(axes) or 'none'})"
    for j, axis in enumerate(ensemble.axes):
        own = (*place, "over") if isinstance(ensemble.over, str) else (*place, "over", j)
        if axis == SEED and SEED not in axes and not ensemble.from_:
            one = "combines several seeds of a network, but method.seeds is 1"
            document.add(own, f"{one}, and so is method.final_seeds")
        elif axis not in axes:
            document.add(own, f"{rule}{nearest(axis, axes)}", axis)
        elif axis in ensemble.axes[:j]:
            document.add(own, "must name each axis once", axis)
    for j, axis in enumerate(ensemble.per):
        if axis in ensemble.axes:
            document.add((*place, "per", j), "must not be the axis that is combined (over)", axis)
        elif axis not in axes:
            document.add((*place, "per", j), f"{rule}{nearest(axis, axes)}", axis)


def _most_families(
    ensemble: EnsembleConfig, axes: Iterable[str], values: Mapping[str, Sequence[Any]]
) -> int:
    """How many families its sources can have; 0 where it is not known."""
    if len(ensemble.from_) > 1:
        return 0
    apart = [axis for axis in axes if axis not in (*ensemble.per, SEED, "sparsity.level")]
    return math.prod(len(values[axis]) for axis in apart)


def _check_options(
    document: Document, place: Path, ensemble: EnsembleConfig, families: int
) -> None:
    """The options of the method and what it needs, by its card."""
    card = STRATEGIES.find(ensemble.method)
    if card.needs_selection and document.lookup(("data", "selection", "kind")) == "none":
        document.add(
            (*place, "method"),
            f"{card.name} chooses on held-out clips, and data.selection.kind none holds out none",
        )
    if ensemble.budget.given and card.needs_selection and not card.keeps_budget:
        document.add(
            (*place, "budget"),
            f"method {card.name} cannot keep a budget; use greedy, or mean or weights, which are"
            " skipped where they exceed it",
        )
    try:
        options = card.options.model_validate(ensemble.options)
    except ValidationError as error:
        report(document, (*place, "options"), error.errors(), card.options)
    else:
        for field, rule in card.refusals(options, ensemble.combine, families):
            document.add((*place, *field.split(".")), rule)


def _summed(document: Document, place: Path, ensemble: EnsembleConfig) -> dict[str, Any]:
    """`combine` where the method has weights for one way of summing only."""
    only = STRATEGIES.find(ensemble.method).combine
    if only is None:
        return {}
    if "combine" in ensemble.model_fields_set and ensemble.combine != only:
        document.add(
            (*place, "combine"), f"must be {only} for method {ensemble.method}", ensemble.combine
        )
    return {"combine": only}


def _weights(
    document: Document, place: Path, ensemble: EnsembleConfig, values: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Fields of the ensemble that its weights decide: the weights by label of the value, and what a
    preset combines.
    """
    place = (*place, "weights")
    weights, takes = ensemble.weights, STRATEGIES.find(ensemble.method).takes_weights
    if weights is not None and not takes:
        document.add(place, f"have no meaning for method {ensemble.method}; use method: weights")
    if weights is None and takes:
        document.add(
            place, f"method {ensemble.method} needs them: a preset's name, or a weight per value"
        )
    if weights is None or not takes:
        return {}
    several = len(ensemble.axes) > 1
    labels = [] if several else [label(value) for value in values[ensemble.axes[0]]]
    if isinstance(weights, str):
        return _preset(document, place, ensemble, weights, labels)
    if several:
        document.add(place, _ONE_AXIS, weights)
        return {}
    by_label = {label(plain(key)): (key, weight) for key, weight in weights.items()}
    for name, (key, _) in by_label.items():
        if name not in labels:
            document.add(
                (*place, key),
                f"must be a value of {ensemble.axes[0]} ({', '.join(labels)})"
                f"{nearest(name, labels)}",
                key,
            )
    if sum(weight > 0 for _, weight in by_label.values()) < 2:
        document.add(
            place, f"must give at least two values of {ensemble.axes[0]} a weight above 0", weights
        )
    return {"weights": {name: weight for name, (_, weight) in by_label.items()}}


def _preset(
    document: Document, place: Path, ensemble: EnsembleConfig, name: str, labels: Sequence[str]
) -> dict[str, Any]:
    from orchestrator.sweep.presets import PRESETS

    if name not in PRESETS:
        document.add(
            place,
            f"{one_of(list(PRESETS))}, or a weight per value, got '{name}'{nearest(name, PRESETS)}",
        )
        return {}
    preset = PRESETS[name]
    if preset.weights and len(ensemble.axes) > 1:
        document.add(place, _ONE_AXIS, name)
    lacking = [value for value in labels if preset.weights and value not in preset.weights]
    if lacking:
        document.add(
            place,
            f"preset {name} has no weight for {', '.join(lacking)}; it knows"
            f" {', '.join(preset.weights)}",
        )
    return {} if "combine" in ensemble.model_fields_set else {"combine": preset.combine}
