"""Which nodes of a cluster are given no more trials: a decision on where attempts of trials have
failed and where they got on. Knows no Ray.

A trial that fails is the trial's own fault or its node's, and one failure does not tell which. So a
node on which an attempt failed is suspected: for a while others are preferred, and what happens to
the same trials there decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

SUSPECTED_S = 60.0
"""So long after a failure new trials rather go elsewhere, unless the node is cleared before; twice
as long for every failure in a row without an epoch, so that epochs that take long end elsewhere
before it has failed many.
"""
LONGEST_SUSPECTED_S = 600.0
WITHIN_S = 1800.0
"""Failures that are further back are forgotten."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that is given up."""

    node: str
    reason: str  # in words
    failures: dict[str, int]  # trial -> attempts that ended there, which are not its own fault


@dataclass(slots=True)
class _Node:
    """What happened on a node since a trial last finished there."""

    failures: list[tuple[float, str]] = field(default_factory=list)  # when, which trial
    row: list[tuple[float, str]] = field(default_factory=list)  # those since the last epoch
    proofs: set[str] = field(default_factory=set)  # trials that failed here and got on elsewhere
    suspected_until: float = 0.0


class FailingNodes:
    """Watches attempts of trials; times are seconds of a clock that never goes back.

    A node is given up where so many different trials failed on it and then got on elsewhere, or so
    many in a row with no epoch in between while other nodes got on (one that failed on another node
    as well counts half), and none has finished there since the first of them failed.
    """

    def __init__(self, enough: int | Literal["never"] = 3, excluded: Collection[str] = ()) -> None:
        """enough: so many trials. excluded: nodes that were given up before."""
        self._enough = enough
        self.excluded = set(excluded)
        self._nodes: dict[str, _Node] = {}
        self._where: dict[str, str] = {}  # trial -> the node of its attempt
        self._at_fault: set[str] = set()  # trials that failed on several nodes, and did not get on
        self._got_on: dict[str, float] = {}  # node -> when an epoch last ended there

    def started(self, trial: str, node: str | None) -> None:
        """An attempt of it begins; None: nobody knows where."""
        self._where.pop(trial, None)
        if node is not None:
            self._where[trial] = node

    def where(self, trial: str) -> str | None:
        """The node of its attempt, until that has ended; None: nobody knows where."""
        return self._where.get(trial)

    def got_on(self, trial: str, now: float) -> Excluded | None:
        """It has finished an epoch; a node that is given up by that."""
        here = self._where.get(trial)
        if here is None:
            return None
        first = here not in self._got_on
        self._got_on[here] = now
        self._at_fault.discard(trial)
        if here in self._nodes:
            failed_here = self._nodes[here]
            failed_here.row.clear()
            failed_here.suspected_until = min(failed_here.suspected_until, now + SUSPECTED_S)
            if first:
                for failed in {each for _, each in failed_here.failures} - {trial}:
                    self._absolve_others(here, failed)
        for name, node in self._nodes.items():
            if name == here or name in self.excluded:
                continue
            if any(failed == trial for _, failed in node.failures):
                node.proofs.add(trial)
                if self._are_enough(node.proofs):
                    return self._give_up(name, now)
        return self._suspected_row(now)

    def finished(self, trial: str) -> None:
        """It has a result: where it ran, trials can be run."""
        here = self._where.pop(trial, None)
        if here is not None:
            self._nodes.pop(here, None)

    def ended(self, trial: str) -> None:
        """Its attempt is over in another way."""
        self._where.pop(trial, None)

    def failed(self, trial: str, now: float) -> Excluded | None:
        """Its attempt failed for a reason of its own or of its node; a node that is given up."""
        here = self._where.pop(trial, None)
        if here is None or here in self.excluded or self._enough == "never":
            return None
        if here in self._got_on:
            self._absolve_others(here, trial)
        if trial in self._at_fault:
            return None
        node = self._nodes.setdefault(here, _Node())
        recent = [each for each in node.failures if now - each[0] <= WITHIN_S]
        node.failures = [*recent, (now, trial)]
        node.row = [*(each for each in node.row if now - each[0] <= WITHIN_S), (now, trial)]
        node.proofs &= {failed for _, failed in node.failures}
        suspected_s = SUSPECTED_S * 2.0 ** min(len(node.row) - 1, 10)
        node.suspected_until = now + min(suspected_s, LONGEST_SUSPECTED_S)
        return self._suspected_row(now)

    def avoided(self, now: float, usable: Callable[[], Collection[str]]) -> frozenset[str]:
        """Nodes that no trial is to be put on now. usable: says which could hold one; some of them
        are always left.
        """
        suspected = {name for name, node in self._nodes.items() if node.suspected_until > now}
        if not suspected | self.excluded:
            return frozenset()
        there = set(usable())
        for avoided in (self.excluded | suspected, self.excluded):
            if there - avoided:
                return frozenset(avoided & there)
        return frozenset()

    def _absolve_others(self, here: str, trial: str) -> None:
        """The trial failed on `here` as well, where epochs end: it is at fault itself. Of a node
        where none has ended that is not known: two broken ones do not absolve each other.
        """
        for name, node in self._nodes.items():
            if name != here and self._clear(node, trial):
                self._at_fault.add(trial)

    def _clear(self, node: _Node, trial: str) -> bool:
        """The trial fails elsewhere as well: its failures, if there are any, say nothing of
        `node`.
        """
        if trial in node.proofs or not any(failed == trial for _, failed in node.failures):
            return False
        node.failures = [each for each in node.failures if each[1] != trial]
        node.row = [each for each in node.row if each[1] != trial]
        if not node.failures:
            node.suspected_until = 0.0
        return True

    def _suspected_row(self, now: float) -> Excluded | None:
        for name, node in self._nodes.items():
            if name in self.excluded or not self._is_enough_of_a_row(name, node):
                continue
            began = node.row[0][0]
            if any(when > began for other, when in self._got_on.items() if other != name):
                return self._give_up(name, now)
        return None

    def _is_enough_of_a_row(self, name: str, node: _Node) -> bool:
        """A trial that failed on another node as well counts half: it may be at fault itself."""
        others = [each for other, each in self._nodes.items() if other != name]
        elsewhere = {trial for each in others for _, trial in each.failures}
        row = {trial for _, trial in node.row}
        if self._enough == "never":
            return False
        return len(row) >= self._enough and len(row) + len(row - elsewhere) >= 2 * self._enough

    def _are_enough(self, trials: Collection[str]) -> bool:
        return self._enough != "never" and len(trials) >= self._enough

    def _give_up(self, name: str, now: float) -> Excluded:
        node = self._nodes.pop(name)
        self.excluded.add(name)
        failures: dict[str, int] = {}
        for _, trial in node.failures:
            failures[trial] = failures.get(trial, 0) + 1
        number, trials = len(node.failures), len(failures)
        minutes = max(1, round((now - node.failures[0][0]) / 60))
        reason = (
            f"{number} attempts of {trials} trials failed there within {minutes} min, and trials"
            " get on elsewhere"
        )
        return Excluded(name, reason, failures)
