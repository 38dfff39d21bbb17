"""A temperature for each source, and what its weight multiplies once its logits are divided by it.

T is where the log-loss of softmax(x / T) on the selection clips is least (Guo et al. 2017): above 1
for a source that is surer than it is right. Of the test clips nothing is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import summands
from orchestrator.ensembling.spill import part_of_each, release
from orchestrator.ensembling.strategies.sources import Sources
from trainables.contract.errors import UserError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

CHANGES_NOTHING = "must be false where normalised logits are summed: it changes none"
LARGEST = 20.0  # temperature, and 1 / LARGEST is the smallest


@dataclass(frozen=True, eq=False, slots=True)
class Softened:
    """Sources whose logits are divided by a temperature each, (S,)."""

    sources: Sources
    temperatures: Floats

    @classmethod
    def of(cls, sources: Sources, fitted: bool) -> Softened:
        """With their best temperatures, or with 1; UserError where temperatures say nothing."""
        ones = np.ones(len(sources.members), np.float32)
        if not fitted:
            return cls(sources, ones)
        if not len(sources.labels):
            raise UserError("temperature: must have clips that were held out, got none")
        if sources.combine == "normalised":
            raise UserError(f"temperature: {CHANGES_NOTHING}")
        for source, logits in enumerate(sources.values):
            ones[source] = best_temperature(logits, sources.labels)
            release(sources.values)
        return cls(sources, ones)

    def summands(self, which: slice | int, clips: slice) -> Floats:
        """What the weights multiply, (S, n, K) or (n, K)."""
        values = self.sources.values
        logits = (
            part_of_each(values, which, clips) if isinstance(which, slice) else values[which, clips]
        )
        if (self.temperatures != 1).any():
            logits = logits / self.temperatures[which, ..., None, None]
        shares = summands(logits, self.sources.combine)
        release(values)
        return shares

    def named(self) -> dict[str, float]:
        """By source, of those other than 1."""
        return {
            name: float(temperature)
            for name, temperature in zip(self.sources.members, self.temperatures, strict=True)
            if temperature != 1
        }


def best_temperature(logits: Floats, labels: Integers) -> float:
    """Where the log-loss of softmax(logits / T) is least, between 1 / 20 and 20.

    In 1 / T the log-loss is convex: its slope, mean(E[x] - x at the label), is searched for 0.
    """
    from scipy.optimize import brentq

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels].mean()

    def slope(sharpness: float) -> float:
        powers = np.exp(shifted * sharpness)
        return float(((powers * shifted).sum(axis=1) / powers.sum(axis=1)).mean() - own)

    if slope(1 / LARGEST) >= 0:
        return LARGEST
    if slope(LARGEST) <= 0:
        return 1 / LARGEST
    return 1 / float(brentq(slope, 1 / LARGEST, LARGEST, xtol=1e-6))
