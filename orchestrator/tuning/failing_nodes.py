"""Which nodes of a cluster are given no more trials: a decision on where attempts of trials have
failed and where they got on. Knows no Ray.

A trial that fails is the trial's own fault or its node's, and one failure does not tell which. So a
node on which an attempt failed is suspected: for a while others are preferred, and what happens to
the same trials there decides. All waiting follows the length of epochs, as only they tell anything.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

SUSPECTED_S, SUSPECTED_EPOCHS = 60.0, 1.5
"""So long after a failure (the longer of both) new trials rather go elsewhere, unless the node is
cleared before; twice as long for every failure in a row without an epoch, so that epochs elsewhere
end before it has failed many.
"""
LONGEST_SUSPECTED_S, LONGEST_SUSPECTED_EPOCHS = 600.0, 4.0
WITHIN_S, WITHIN_EPOCHS = 1800.0, 50.0
"""Failures that are further back than both are forgotten."""
BY_CHANCE = 0.01
"""So unlikely a row of failures must be at the rate at which trials fail elsewhere."""
USUAL_OF = 100
"""The usual epoch is the median of so many last ones."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that is given up."""

    node: str
    reason: str  # in words
    failures: dict[str, int]  # trial -> attempts that ended there, which are not its own fault


@dataclass(slots=True)
class _Node:
    """What happened on a node; times are seconds."""

    failures: list[tuple[float, str]] = field(default_factory=list)  # when, which trial
    row: list[tuple[float, str]] = field(default_factory=list)  # those since the last epoch
    # trials that failed here and got further elsewhere, less one for each that finished here since
    proofs: list[str] = field(default_factory=list)
    suspected_until: float = 0.0
    got_on: float | None = None  # when an epoch last ended here
    trusted: bool = True  # no failure here since an epoch of another trial
    tried: set[str] = field(default_factory=set)  # trials that failed or got on here
    failed: set[str] = field(default_factory=set)  # of those, the ones that failed here

    def forget_before(self, when: float) -> None:
        """Failures further back."""
        self.failures = [each for each in self.failures if each[0] >= when]
        self.row = [each for each in self.row if each[0] >= when]
        left = {trial for _, trial in self.failures}
        self.proofs = [trial for trial in self.proofs if trial in left]


class FailingNodes:
    """Watches attempts of trials; times are seconds of a clock that never goes back.

    A node is given up where so many different trials failed on it and then got further elsewhere,
    less one for each that finished there since. Or where one did, and so many failed there in a
    row, with no epoch in between while others got on, that it can't be chance at the rate at which
    trials fail on the best other node. A row alone proves nothing: trials that fail by themselves
    may come one after another, as those of one cell of a grid do.

    A trial that fails on a node that is above suspicion (an epoch of another trial has ended there
    since its last failure), or where one ends next, is at fault itself until it gets further: it
    counts in no row elsewhere. A node that breaks after epochs is wrong about one trial that way.
    """

    def __init__(self, enough: int | Literal["never"] = 3, excluded: Collection[str] = ()) -> None:
        """enough: so many trials. excluded: nodes that were given up before."""
        self._enough = enough
        self.excluded = set(excluded)
        self._nodes: dict[str, _Node] = {}
        self._where: dict[str, str] = {}  # trial -> the node of its attempt
        self._reached: dict[str, int] = {}  # trial -> the last epoch that it has ever finished
        self._last: dict[str, float] = {}  # trial -> when its attempt last finished an epoch
        self._epochs: deque[float] = deque(maxlen=USUAL_OF)  # how long they took
        self._blamed: dict[str, set[str]] = {}  # trial -> trusted nodes on which it failed as well

    def started(self, trial: str, node: str | None) -> None:
        """An attempt of it begins; None: nobody knows where."""
        self._leaves(trial)
        if node is not None:
            self._where[trial] = node

    def where(self, trial: str) -> str | None:
        """The node of its attempt, until that has ended; None: nobody knows where."""
        return self._where.get(trial)

    def got_on(self, trial: str, epoch: int, now: float) -> Excluded | None:
        """It has finished that epoch (0-based); a node that is given up by that."""
        here = self._where.get(trial)
        if here is None or self._enough == "never":
            return None
        if trial in self._last:
            self._epochs.append(now - self._last[trial])
        self._last[trial] = now
        self._forget(now)
        if here not in self.excluded:  # what still runs there is no measure for other nodes
            self._is_well(here, trial, now)
        if epoch > self._reached.get(trial, -1):
            self._reached[trial] = epoch
            proven = self._got_further(trial, here, now)
            if proven is not None:
                return proven
        return self._given_up_for_a_row(now)

    def finished(self, trial: str) -> None:
        """It has a result: where it ran, trials can be run."""
        here = self._leaves(trial)
        self._reached.pop(trial, None)
        self._blamed.pop(trial, None)
        node = None if here is None else self._nodes.get(here)
        if node is None:
            return
        node.row.clear()
        if node.proofs:
            taken_back = node.proofs.pop(0)
            node.failures = [each for each in node.failures if each[1] != taken_back]

    def ended(self, trial: str) -> None:
        """Its attempt is over in another way."""
        self._leaves(trial)

    def gone(self, trial: str) -> None:
        """It is tried no more."""
        self._leaves(trial)
        self._reached.pop(trial, None)

    def failed(self, trial: str, now: float) -> Excluded | None:
        """Its attempt failed for a reason of its own or of its node; a node that is given up."""
        here = self._leaves(trial)
        if here is None or here in self.excluded or self._enough == "never":
            return None
        self._forget(now)
        node = self._nodes.setdefault(here, _Node())
        if node.trusted and node.got_on is not None:
            self._blamed.setdefault(trial, set()).add(here)
            self._trust_again()
        node.trusted = False
        node.tried.add(trial)
        node.failed.add(trial)
        node.failures.append((now, trial))
        node.row.append((now, trial))
        if not self._is_blamed(trial, here):
            suspected_s = self._longer(SUSPECTED_S, SUSPECTED_EPOCHS)
            suspected_s *= 2.0 ** min(len(node.row) - 1, 10)
            longest_s = self._longer(LONGEST_SUSPECTED_S, LONGEST_SUSPECTED_EPOCHS)
            node.suspected_until = now + min(suspected_s, longest_s)
        return self._given_up_for_a_row(now)

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

    def _longer(self, seconds: float, epochs: float) -> float:
        """The longer of both, in seconds."""
        return max(seconds, epochs * median(self._epochs)) if self._epochs else seconds

    def _leaves(self, trial: str) -> str | None:
        """Its attempt is over; the node of that."""
        self._last.pop(trial, None)
        return self._where.pop(trial, None)

    def _forget(self, now: float) -> None:
        """Failures that are too far back, and what was said of trials that have no others."""
        when = now - self._longer(WITHIN_S, WITHIN_EPOCHS)
        old = [
            node for node in self._nodes.values() if node.failures and node.failures[0][0] < when
        ]
        if not old:
            return
        for node in old:
            node.forget_before(when)
        left = {trial for node in self._nodes.values() for _, trial in node.failures}
        self._blamed = {trial: nodes for trial, nodes in self._blamed.items() if trial in left}

    def _is_well(self, name: str, trial: str, now: float) -> None:
        """An epoch of it has ended there."""
        node = self._nodes.setdefault(name, _Node())
        node.got_on = now
        node.tried.add(trial)
        for failed in {each for _, each in node.row} - {trial}:
            self._blamed.setdefault(failed, set()).add(name)
        node.row.clear()
        node.trusted = node.trusted or not node.failures or node.failures[-1][1] != trial
        node.suspected_until = min(node.suspected_until, now + SUSPECTED_S)

    def _is_blamed(self, trial: str, node: str) -> bool:
        """Whether it failed on a trusted node besides this one: it is at fault itself."""
        return bool(self._blamed.get(trial, set()) - {node})

    def _trust_again(self) -> None:
        """Nodes on which only trials have failed that are at fault themselves."""
        for name, node in self._nodes.items():
            if all(self._is_blamed(trial, name) for _, trial in node.failures):
                node.suspected_until = 0.0

    def _got_further(self, trial: str, here: str, now: float) -> Excluded | None:
        """It has got further than ever: its failures elsewhere were not its own fault."""
        self._blamed.pop(trial, None)
        for name, node in self._nodes.items():
            if name == here or not any(failed == trial for _, failed in node.failures):
                continue
            if trial not in node.proofs:
                node.proofs.append(trial)
            if self._enough != "never" and len(node.proofs) >= self._enough:
                return self._give_up(name, now)
        return None

    def _given_up_for_a_row(self, now: float) -> Excluded | None:
        for name, node in self._nodes.items():
            row = {trial for _, trial in node.row if not self._is_blamed(trial, name)}
            if not node.proofs or self._enough == "never" or len(row) < self._enough:
                continue
            others = [each for other, each in self._nodes.items() if other != name]
            began = node.row[0][0]
            if not any(other.got_on is not None and other.got_on > began for other in others):
                continue
            fail = min((len(other.failed) + 1) / (len(other.tried) + 2) for other in others)
            if fail ** len(row) <= BY_CHANCE:
                return self._give_up(name, now)
        return None

    def _give_up(self, name: str, now: float) -> Excluded:
        node = self._nodes.pop(name)
        self.excluded.add(name)
        failures = dict(Counter(trial for _, trial in node.failures))
        number, trials = len(node.failures), len(failures)
        minutes = max(1, round((now - node.failures[0][0]) / 60))
        reason = (
            f"{number} attempts of {trials} trials failed there within {minutes} min, and trials"
            " get on elsewhere"
        )
        return Excluded(name, reason, failures)
