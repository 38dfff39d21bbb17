"""How often a network is called where its latency is measured. Knows no torch."""

from __future__ import annotations

import math

WARMUP_CALLS, WARMUP_S = 5, 0.2
"""At most so many, and no more once they have taken so long; at least one."""
FEWEST_CALLS, TIMED_CALLS, TIMED_S = 3, 30, 0.5
"""The same of those that count, and at least so many."""


def seconds_of_timing(call: float) -> float:
    """How long it takes where one call takes so many seconds."""
    warm = min(WARMUP_CALLS, max(1, math.ceil(WARMUP_S / call)))
    timed = min(TIMED_CALLS, max(FEWEST_CALLS, math.ceil(TIMED_S / call)))
    return (warm + timed) * call
