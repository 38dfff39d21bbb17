"""Which sources a growing sum may take next: those within the budget and the cap per family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.strategies.sources import Sources
from trainables.contract.errors import UserError

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

NOTHING = 1e-9  # so that 3 times a third is 1
PARTS = (2, 3, 4)
"""Into so many sources a budget is shared out, beside being left to a single one."""


def cap_problem(cap: float, families: int, rounds: int) -> str:
    """Why no sum of at most that many sources, of that many families, keeps the cap; else empty."""
    least = math.ceil(1 / cap - NOTHING)  # families in a sum that keeps it
    for name, most, what in (("families", families, ""), ("rounds", rounds, ", or more rounds")):
        if least > most:
            return f"must be at least 1 / {most} with {most} {name}{what}, got {cap:g}"
    return ""


@dataclass(frozen=True, eq=False, slots=True)
class Rules:
    """What a sum of sources must keep: it is a list of their numbers, one as often as it counts."""

    sources: Sources
    families: Integers  # (S,), numbered
    cap: float  # the most a family may have of the weight
    allowed: Bools  # (S,)
    spent: frozenset[str] = frozenset()  # networks that are paid for
    # by the networks that are paid for: which sources the budget admits beside them, (S,)
    beside: dict[frozenset[str], Bools] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Sources, cap: float, rounds: int) -> Rules:
        """UserError for a cap that no sum of so many sources keeps."""
        _, families = np.unique(sources.families, return_inverse=True)
        if problem := cap_problem(cap, len(set(sources.families)), rounds):
            raise UserError(f"cap: {problem}")
        return cls(sources, families, cap, np.ones(len(families), np.bool_))

    def among(self, allowed: Bools) -> Rules:
        """The same for these sources only."""
        return replace(self, allowed=allowed)

    def spend(self, bag: Sequence[int]) -> Rules:
        """The same once the networks of these sources are paid for."""
        return replace(self, spent=self._networks(bag))

    def admitted(self, bag: Sequence[int]) -> Bools:
        """Which sources may be added, (S,).

        Those whose family then keeps the cap; where there is none, those whose family would keep it
        with its share rounded up: one source alone has all of the weight.
        """
        affordable = self.allowed & self._affordable(bag)
        counts = np.bincount(self.families[list(bag)], minlength=self.families.max() + 1)
        share = self.cap * (len(bag) + 1)
        grown = counts[self.families] + 1
        strict = affordable & (grown <= share + NOTHING)
        return strict if strict.any() else affordable & (grown <= math.ceil(share - NOTHING))

    def kept(self, bag: Sequence[int]) -> bool:
        """Whether no family has more than its share."""
        return bool(np.bincount(self.families[list(bag)]).max() <= self.cap * len(bag) + NOTHING)

    def why_empty(self) -> str:
        """Why no sum keeps the rules, in words."""
        budget, sources = self.sources.budget, self.sources
        dear = {
            name: budget.excess(networks)
            for name, networks in zip(sources.members, sources.networks, strict=True)
        }
        if all(dear.values()):
            networks = dict(zip(sources.members, sources.networks, strict=True))
            name = min(networks, key=lambda each: budget.share(networks[each]))
            return f"budget: must let in one source, but of {name}, the smallest, {dear[name]}"
        return (
            f"budget and cap: must be kept by a sum of sources, but no sum of those within the"
            f" budget keeps the cap {self.cap:g}"
        )

    def beginnings(self) -> Iterator[Rules]:
        """The same for all sources, for those that leave room for another one, and for those that
        fit twice, three and four times into the budget. What the best source costs may be spent
        better on several smaller ones, and a sum that begins with it never finds out.
        """
        yield self
        budget, networks = self.sources.budget, self.sources.networks
        if not budget.limits:
            return
        cheapest = min(networks, key=budget.share)
        alone = np.array([budget.share(each) for each in networks])
        beside = np.array([budget.share(each | cheapest) for each in networks])
        before = len(networks)
        for small in (beside <= 1, *(alone <= 1 / parts for parts in PARTS)):
            if 2 <= small.sum() < before:
                before = int(small.sum())
                yield self.among(small)

    def share(self, weights: npt.NDArray[np.float64]) -> float:
        """How much of the budget the networks of all sources with a weight take."""
        return self.sources.budget.share(self._networks(np.flatnonzero(weights).tolist()))

    def _affordable(self, bag: Sequence[int]) -> Bools:
        """Which sources the budget admits beside those of the bag, (S,)."""
        budget, paid = self.sources.budget, self._networks(bag)
        if paid not in self.beside:  # most rounds add a source that is in the bag already
            admits = [each <= paid or budget.fits(paid | each) for each in self.sources.networks]
            self.beside[paid] = np.array(admits, np.bool_)
        return self.beside[paid]

    def _networks(self, bag: Sequence[int]) -> frozenset[str]:
        return self.spent.union(*(self.sources.networks[source] for source in bag))
