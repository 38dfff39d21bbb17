"""What may grow in a sweep that has run: more trials, more values, wider ranges. Its settings stay,
and with them what its trials are and which of them compete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.sweep.schema import Method, Parameter, Sweep

COUNTS = ("trials_per_cell", "seeds")
"""Of the method: they may become larger."""

GROWING = ("parameters", "method")
"""Parts of a sweep in which something may grow."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How one sweep differs from another in what may grow, a line per setting."""

    grew: tuple[str, ...]
    refused: tuple[str, ...]  # narrower, or another setting altogether


def growth(before: Sweep, now: Sweep) -> Growth:
    """What grew between two forms of a sweep; what did not grow but changed is refused."""
    lines = [*_of_method(before.method, now.method)]
    for name in dict.fromkeys((*before.parameters, *now.parameters)):
        old, new = before.parameters.get(name), now.parameters.get(name)
        if old is None or new is None:
            was = "is searched now and was not" if old is None else "was searched and is not now"
            lines.append((f"parameters.{name}: {was}", False))
        else:
            lines += _of_parameter(f"parameters.{name}", old, new)
    return Growth(
        tuple(text for text, grew in lines if grew),
        tuple(text for text, grew in lines if not grew),
    )


def _of_method(before: Method, now: Method) -> Iterator[tuple[str, bool]]:
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            larger = name in COUNTS and old is not None and new is not None and new > old
            yield _changed(f"method.{name}", old, new), larger


def _of_parameter(place: str, before: Parameter, now: Parameter) -> Iterator[tuple[str, bool]]:
    if before == now:
        return
    if before.axis != now.axis:
        yield _changed(f"{place}.axis", before.axis, now.axis), False
    elif before.values and now.values:
        old, new = ({json.dumps(each) for each in which.values} for which in (before, now))
        if old != new:
            yield _changed(f"{place}.values", before.values, now.values), old < new
    elif before.distribution is None or before.distribution != now.distribution:
        yield _changed(place, _said(before), _said(now)), False
    else:
        yield from _of_range(place, before, now)


def _of_range(place: str, before: Parameter, now: Parameter) -> Iterator[tuple[str, bool]]:
    if before.step != now.step:
        yield _changed(f"{place}.step", before.step, now.step), False
        return
    assert before.min is not None
    assert before.max is not None
    assert now.min is not None
    assert now.max is not None
    # steps are counted from min: what was drawn before must be among what is drawn now
    steps = 0.0 if before.step is None else (before.min - now.min) / before.step
    if before.min != now.min:
        whole = abs(steps - round(steps)) < 1e-6
        yield _changed(f"{place}.min", before.min, now.min), now.min < before.min and whole
    if before.max != now.max:
        yield _changed(f"{place}.max", before.max, now.max), now.max > before.max


def _said(parameter: Parameter) -> dict[str, Any]:
    return parameter.model_dump(mode="json", exclude_defaults=True, exclude={"axis"})


def _changed(place: str, before: Any, now: Any) -> str:
    old, new = (list(each) if isinstance(each, tuple) else each for each in (before, now))
    return f"{place}: was {old!r}, is now {new!r}"


def grown_part(sweep: Sweep) -> dict[str, Any]:
    """Those parts of the sweep, as JSON."""
    resolved = sweep.resolved()
    return {name: resolved[name] for name in GROWING}
