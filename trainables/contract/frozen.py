"""The base of everything that is written down once and never changed: configuration,
specifications, records.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all configuration: immutable, strict about names, hashable by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
