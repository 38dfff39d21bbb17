"""The sections of the file that make up a trial: fixed leaves (`data`, `model`, `sparsity`,
`train`) and `parameters`, in any legal form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from orchestrator.sweep.document import Document, Path
from orchestrator.sweep.leaves import DERIVED_FROM, LEAVES, NOT_SEARCHABLE, SECTIONS, Leaf
from orchestrator.sweep.problems import mapping_or_none, nearest, one_of, report, rule_of
from orchestrator.sweep.schema import CELL_AXES, Distribution, Parameter, ParameterSpec
from trainables.contract.config import STREAM_PRESETS

_LONG_FORM = frozenset(ParameterSpec.model_fields)
PRESET_LEAF = "data.stream"
MOST_NUMBERS = 100  # of a range that are looked at one by one


def read_sections(document: Document) -> dict[str, Any]:
    """Leaves fixed in their sections, JSON values by dotted name; problems go to the document."""
    found: dict[str, Any] = {}
    for section in SECTIONS:
        _read_section(document, (section,), found)
    return found


def _read_section(document: Document, path: tuple[str, ...], found: dict[str, Any]) -> None:
    prefix = ".".join(path) + "."
    known = list(
        dict.fromkeys(
            name.removeprefix(prefix).partition(".")[0]
            for name in LEAVES
            if name.startswith(prefix)
        )
    )
    for key, value in (mapping_or_none(document, path) or {}).items():
        name, place = f"{prefix}{key}", (*path, key)
        if name in DERIVED_FROM and value is None:
            continue  # as the resolved form says: each trial has its own
        if name in LEAVES:
            if _accepts(document, place, LEAVES[name], value):
                found[name] = LEAVES[name].canonical(value)
        elif key in known:
            _read_section(document, place, found)
        else:
            document.add(place, f"unknown key{nearest(key, known)}")


def _accepts(document: Document, place: Path, leaf: Leaf, value: Any) -> bool:
    """Whether the leaf takes this value; problems go to the document."""
    errors = leaf.errors(value)
    report(document, place, errors, leaf.field.annotation)
    return not errors


def read_parameters(document: Document) -> tuple[dict[str, Any], dict[str, Parameter]]:
    """(fixed leaves, searched leaves) of `parameters`, in the file's order; problems go to the
    document.
    """
    fixed: dict[str, Any] = {}
    searched: dict[str, Parameter] = {}
    for name, raw in (mapping_or_none(document, ("parameters",)) or {}).items():
        place: Path = ("parameters", name)
        if name not in LEAVES:
            document.add(place, f"unknown parameter{nearest(name, LEAVES)}")
            continue
        leaf = LEAVES[name]
        spec = _spec(document, place, leaf, raw)
        if spec is None:
            continue
        if isinstance(spec, Parameter):
            searched[name] = spec
        else:
            fixed[name] = spec["value"]
        reason = next(
            (why for prefix, why in NOT_SEARCHABLE.items() if name.startswith(prefix)), None
        )
        if isinstance(spec, Parameter) and reason is not None:
            document.add(place, f"cannot be searched: {reason}")
    return fixed, searched


def _spec(
    document: Document, place: Path, leaf: Leaf, raw: Any
) -> Parameter | dict[str, Any] | None:
    """A searched parameter, `{"value": v}` for a fixed one, or None after a problem."""
    if isinstance(raw, Mapping) and not (leaf.takes_mapping and not _LONG_FORM & raw.keys()):
        return _long_form(document, place, leaf, raw)
    if isinstance(raw, list) and (
        not leaf.is_list or (raw and all(isinstance(item, list) for item in raw))
    ):
        return _values(document, place, place, leaf, raw, None)
    return {"value": leaf.canonical(raw)} if _accepts(document, place, leaf, raw) else None


def _long_form(
    document: Document, place: Path, leaf: Leaf, raw: Mapping[str, Any]
) -> Parameter | dict[str, Any] | None:
    try:
        spec = ParameterSpec.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        report(document, place, error.errors(include_url=False), ParameterSpec)
        return None
    kinds = [kind for kind in ("value", "values", "preset", "distribution") if kind in raw]
    if not kinds and (spec.min is not None or spec.max is not None):
        kinds = ["distribution"]
    if len(kinds) != 1:
        document.add(
            place, f"must give one of {_forms(leaf)}, got {' and '.join(kinds) or 'none of them'}"
        )
        return None
    kind = kinds[0]
    allowed = {
        "value": {"value"},
        "values": {"values", "axis"},
        "preset": {"preset", "axis"},
        "distribution": {"distribution", "min", "max", "step", "axis"},
    }[kind]
    foreign = [key for key in raw if key not in allowed]
    for key in foreign:
        document.add((*place, key), f"has no meaning beside {kind}")
    if foreign:
        return None
    if kind == "value":
        return (
            {"value": leaf.canonical(raw["value"])}
            if _accepts(document, (*place, "value"), leaf, raw["value"])
            else None
        )
    if kind == "values":
        return _values(
            document, place, (*place, "values"), leaf, list(raw["values"] or ()), spec.axis
        )
    if kind == "preset":
        return _preset(document, (*place, "preset"), leaf, str(spec.preset), spec.axis)
    return _range(document, place, leaf, spec)


def _forms(leaf: Leaf) -> str:
    """What the long form of a leaf holds one of."""
    return f"value, values{', preset' if leaf.name == PRESET_LEAF else ''} or min and max"


def _preset(
    document: Document, place: Path, leaf: Leaf, name: str, axis: str | None
) -> Parameter | None:
    """The values that a preset stands for."""
    if leaf.name != PRESET_LEAF:
        document.add(place, f"is a set of streams: only {PRESET_LEAF} has presets")
        return None
    if name not in STREAM_PRESETS:
        document.add(
            place, f"{one_of(list(STREAM_PRESETS))}, got '{name}'{nearest(name, STREAM_PRESETS)}"
        )
        return None
    return _values(document, place, place, leaf, list(STREAM_PRESETS[name]), axis)


def _values(
    document: Document,
    place: Path,
    list_place: Path,
    leaf: Leaf,
    values: list[Any],
    axis: str | None,
) -> Parameter | None:
    accepted = [_accepts(document, (*list_place, i), leaf, value) for i, value in enumerate(values)]
    if not values:
        document.add(list_place, "must hold at least one value", values)
    if not values or not all(accepted):
        return None
    canonical = [leaf.canonical(value) for value in values]
    repeated = [i for i, value in enumerate(canonical) if value in canonical[:i]]
    for i in repeated:
        document.add((*list_place, i), "must not repeat a value", values[i])
    if repeated:
        return None
    return Parameter.model_validate(
        {"values": canonical, "axis": axis or ("cell" if leaf.name in CELL_AXES else "trial")}
    )


def _check_numbers_between(
    document: Document, place: Path, leaf: Leaf, numbers: range, *, stepped: bool
) -> None:
    """A range may draw numbers that the leaf refuses though it takes both ends: even ones of an odd
    size.
    """
    for number in numbers[:MOST_NUMBERS]:
        if errors := leaf.errors(number):
            remedy = "give a step or values" if stepped else "give values"
            document.add(place, f"draws numbers that are refused: {rule_of(errors[0])}; {remedy}")
            return


def _range(document: Document, place: Path, leaf: Leaf, spec: ParameterSpec) -> Parameter | None:
    """A distribution, its kind inferred where it is not given, checked against what the leaf
    accepts. Where that is whole numbers and others (epochs, or a share of them), bounds that are
    both whole mean whole numbers.
    """
    if not leaf.numbers:
        document.add(place, "needs values: it is not a number")
        return None
    if spec.min is None or spec.max is None:
        document.add(
            place, f"needs min and max, but {'min' if spec.min is None else 'max'} is not given"
        )
        return None
    whole = "integer" in leaf.numbers and (
        "number" not in leaf.numbers or (spec.min.is_integer() and spec.max.is_integer())
    )
    kind: Distribution = spec.distribution or ("int_uniform" if whole else "uniform")
    is_int, is_log = kind.startswith("int_"), "log" in kind
    before = len(document.problems)
    if ("integer" if is_int else "number") not in leaf.numbers:
        fitting = [name for name in get_args(Distribution) if name.startswith("int_") == whole]
        document.add((*place, "distribution"), f"must be {' or '.join(fitting)}", kind)
    for bound in ("min", "max"):
        value = getattr(spec, bound)
        if is_int and not value.is_integer():
            document.add((*place, bound), "must be a whole number", value)
        else:
            _accepts(document, (*place, bound), leaf, int(value) if is_int else value)
    if is_int and len(document.problems) == before:
        _check_numbers_between(
            document,
            place,
            leaf,
            range(int(spec.min), int(spec.max) + 1, int(spec.step or 1)),
            stepped=not is_log,
        )
    if spec.min >= spec.max:
        document.add((*place, "max"), f"must be greater than min = {spec.min:g}", spec.max)
    if is_log and spec.min <= 0:
        document.add((*place, "min"), f"must be greater than 0 for {kind}", spec.min)
    if spec.step is not None and (
        is_log or (is_int and not spec.step.is_integer()) or spec.step > spec.max - spec.min
    ):
        rule = (
            f"has no meaning for {kind}"
            if is_log
            else "must fit between min and max" + (" and be a whole number" if is_int else "")
        )
        document.add((*place, "step"), rule, spec.step)
    if spec.axis == "cell" or (spec.axis is None and leaf.name in CELL_AXES):
        document.add(
            place,
            "a cell axis needs values: a range has no cells (axis: trial searches it within a"
            " cell)",
        )
    if len(document.problems) > before:
        return None
    return Parameter(distribution=kind, min=spec.min, max=spec.max, step=spec.step)
