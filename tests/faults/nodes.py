"""In the place of couriers: nodes that send files of finished trials, one at a time and beside all
else, twice now and then, and that are lost meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from orchestrator.tracking.tracker import Parcel, Send
from orchestrator.tuning.couriers import OnTheWay
from tests.faults.disk import Disk
from tests.faults.store import Server


class Around(Protocol):
    """What the nodes live in."""

    rng: Any
    disk: Disk
    server: Server
    lost: float  # probability, per file, that its node is lost
    twice: float  # the same, that it is sent twice


@dataclass
class UnderWay:
    """What a node still has to send of a parcel."""

    parcel: Parcel
    names: list[str]
    way: OnTheWay


class Nodes:
    """Those of one run of the driver; `around` is set before."""

    around: Around

    def __init__(self, cluster: Any) -> None:
        self._under_way: list[UnderWay] = []

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: Any) -> None:
        for each in self._under_way:
            each.way.stop()
        self._under_way.clear()

    def of(self, node: str | None) -> Send | None:
        return None if node is None else self._send

    def _send(self, parcel: Parcel) -> OnTheWay:
        way = OnTheWay(len(parcel.files))
        self._under_way.append(UnderWay(parcel, [*parcel.files], way))
        return way

    def look(self) -> bool:
        return bool(self._under_way)

    def settle(self, stopped: Callable[[], bool], *_: Any) -> None:
        while self._under_way and not stopped():
            self.work()

    def work(self) -> None:
        """One file gets on, if any is under way."""
        if not self._under_way:
            return
        around = self.around
        each = around.rng.choice(self._under_way)
        name = each.names.pop(0)
        lost = around.rng.random() < around.lost
        arrives = not lost or around.rng.random() < 0.5
        send = partial(around.server.log_artifact, each.parcel.run, each.parcel.files[name])
        for _ in range(arrives + (arrives and around.rng.random() < around.twice)):
            with around.disk.outside():
                send(name.rpartition("/")[0] or None)
        if lost:  # what nobody heard of may have arrived
            each.way.stop()
        else:
            each.way.arrived(name)
        if lost or not each.names:
            self._under_way.remove(each)
