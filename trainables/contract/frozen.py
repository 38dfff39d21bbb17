"""The base of everything that is written down once and never changed: configuration,
specifications, records.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python


class Frozen(BaseModel):
    """Base of all configuration: immutable, strict about names, hashable by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Record = TypeVar("Record", bound=Frozen)
Answer = TypeVar("Answer")


def once_each(method: Callable[[Record], Answer]) -> Callable[[Record], Answer]:
    """A method of a record that is computed once for each object, as the record never changes; a
    copy of the object is another one. The answer is kept as long as the object, not to be changed.
    """
    known: dict[int, tuple[weakref.ref[Record], Answer]] = {}

    @wraps(method)
    def asked(record: Record) -> Answer:
        place = id(record)
        kept = known.get(place)
        if kept is not None and kept[0]() is record:
            return kept[1]
        answer = method(record)
        known[place] = (weakref.ref(record, lambda _: known.pop(place, None)), answer)
        return answer

    return asked


def without_defaults(value: Any, *, derived: bool = True) -> Any:
    """JSON form of a record, and of what it holds, without the fields that have their default.

    What names a record by its content is made of this form, so that a field that a later version
    adds changes no name that was given before. derived: False for a record with fields that are
    not filled in yet: then fields whose default depends on others are always written.
    """
    if isinstance(value, Mapping):
        return {str(key): without_defaults(each, derived=derived) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_defaults(each, derived=derived) for each in value]
    if not isinstance(value, Frozen):
        return to_jsonable_python(value)
    changed: dict[str, Any] = {}
    before: dict[str, Any] = {}
    for name, default in _defaults(type(value)):
        field = getattr(value, name)
        known = default is not None and (derived or not default.is_derived)
        if default is None or not known or field != default(before):
            changed[name] = without_defaults(field, derived=derived)
        before[name] = field
    return changed


@dataclass(frozen=True, slots=True)
class _Default:
    """What a field holds unless it is given: as `FieldInfo.get_default`, which looks at the
    signature of a factory at every call.
    """

    info: FieldInfo
    looks_at_others: bool

    @property
    def is_derived(self) -> bool:
        return self.info.default_factory is not None

    def __call__(self, before: Mapping[str, Any]) -> Any:
        factory: Any = self.info.default_factory
        if factory is None:
            return self.info.default
        return factory(before) if self.looks_at_others else factory()


@cache
def _defaults(record: type[Frozen]) -> tuple[tuple[str, _Default | None], ...]:
    """Of each field in order; None: it must be given."""
    return tuple(
        (
            name,
            None
            if info.is_required()
            else _Default(info, bool(info.default_factory_takes_validated_data)),
        )
        for name, info in record.model_fields.items()
    )
