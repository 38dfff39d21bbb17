"""A sweep whose storage is an address, in a world of faults: the driver and its workers have no
folder in common, and each driver that follows a dead one begins with an empty cache. So do the
nodes: a worker that is still there finds its folder gone.

They die in requests to the address as they do in operations of their disks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from orchestrator.record import copies, keeping
from orchestrator.record.states import TrialState
from orchestrator.sweep import Sweep
from tests.faults.disk import Disk
from tests.faults.invariants import Facts
from tests.faults.scenarios import Scenario
from tests.faults.world import World
from trainables.contract.addresses import joined
from trainables.remote import attempt, objects

CACHE = Path("cache")


class AtOnce:
    """In the place of a thread that sends a checkpoint: it has ended when it is begun."""

    def __init__(self, target: Callable[..., None], args: Any, **_: Any) -> None:
        self._work = lambda: target(*args)

    def start(self) -> None:
        self._work()

    def join(self) -> None: ...

    def is_alive(self) -> bool:
        return False


class Never:
    """In the place of the threads that look now and then."""

    def __init__(self, **_: Any) -> None: ...

    def start(self) -> None: ...

    def join(self) -> None: ...


class Store:
    """The other side: a memory that every simulated process reaches, an operation per request."""

    protocol = "memory"

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._fs = fsspec.filesystem("memory")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._fs, name)
        if name not in ("pipe_file", "cp_file", "rm_file", "cat_file", "find", "ls", "exists"):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            process = self._disk.process
            if process is None:
                return method(*arguments, **options)
            return process.operate(lambda: method(*arguments, **options))

        return call


class AtAnAddress(Facts):
    """What is promised of a sweep whose driver may lose its machine: what its journal had not sent
    may be told again, but no result is lost, and no trial is trained that has one.
    """

    def __init__(self, scenario: Scenario, address: str, world: World) -> None:
        self.address = joined(address, scenario.sweep.name)
        sweep = scenario.sweep.model_copy(update={"storage": address})
        run = copies.local_storage(address) / scenario.sweep.name
        super().__init__(sweep, run, world.server)
        self._fs = fsspec.filesystem("memory")

    def placed(self, path: str) -> None: ...

    def starts(self, trial: str) -> None:
        assert not self.started_after_the_end, f"{trial} starts in a sweep that is complete"
        lines = self._fs.cat_file(self._at("journal.jsonl")).splitlines()
        proposed = [line for line in lines if b'"trial_proposed"' in line]
        known = [json.loads(line)["trial"] for line in proposed]
        assert trial in known, f"{trial} starts, and nobody else knows of it"
        assert self._fs.exists(self._at("resolved.json"))

    def trains(self, trial: str) -> None:
        there = self._fs.exists(self._at(f"trials/{trial}/result.json"))
        assert not there, f"{trial} is trained although it has a result"
        self.trained.add(trial)

    def driver_ended(self, *, died: bool) -> None:
        for path in self._fs.find(self._at("trials")):
            if path.endswith("/result.json"):
                trial, content = path.split("/")[-2], self._fs.cat_file(path)
                assert self.results.setdefault(trial, content) == content, f"{trial}: another"
                config = self._fs.exists(self._at(f"trials/{trial}/config.json"))
                assert config, f"{trial} has a result without config.json"
                for name, digest in json.loads(content)["digests"].items():
                    file = self._at(f"trials/{trial}/{name}")
                    assert self._fs.exists(file), f"{trial} has a result without {name}"
                    assert sha256(self._fs.cat_file(file)).hexdigest() == digest
        for trial in self.results:
            there = self._fs.exists(self._at(f"trials/{trial}/result.json"))
            assert there, f"the result of {trial} is lost"
        self.ended.clear()
        if not died:
            own = self.run / "journal.jsonl"
            there = self._fs.cat_file(self._at("journal.jsonl")) if own.exists() else b""
            assert not own.exists() or there == own.read_bytes(), "lines of the journal stay here"
        if died:
            shutil.rmtree(CACHE)
            copies._copy.cache_clear()
            copies.refresh_once.cache_clear()
            copies.local_storage(self.address.rpartition("/")[0])

    def _check_judged(self, trial: str, known: list[int], epochs: int) -> None:
        """A lost machine may have known of epochs that nobody else does."""
        assert known == sorted(set(known) & set(range(epochs))), f"{trial}: judged after {known}"

    def _check_curve(self, state: TrialState, known: list[int], steps: list[int]) -> None:
        if state.ending != "pruned":  # whose curve is of the epochs that it was judged by
            super()._check_curve(state, known, steps)

    def _check_endings_are_told_once(self) -> None: ...

    def resolved(self) -> dict[str, Any]:
        """What the address says of the sweep; nothing where it has none."""
        place = self._at("resolved.json")
        return dict(json.loads(self._fs.cat_file(place))) if self._fs.exists(place) else {}

    def _at(self, name: str) -> str:
        return f"/{self.address.removeprefix('memory://')}/{name}"


class RemoteWorld(World):
    """One seed's."""

    facts: AtAnAddress

    def __init__(self, seed: int, address: str, scenario: Scenario | None = None) -> None:
        super().__init__(seed, scenario)
        self._address = address

    def settle(self) -> None:
        """Once the working folder is the world's."""
        self.facts = AtAnAddress(self.scenario, self._address, self)
        self.run = self.facts.run
        self.training.began = self.facts.trains
        extended = self.scenario.extended
        if extended is not None:
            extended = extended.model_copy(update={"storage": self._address})
        self.scenario = SimpleNamespace(  # type: ignore[assignment]
            sweep=self.facts.sweep,
            extended=extended,
            at_once=self.scenario.at_once,
            name=self.scenario.name,
            learns_from=None,
        )

    def _sweep_of_folder(self) -> Sweep:
        """As the next driver finds it."""
        content = self.facts.resolved()
        extended = self.scenario.extended
        grew = extended is not None and content.get("digest") == extended.digest()
        return extended if extended is not None and grew else self.scenario.sweep

    def _where(self, trial: str) -> None:
        """Nobody knows: what nodes fetch of an address is no part of this."""

    @contextmanager
    def entered(self, patch: pytest.MonkeyPatch) -> Any:
        patch.setenv("ORCHESTRATE_CACHE", str(CACHE.absolute()))
        copies._copy.cache_clear()
        copies.refresh_once.cache_clear()
        self.settle()
        within: AbstractContextManager[None] = super().entered(patch)
        with within:
            store = Store(self.disk)
            patch.setattr(
                objects, "opened", lambda place: (store, "/" + place.removeprefix("memory://"))
            )
            patch.setattr(objects, "PAUSES_S", ())
            patch.setattr(objects, "SETTLE_S", 0.0)
            patch.setattr(objects, "_all_at_once", one_by_one)
            patch.setattr(objects, "time", self.clock)
            patch.setattr(attempt, "time", self.clock)
            events = SimpleNamespace(Event=attempt.threading.Event)
            patch.setattr(attempt, "threading", SimpleNamespace(Thread=thread_of, **vars(events)))
            patch.setattr(keeping, "threading", SimpleNamespace(Thread=Never, **vars(events)))
            yield


def thread_of(target: Callable[..., None], args: Any = None, **_: Any) -> AtOnce | Never:
    return Never() if args is None else AtOnce(target, args)


def one_by_one(work: Callable[[Any], None], items: Any) -> None:
    for item in items:
        work(item)
