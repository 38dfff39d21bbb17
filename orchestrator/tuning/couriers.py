"""Files of finished trials on their way from the nodes that trained them to the tracker's store: a
process on each node sends them, when the trial is over and its slot is free for the next one.

Knows no MLflow: what is done on the node is a `Courier`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from types import TracebackType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.tracking.outbox import LONGEST_CALL
from orchestrator.tracking.sending import Courier
from orchestrator.tracking.tracker import Parcel, Send
from orchestrator.tuning.cluster import LOST_AFTER_S, Cluster, ClusterLost
from trainables.contract.secrets import redacted

log = logging.getLogger(__name__)

SILENT_S = 60.0
"""A process from which no file has arrived at all for so long is given up."""

REFUSED = 3
"""Files in a row that a node which has sent others cannot send, after which it is given up. One may
be at fault itself: a store that takes no file of its size, say.
"""

RESTS_S = 600.0
"""So long a node that was given up is not asked again: it may lack MLflow, or the way to it."""

IDLE_S = 60.0
"""A process that has nothing to send ends after so long: with it there, a cloud's autoscaler would
keep a node that has no trial.
"""

LOOK_S = 0.2
STOPPED_S = 30.0
"""The driver waits no longer than that at the end of a sweep that was asked to end: a cluster's
scheduler gives minutes for all that is left to do.
"""
SAY_S = 5.0
"""A driver that waits for so long at its end says what for."""


class OnTheWay:
    """Files of one trial; what has become of them can be asked by any thread."""

    def __init__(self, left: int) -> None:
        """left: so many are under way."""
        self._left = left
        self._there: set[str] = set()

    def sent(self) -> frozenset[str] | None:
        """See `Sending`."""
        return None if self._left > 0 else frozenset(self._there)

    def arrived(self, name: str) -> None:
        self._there.add(name)
        self._left -= 1

    def refused(self) -> None:
        """A file is left to the driver."""
        self._left -= 1

    def stop(self) -> None:
        """What has not arrived is not under way any more."""
        self._left = 0


class _Process:
    """The courier of one node: does what it is asked in turn, a file at a time."""

    def __init__(self, couriers: Any, node: str) -> None:
        """couriers: Ray's class of them."""
        self._actor = couriers.options(
            num_cpus=0,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote()
        self._asked: dict[Any, tuple[OnTheWay, str]] = {}  # Ray's reference -> of which file
        self._heard = time.monotonic()
        self._begun = False  # a file has arrived: the node can send
        self._refused = 0  # files since the last that arrived

    @property
    def busy(self) -> bool:
        return bool(self._asked)

    def ask(self, parcel: Parcel, way: OnTheWay) -> None:
        if not self._asked:
            self._heard = time.monotonic()
        for name, place in parcel.files.items():
            asked = self._actor.send.remote(parcel.uri, parcel.run, name, place)
            self._asked[asked] = way, name

    def look(self) -> str:
        """Take note of what has arrived; why the process is of no use any more, empty: it is."""
        if not self.busy:
            return ""
        try:
            ready, _ = ray.wait([*self._asked], num_returns=len(self._asked), timeout=0)
        except Exception as error:  # of Ray's, whose head may be gone
            return _in_a_line(error)
        useless = ""
        for asked in ready:
            self._heard = time.monotonic()
            way, name = self._asked[asked]
            try:
                problem: str = ray.get(asked)
            except Exception as error:  # of Ray's: the process, or its node, is gone, or never came
                useless = useless or _in_a_line(error)
                continue
            del self._asked[asked]
            if not problem:
                way.arrived(name)
                self._begun, self._refused = True, 0
                continue
            way.refused()
            self._refused += 1
            log.info("MLflow: %s is not sent from its node, so we do: %s", name, problem)
            if not self._begun or self._refused >= REFUSED:
                useless = useless or problem
        if useless:
            return useless
        limit = LONGEST_CALL if self._begun else SILENT_S
        silent = self.busy and time.monotonic() - self._heard >= limit
        return f"no answer for {limit:.0f} s" if silent else ""

    @property
    def idle(self) -> bool:
        return not self.busy and time.monotonic() - self._heard >= IDLE_S

    def stop(self) -> None:
        """What has not arrived is not under way any more."""
        for way, _ in [*self._asked.values()]:
            way.stop()

    def end(self, *, kill: bool) -> None:
        self.stop()
        self._asked.clear()
        if kill:
            with suppress(Exception):  # of Ray's, which may be going
                ray.kill(self._actor)
        del self._actor


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return redacted(lines[-1] if lines else type(error).__name__)


class Couriers:
    """Those of one run of a sweep. As a context manager it ends them; nothing of Ray's is held
    afterwards.

    Where the head is gone, Ray waits for it as a process is started, until it ends the driver in
    its own way. So that is done in Tune's thread alone, and the thread that looks whether the head
    is there does not wait for that one.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()  # held while Ray starts a process: see above
        self._processes: dict[str, _Process] = {}
        self._rests_until: dict[str, float] = {}
        self._said: set[str] = set()  # why nodes were given up
        self._ended = False

    def __enter__(self) -> Couriers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        if not self._lock.acquire(timeout=0.0 if self._cluster.lost else LOST_AFTER_S):
            for process in [*self._processes.values()]:
                process.stop()
            return
        try:
            for node in [*self._processes]:
                self._end(node)
        finally:
            self._lock.release()

    def of(self, node: str | None) -> Send | None:
        """What sends the files of a trial that ran on a node; None: on the driver's own, or nobody
        knows on which.
        """
        return None if node is None or node == self._here else partial(self._send, node)

    @cached_property
    def _class(self) -> Any:
        """Ray's, which goes to the head with its first process: one for all."""
        return ray.remote(Courier)

    @cached_property
    def _here(self) -> str:
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def look(self) -> bool:
        """Take note of what has arrived, and of who does not answer; called about once a second.
        Returns whether anything is under way. Does not wait, also where Ray does.
        """
        if not self._lock.acquire(blocking=False):
            return True  # it is being asked for
        try:
            for node, process in [*self._processes.items()]:
                problem = process.look()
                if problem:
                    self._give_up(node, problem)
                elif process.idle:
                    self._end(node)
            return any(process.busy for process in self._processes.values())
        finally:
            self._lock.release()

    def settle(
        self, stopped: Callable[[], bool], tick: Callable[[], None], note: Callable[[str], None]
    ) -> None:
        """Wait for what is under way, as long as some of it arrives.

        stopped: whether the sweep was asked to end: then it waits for STOPPED_S at most.
        tick: called meanwhile. note: says one line to the person.
        """
        say_at: float | None = time.monotonic() + SAY_S
        leave_at = float("inf")
        with suppress(ClusterLost):
            while not self._cluster.lost and self.look():
                if stopped():
                    leave_at = min(leave_at, time.monotonic() + STOPPED_S)
                if time.monotonic() >= leave_at:
                    break
                self._cluster.check()
                tick()
                if say_at is not None and time.monotonic() >= say_at:
                    note("MLflow: nodes are still sending files of finished trials")
                    say_at = None
                time.sleep(LOOK_S)

    def _send(self, node: str, parcel: Parcel) -> OnTheWay:
        """Returns at once, but where Ray waits for its head; where the node cannot be asked,
        nothing is on its way.
        """
        way = OnTheWay(len(parcel.files))
        with self._lock:
            if self._ended or time.monotonic() < self._rests_until.get(node, 0.0):
                way.stop()
                return way
            try:
                if node not in self._processes:
                    self._processes[node] = _Process(self._class, node)
                self._processes[node].ask(parcel, way)
            except Exception as error:
                way.stop()
                self._give_up(node, _in_a_line(error))
        return way

    def _give_up(self, node: str, problem: str) -> None:
        self._end(node)
        self._rests_until[node] = time.monotonic() + RESTS_S
        level = logging.INFO if problem in self._said else logging.WARNING
        self._said.add(problem)
        log.log(
            level, "MLflow: node %s sends no files of its trials, so we do: %s", node[:8], problem
        )

    def _end(self, node: str) -> None:
        # where the head is gone, Ray would wait for it
        process = self._processes.pop(node, None)
        if process is not None:
            process.end(kill=not self._cluster.lost)
