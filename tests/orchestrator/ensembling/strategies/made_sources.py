"""Sources of random scores that are right more often than not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.ensembling.budgets import Budget
from orchestrator.ensembling.strategies.sources import Sources


def made(members=5, clips=120, classes=4, seed=0, digits=None, **fields: Any) -> Sources:
    """`digits`: logits are rounded, so that there are ties."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=clips)
    values = draw.normal(size=(members, clips, classes)).astype(np.float32)
    values[:, np.arange(clips), labels] += 1.2
    return of(values if digits is None else values.round(digits), labels, **fields)


def of(values: Any, labels: Any, **fields: Any) -> Sources:
    """Sources a, b, c, ... of these logits, read-only as in a sweep."""
    values, labels = np.array(values, np.float32), np.array(labels, np.int64)
    values.flags.writeable = labels.flags.writeable = False
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(values)])
    ids = tuple(f"clip-{i:04d}" for i in range(len(labels)))
    return Sources(names, values, labels, ids, {}, **fields)


def reordered(sources: Sources, order: Sequence[int]) -> Sources:
    """The same sources, the i-th being the `order[i]`-th of before."""
    return Sources(
        tuple(sources.members[i] for i in order),
        sources.values[list(order)],
        sources.labels,
        sources.ids,
        sources.given,
        tuple(sources.networks[i] for i in order),
        tuple(sources.families[i] for i in order),
        sources.combine,
        sources.budget,
    )


def costing(costs: Sequence[float], most: float) -> dict[str, Any]:
    """Fields of sources a, b, ... with a network each of such a size, and a limit."""
    names = "abcdefghijklmnopqrstuvwxyz"
    figures = {names[i]: {"nonzero_params": cost} for i, cost in enumerate(costs)}
    return {"budget": Budget({"nonzero_params": most}, figures)}
