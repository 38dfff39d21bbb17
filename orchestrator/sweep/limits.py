"""What an ensemble may cost, as a file or a command line says it: numbers, or shares of what the
dense network costs.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from trainables.contract.config import Frozen

SHARE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)x")
"""`0.66x`: so many times what the dense network has."""


def _limit(value: Any) -> float | str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and value > 0:
        return float(value)
    if isinstance(value, str) and share_of(value):
        return value
    raise ValueError(
        "must be a number above 0, or a share of the dense network's such as 0.66x, got"
        f" {value if number else repr(value)}"
    )


Limit = Annotated[
    float | str,
    BeforeValidator(_limit),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": f"^{SHARE.pattern}$"},
            ]
        }
    ),
]


class EnsembleBudget(Frozen):
    """What the networks of one ensemble may cost together; the default is no limit."""

    # non-zero parameters of the deploy forms: a number, or 0.66x of the dense network's
    nonzero_params: Limit | None = None
    # of one clip, the networks one after the other: a number, or 1x of the dense network's
    latency_ms: Limit | None = None
    sparse_latency_ms: Limit | None = None  # the same on kept weights alone
    members: Annotated[int, Field(ge=1)] | None = None  # networks
    # of the deploy forms' files: a number, or 0.66x of the dense network's
    bytes: Limit | None = None

    @property
    def given(self) -> dict[str, float | str]:
        """The limits there are, by measure."""
        return self.model_dump(exclude_none=True)


def share_of(limit: float | str) -> float | None:
    """0.66 of `0.66x`; None for anything else, 0x too."""
    match = SHARE.fullmatch(limit) if isinstance(limit, str) else None
    return float(match[1]) or None if match else None
