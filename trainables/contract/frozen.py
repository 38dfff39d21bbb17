"""The base of everything that is written down once and never changed: configuration,
specifications, records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_jsonable_python


class Frozen(BaseModel):
    """Base of all configuration: immutable, strict about names, hashable by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    found: dict[str, Any] = {}
    before: dict[str, Any] = {}
    for name, info in type(value).model_fields.items():
        field = getattr(value, name)
        known = not info.is_required() and (derived or info.default_factory is None)
        if not known or field != info.get_default(call_default_factory=True, validated_data=before):
            found[name] = without_defaults(field, derived=derived)
        before[name] = field
    return found
