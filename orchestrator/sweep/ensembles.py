"""The `ensembles` of a sweep file: defaults, and checks against the cell axes and each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from orchestrator.sweep.document import Document, Path, plain
from orchestrator.sweep.leaves import label
from orchestrator.sweep.problems import nearest, one_of, report
from orchestrator.sweep.schema import EnsembleConfig, Parameter
from orchestrator.sweep.strategies import STRATEGIES


def default_ensembles(searched: Mapping[str, Parameter]) -> tuple[EnsembleConfig, ...]:
    """The mean over sparsity levels where there are several, then over streams."""
    several = [
        name
        for name, parameter in searched.items()
        if parameter.axis == "cell" and len(parameter.values) > 1
    ]
    levels = (
        [EnsembleConfig(name="multi_level", over="sparsity.level")]
        if "sparsity.level" in several
        else []
    )
    streams = (
        [EnsembleConfig(name="final", over="data.stream", from_=tuple(e.name for e in levels))]
        if "data.stream" in several
        else []
    )
    return (*levels, *streams)


def resolve_ensembles(
    document: Document, ensembles: Sequence[EnsembleConfig], searched: Mapping[str, Parameter]
) -> tuple[EnsembleConfig, ...]:
    """The ensembles with `per` and `combine` filled in; problems go to the document."""
    values = {
        name: parameter.values for name, parameter in searched.items() if parameter.axis == "cell"
    }
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
        per = (
            ensemble.per
            if "per" in ensemble.model_fields_set
            else tuple(axis for axis in axes if axis != ensemble.over)
        )
        axes_of[ensemble.name] = per
        _check_axes(document, place, ensemble, axes)
        _check_options(document, place, ensemble)
        filled = ensemble.model_copy(update={"per": per})
        if ensemble.over in values:
            filled = filled.model_copy(
                update=_weights(document, place, ensemble, values[ensemble.over])
            )
        resolved.append(filled)
    return tuple(resolved)


def _axes_of_sources(
    document: Document,
    place: Path,
    ensemble: EnsembleConfig,
    axes_of: Mapping[str, tuple[str, ...]],
    cell_axes: tuple[str, ...],
) -> tuple[str, ...]:
    """The axes by which the ensemble's sources are told apart."""
    if not ensemble.from_:
        return cell_axes
    known = [axes_of[name] for name in ensemble.from_ if name in axes_of]
    for j, name in enumerate(ensemble.from_):
        if name not in axes_of:
            document.add(
                (*place, "from", j), f"must name an ensemble above it{nearest(name, axes_of)}", name
            )
    return tuple(axis for axis in cell_axes if all(axis in axes for axes in known))


def _check_axes(
    document: Document, place: Path, ensemble: EnsembleConfig, axes: Sequence[str]
) -> None:
    listed = ", ".join(axes) or "none"
    if ensemble.over not in axes:
        document.add(
            (*place, "over"),
            f"must be a cell axis of its sources ({listed}){nearest(ensemble.over, axes)}",
            ensemble.over,
        )
    for j, axis in enumerate(ensemble.per):
        if axis == ensemble.over:
            document.add((*place, "per", j), "must not be the axis that is combined (over)", axis)
        elif axis not in axes:
            document.add(
                (*place, "per", j),
                f"must be a cell axis of its sources ({listed}){nearest(axis, axes)}",
                axis,
            )


def _check_options(document: Document, place: Path, ensemble: EnsembleConfig) -> None:
    """The options of the method and what it needs, by its card."""
    card = STRATEGIES.find(ensemble.method)
    if card.needs_selection and document.lookup(("data", "selection", "kind")) == "none":
        document.add(
            (*place, "method"),
            f"{card.name} chooses on held-out clips, and data.selection.kind none holds out none",
        )
    try:
        card.options.model_validate(ensemble.options)
    except ValidationError as error:
        report(document, (*place, "options"), error.errors(), card.options)


def _weights(
    document: Document, place: Path, ensemble: EnsembleConfig, values: Sequence[Any]
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
    labels = [label(value) for value in values]
    if isinstance(weights, str):
        return _preset(document, place, ensemble, weights, labels)
    by_label = {label(plain(key)): (key, weight) for key, weight in weights.items()}
    for name, (key, _) in by_label.items():
        if name not in labels:
            document.add(
                (*place, key),
                f"must be a value of {ensemble.over} ({', '.join(labels)}){nearest(name, labels)}",
                key,
            )
    if sum(weight > 0 for _, weight in by_label.values()) < 2:
        document.add(
            place, f"must give at least two values of {ensemble.over} a weight above 0", weights
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
    lacking = [value for value in labels if preset.weights and value not in preset.weights]
    if lacking:
        document.add(
            place,
            f"preset {name} has no weight for {', '.join(lacking)}; it knows"
            f" {', '.join(preset.weights)}",
        )
    return {} if "combine" in ensemble.model_fields_set else {"combine": preset.combine}
