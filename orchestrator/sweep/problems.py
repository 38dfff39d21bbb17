"""What pydantic found wrong, in the house's words: place, rule, value, nearest known name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from orchestrator.sweep.document import Document, Path, show

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("must be at least {}", "ge"),
    "greater_than": ("must be greater than {}", "gt"),
    "less_than_equal": ("must be at most {}", "le"),
    "less_than": ("must be less than {}", "lt"),
    "string_too_long": ("must have at most {} characters", "max_length"),
}
_WHOLE = {
    "extra_forbidden": "unknown key",
    "missing": "required, but not given",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": (
        "must be letters, digits, '-', '_' and '.', beginning with a letter or digit"
    ),
}
DISCRIMINATORS = ("name", "type", "method")
"""Where one of these names something that does not exist, its neighbours are not judged: they
belong to it.
"""


def nearest(word: Any, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for a near miss, of equally near ones the first; else nothing. The only
    one that goes on from the word is nearest.
    """
    known = list(known)
    longer = [each for each in known if len(str(word)) >= 4 and each.startswith(f"{word}_")]
    if len(longer) == 1:
        return f", did you mean '{longer[0]}'?"
    near = sorted(difflib.get_close_matches(str(word), known, n=3, cutoff=0.6))
    close = [difflib.SequenceMatcher(None, each, str(word)).ratio() for each in near]
    return f", did you mean '{near[close.index(max(close))]}'?" if near else ""


def one_of(known: Sequence[str]) -> str:
    """`must be a, b or c`."""
    return f"must be {' or '.join(filter(None, [', '.join(known[:-1]), known[-1]]))}"


def rule_of(error: ErrorDetails) -> str:
    """The rule that was broken, without the value."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _WHOLE:
        return _WHOLE[kind]
    if kind in _BOUNDS:
        pattern, bound = _BOUNDS[kind]
        limit = context[bound]
        return pattern.format(int(limit) if float(limit).is_integer() else limit)
    if kind == "literal_error":
        return one_of(re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]])
    if kind == "value_error":
        return str(context["error"])
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "must be a mapping (key: value)"
    stem = kind.removesuffix("_type").removesuffix("_parsing")
    if stem in _KINDS:
        return f"must be {_KINDS[stem]}"
    return error["msg"][:1].lower() + error["msg"][1:]


def report(document: Document, base: Path, errors: Sequence[ErrorDetails], annotation: Any) -> None:
    """Add pydantic's errors below `base` to the document's problems; the models in `annotation`
    give known keys for suggestions.
    """
    errors = [_of_tag(error) for error in errors]
    misnamed = {
        tuple(e["loc"][:-1])
        for e in errors
        if e["type"] in ("literal_error", "value_error")
        and e["loc"]
        and e["loc"][-1] in DISCRIMINATORS
    }
    for location, group in _by_location(document, base, errors).items():
        kinds = {error["type"] for error in group}
        if kinds <= {"extra_forbidden", "missing"} and tuple(group[0]["loc"][:-1]) in misnamed:
            continue
        if "too_short" in kinds and document.lookup(location):
            continue  # its items are wrong, and reported as such
        first = group[0]
        rules = list(dict.fromkeys(rule_of(error) for error in group))
        rule = (
            rules[0]
            if len(rules) == 1
            else " or ".join([rules[0], *(rule.removeprefix("must be ") for rule in rules[1:])])
        )
        if "extra_forbidden" in kinds:
            document.add(
                location, rule + nearest(location[-1], _known_keys(annotation, first["loc"][:-1]))
            )
        elif "missing" in kinds or re.search(r"(, got | but )", rule):
            listed = re.match(r"must be one of (.+?)(?: or a record)?, got ", rule)
            document.add(
                location,
                rule
                + (nearest(document.lookup(location), listed[1].split(", ")) if listed else ""),
            )
        elif "literal_error" in kinds:
            options = [
                option
                for error in group
                for option in re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
            ]
            document.add(
                location,
                f"{rule}, got"
                f" {show(document.lookup(location))}{nearest(document.lookup(location), options)}",
            )
        else:
            document.add(location, rule, document.lookup(location))


def _of_tag(error: ErrorDetails) -> ErrorDetails:
    """The error; one on the tag that tells the members of a union apart as one on that key."""
    kinds = {"union_tag_invalid": "literal_error", "union_tag_not_found": "missing"}
    if error["type"] not in kinds:
        return error
    context = error["ctx"]
    place = (*error["loc"], context["discriminator"].strip("'"))
    expected = {"expected": context.get("expected_tags", "")}
    return {**error, "type": kinds[error["type"]], "loc": place, "ctx": expected}


def _by_location(
    document: Document, base: Path, errors: Sequence[ErrorDetails]
) -> dict[Path, list[ErrorDetails]]:
    """Errors by path in the document.

    A union reports each of its branches, with the branch's name in the location: the branch that
    got deepest is the one meant.
    """
    grouped: dict[Path, list[ErrorDetails]] = {}
    unions: set[Path] = set()
    for error in errors:
        path, last = base, len(error["loc"]) - 1
        for position, part in enumerate(error["loc"]):
            present = document.lookup((*path, part)) is not None or (*path, part) in document.places
            if present or (position == last and error["type"] == "missing"):
                path = (*path, part)
            else:
                unions.add(path)
        grouped.setdefault(path, []).append(error)
    deeper = {
        union
        for union in unions
        if any(path[: len(union)] == union and path != union for path in grouped)
    }
    return {path: group for path, group in grouped.items() if path not in deeper}


def _known_keys(annotation: Any, location: Sequence[str | int]) -> list[str]:
    """Keys a mapping at `location` may have, which names the member of a union by its tag."""
    models = _models_in(annotation)
    for part in location:
        if isinstance(part, int):
            continue
        tagged = [model for model in models if _is_tag_of(part, model)]
        if tagged:
            models = tagged
            continue
        fields: list[Any] = [
            m.model_fields[name].annotation
            for m in models
            for name in m.model_fields
            if _name(m, name) == part
        ]
        inside = [found for annotation in fields for found in _models_in(annotation)]
        models = inside or [m for m in models if not fields]
    return [_name(m, name) for m in models for name in m.model_fields]


def _is_tag_of(part: str, model: type[BaseModel]) -> bool:
    fields = [model.model_fields[key] for key in DISCRIMINATORS if key in model.model_fields]
    return any(get_args(field.annotation) == (part,) for field in fields)


def _name(model: type[BaseModel], field: str) -> str:
    """The key in the file of a model's field."""
    return model.model_fields[field].alias or field


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def mapping_or_none(document: Document, path: Path) -> Mapping[str, Any] | None:
    """The mapping at `path`, empty if absent or null; None, with a problem noted, if it is
    something else.
    """
    value = document.lookup(path)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        document.add(path, "must be a mapping (key: value)", value)
        return None
    return value
