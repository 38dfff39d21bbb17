"""What trials have taken corrects what is expected of others of their kind. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from orchestrator.record.times import Factor, Times
from trainables.contract.config import TrialConfig


def kind_of(config: TrialConfig) -> str:
    """`st_gcn/nested/rigl/fast`: networks of one kind miss what is expected of them alike. Later
    parts matter less; plain steps have none of that name, as what was noted before there were fast
    ones.
    """
    sparsity = config.sparsity
    parts = [config.model.backbone, sparsity.network]
    parts.append("dense" if sparsity.dense else sparsity.generator)
    return "/".join([*parts, *(["fast"] if config.train.fast == "auto" else [])])


@dataclass(frozen=True)
class Correction:
    """Factors by kind, and of how many trials they are."""

    kinds: Mapping[str, Factor] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        """How many trials it rests on."""
        return sum(each.trials for each in self.kinds.values())

    def of(self, kind: str) -> float:
        """What is expected of such a trial is to be multiplied by it: the factor of its kind, or
        the median of those kinds that share the most parts with it; 1 where nothing is known.
        """
        if kind in self.kinds:
            return self.kinds[kind].factor
        parts = kind.split("/")
        for length in range(len(parts), -1, -1):
            alike = [
                each.factor
                for other, each in self.kinds.items()
                if other.split("/")[:length] == parts[:length]
            ]
            if alike:
                return median(alike)
        return 1.0

    def over(self, earlier: Correction) -> Correction:
        """This one where it knows a kind, the earlier one elsewhere."""
        return Correction({**earlier.kinds, **self.kinds})


def correction_of(earlier: Iterable[Times]) -> Correction:
    """What several sweeps have shown together: the median of their factors, of each kind."""
    factors: dict[str, list[Factor]] = {}
    for times in earlier:
        for kind, factor in times.kinds.items():
            factors.setdefault(kind, []).append(factor)
    return Correction(
        {
            kind: Factor(sum(each.trials for each in found), median(e.factor for e in found))
            for kind, found in factors.items()
        }
    )


REMEMBERED = 99
"""Trials of a kind whose median counts, the last ones."""


class Observations:
    """What the trials of a running sweep have taken so far."""

    def __init__(self, before: Correction | None = None) -> None:
        """before: what those of its earlier runs have, which count as if each had been alike."""
        known = {} if before is None else before.kinds
        self._counts = Counter({kind: each.trials for kind, each in known.items()})
        self._ratios = {
            kind: deque([each.factor] * min(each.trials, REMEMBERED), maxlen=REMEMBERED)
            for kind, each in known.items()
            if each.trials
        }

    def add(self, kind: str, expected: float, used: float) -> None:
        """A trial of that kind has ended; both in seconds. Nothing is learned of none."""
        if expected > 0 and used > 0:
            self._ratios.setdefault(kind, deque(maxlen=REMEMBERED)).append(used / expected)
            self._counts[kind] += 1

    def correction(self) -> Correction:
        """What they have shown."""
        return Correction(
            {
                kind: Factor(self._counts[kind], median(ratios))
                for kind, ratios in self._ratios.items()
            }
        )
