"""A cluster of a few nodes on an invented clock, some of which break, with trials some of which
fail wherever they are: where the decisions of `failing_nodes` are measured. One seed decides
everything.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from orchestrator.sweep.schema import Failure

LOOK_EVERY_S = 5.0
"""Between two looks for a node that is suspected no more, while a trial waits for one."""


@dataclass(slots=True)
class Node:
    """breaks: when, and how: `start` ends every attempt before its first epoch, `late` after one to
    three, `half` every other one somewhere.
    """

    name: str
    breaks: tuple[float, str] | None = None
    running: dict[str, Attempt] = field(default_factory=dict)


@dataclass(slots=True)
class Trial:
    """hopeless: in which epoch it fails wherever it is; None: nowhere."""

    name: str
    epochs: int
    epoch_s: float
    hopeless: int | None
    done: int = 0
    failures: int = 0  # that count
    attempt: int = 0


@dataclass(slots=True)
class Attempt:
    """On a node. fails_at: of its node's fault."""

    trial: Trial
    node: Node
    number: int
    fails_at: float = float("inf")


@dataclass(slots=True)
class Measured:
    """What became of a sweep."""

    found: dict[str, int] = field(default_factory=dict)  # broken node -> failures until excluded
    missed: dict[str, int] = field(default_factory=dict)  # broken node -> its failures
    wronged: list[str] = field(default_factory=list)  # nodes that are well, and were excluded
    lost: int = 0  # trials given up though nothing is wrong with them


class BreakingCluster:
    """One seed's."""

    def __init__(
        self,
        seed: int,
        watched: Any,
        *,
        broken: int,
        epoch_s: float,
        hopeless: float,
        trials: int = 60,
        how: str,
        cell: float = 0.0,
        chance: float = 0.0,
    ) -> None:
        """broken: nodes that break. epoch_s: of a usual trial. hopeless: share of trials that fail
        everywhere. how: nodes break, see `Node`. cell: share of trials, one after another, that
        fail in their first epoch everywhere, as those of one cell of a grid do. chance: that any
        other epoch fails, on any node.
        """
        self.rng, self.watched = random.Random(seed), watched
        rng = self.rng
        self._epoch_s = epoch_s
        self.slots = rng.choice([1, 2, 4])
        count = rng.choice([3, 4, 5])
        self.nodes = {name: Node(name) for name in "abcde"[:count]}
        per_trial = 8 * epoch_s
        length = trials * per_trial / (count * self.slots)
        for name in rng.sample(sorted(self.nodes), broken):
            when = 0.0 if rng.random() < 0.4 else rng.uniform(0.0, 0.5) * length
            self.nodes[name].breaks = when, how
        self.waiting = [
            Trial(
                f"t{number}",
                rng.randint(4, 12),
                epoch_s * rng.uniform(0.5, 2.0),
                rng.choice([0, rng.randint(1, 4)]) if rng.random() < hopeless else None,
            )
            for number in range(trials)
        ]
        first = trials // 4
        for trial in self.waiting[first : first + round(cell * trials)]:
            trial.hopeless = 0
        self._chance = chance
        self.max_restarts = Failure().max_restarts
        self._trials = {trial.name: trial for trial in self.waiting}
        self._failed_on: Counter[str] = Counter()
        self._events: list[tuple[float, int, str, Any]] = []
        self._order = itertools.count()
        self._measured = Measured()
        self.now = 0.0

    def run(self) -> Measured:
        """Until every trial has ended."""
        for node in self.nodes.values():
            if node.breaks is not None:
                self._at(node.breaks[0], "breaks", node)
        self._place()
        while self._events:
            self.now, _, what, whom = heapq.heappop(self._events)
            getattr(self, f"_{what}")(whom)
            self._place()
        measured = self._measured
        assert not self.waiting, "trials were left"
        for node in self.nodes.values():
            if node.breaks is not None and node.name not in measured.found:
                measured.missed[node.name] = self._failed_on[node.name]
        return measured

    def _at(self, when: float, what: str, whom: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, whom))

    def _place(self) -> None:
        """Put trials that wait wherever there is room, rather not where the watch says."""
        while self.waiting:
            avoided = self.watched.avoided(self.now, lambda: self.nodes)
            room = [node for node in self.nodes.values() if len(node.running) < self.slots]
            free = [node for node in room if node.name not in avoided]
            if not free:
                if room and not any(what == "look" for _, _, what, _ in self._events):
                    self._at(self.now + max(LOOK_EVERY_S, self._epoch_s / 20), "look", None)
                return
            self._start(self.waiting.pop(0), self.rng.choice(free))

    def _look(self, _: None) -> None: ...

    def _start(self, trial: Trial, node: Node) -> None:
        trial.attempt += 1
        attempt = Attempt(trial, node, trial.attempt)
        node.running[trial.name] = attempt
        self.watched.started(trial.name, node.name)
        self._at(self.now + self.rng.uniform(5.0, 20.0), "loaded", attempt)
        if node.breaks is not None and self.now >= node.breaks[0]:
            self._doom(attempt)

    def _doom(self, attempt: Attempt) -> None:
        """The attempt starts on a broken node."""
        assert attempt.node.breaks is not None
        how, epoch_s = attempt.node.breaks[1], attempt.trial.epoch_s
        after = {
            "start": self.rng.uniform(1.0, 5.0),
            "late": 20.0 + epoch_s * self.rng.uniform(1.0, 3.0),
            "half": self.rng.uniform(1.0, 20.0 + 3.0 * epoch_s),
        }[how]
        if how != "half" or self.rng.random() < 0.5:
            self._at(self.now + after, "fails", attempt)

    def _breaks(self, node: Node) -> None:
        assert node.breaks is not None
        for attempt in list(node.running.values()):
            if node.breaks[1] != "half" or self.rng.random() < 0.5:
                self._at(self.now + self.rng.uniform(0.0, 10.0), "fails", attempt)

    def _loaded(self, attempt: Attempt) -> None:
        if self._lives(attempt):
            self._go_on(attempt)

    def _go_on(self, attempt: Attempt) -> None:
        """An epoch begins."""
        epoch_s = attempt.trial.epoch_s
        if attempt.trial.done == attempt.trial.hopeless:
            part = 0.05 if attempt.trial.hopeless == 0 else self.rng.random()
            self._at(self.now + part * epoch_s, "fails", attempt)
        elif self._chance and self.rng.random() < self._chance:
            self._at(self.now + self.rng.random() * epoch_s, "fails", attempt)
        else:
            self._at(self.now + epoch_s, "epoch", attempt)

    def _epoch(self, attempt: Attempt) -> None:
        if not self._lives(attempt):
            return
        trial = attempt.trial
        trial.done += 1
        self._judge(self.watched.got_on(trial.name, trial.done - 1, self.now))
        if trial.done < trial.epochs:
            self._go_on(attempt)
            return
        del attempt.node.running[trial.name]
        self.watched.finished(trial.name)

    def _fails(self, attempt: Attempt) -> None:
        if not self._lives(attempt):
            return
        trial, node = attempt.trial, attempt.node
        del node.running[trial.name]
        trial.done = max(0, trial.done - self.rng.choice([0, 0, 1]))  # a checkpoint was not written
        if node.breaks is not None and self.now >= node.breaks[0]:
            self._failed_on[node.name] += 1
        trial.failures += 1
        gives_up = trial.failures > self.max_restarts
        self._judge(self.watched.failed(trial.name, self.now))
        if not gives_up:
            self.waiting.insert(0, trial)
        elif trial.hopeless is None:
            self._measured.lost += 1

    def _lives(self, attempt: Attempt) -> bool:
        return attempt.node.running.get(attempt.trial.name) is attempt

    def _judge(self, excluded: Any) -> None:
        if excluded is None:
            return
        for name, number in excluded.failures.items():
            trial = self._trials[name]
            trial.failures = max(0, trial.failures - number)
        node = self.nodes[excluded.node]
        if node.breaks is None or node.breaks[0] > self.now:
            self._measured.wronged.append(node.name)
        else:
            self._measured.found[node.name] = self._failed_on[node.name]
