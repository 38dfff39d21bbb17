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


def without_defaults(value: Any) -> Any:
    """JSON form of a record, and of what it holds, without the fields that have their default.

    What names a record by its content is made of this form, so that a field that a later version
    adds changes no name that was given before.
    """
    if isinstance(value, Mapping):
        return {str(key): without_defaults(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_defaults(each) for each in value]
    if not isinstance(value, Frozen):
        return to_jsonable_python(value)
    found: dict[str, Any] = {}
    before: dict[str, Any] = {}
    for name, info in type(value).model_fields.items():
        field = getattr(value, name)
        default = info.get_default(call_default_factory=True, validated_data=before)
        if info.is_required() or field != default:
            found[name] = without_defaults(field)
        before[name] = field
    return found
