"""A sweep in a world of faults: the real driver is started again and again, until the sweep is
complete, while workers, the disk and the MLflow server fail. One seed decides everything.
"""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune

import orchestrator.conduct as conducting
from orchestrator.record import folder, journal, lease, processes, resolved
from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.search.turns import Turns
from orchestrator.sweep import Sweep
from orchestrator.tracking import mlflow, outbox, parent, runs
from orchestrator.tuning import beginnings, callbacks, nodes, progress
from orchestrator.tuning import cluster as clusters
from orchestrator.tuning import run as running
from orchestrator.tuning.cluster import ClusterLost
from orchestrator.tuning.early import EarlyStops
from tests.faults import kept
from tests.faults.disk import Disk, Killed, Process
from tests.faults.invariants import Facts
from tests.faults.nodes import Nodes
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.stand_ins import Clock, Idle, NoThread, Quiet
from tests.faults.store import Client, Server
from tests.faults.tune import FakeTuner
from tests.faults.workers import Fate, Training, Worker, report
from trainables import ray_trainable
from trainables import run as trial_story
from trainables.contract import locks
from trainables.contract.disk import disk_problem
from trainables.contract.errors import UserError

LIVES = 8
"""Of a driver among faults; those after have none, and must complete the sweep."""

MODULES = (
    beginnings,
    callbacks,
    folder,
    journal,
    locks,
    mlflow,
    outbox,
    progress,
    ray_trainable,
    running,
    runs,
)
"""Those that look at the clock."""


_LeaseWorld, _turns_of = lease.World, running.turns_of


@dataclass(frozen=True)
class Faults:
    """What goes wrong in one life of the driver, as probabilities per step or operation."""

    driver_dies_at: int | None = None  # its operation
    how: Any = "before"
    disk_full_at: int | None = None  # operation of anyone
    disk_full_for: int = 0
    disk_breaks: float = 0.0
    first_worker_dies_at: int | None = None  # its operation
    worker_dies: float = 0.0  # per attempt
    worker_hangs: float = 0.0
    node_lost: float = 0.0  # per file that it sends
    sent_twice: float = 0.0
    pauses: float = 0.0
    again: float = 0.0
    unstarted: float = 0.0
    unheard: float = 0.0
    lossy: float = 0.0
    stopped: float = 0.0  # by a person
    cluster_lost: float = 0.0

    @classmethod
    def drawn(cls, rng: random.Random) -> Faults:
        """Some of everything."""

        def some(share: float, most: float) -> float:
            return most * rng.random() if rng.random() < share else 0.0

        full = rng.random() < 0.2
        return cls(
            driver_dies_at=int(rng.triangular(1, 250, 20)) if rng.random() < 0.7 else None,
            how=rng.choice(["before", "torn", "after"]),
            disk_full_at=rng.randrange(150) if full else None,
            disk_full_for=rng.choice([1, 2, 5, 1000]),
            disk_breaks=some(0.1, 0.02),
            worker_dies=some(0.5, 0.5),
            pauses=some(0.5, 0.3),
            again=some(0.3, 0.1),
            unstarted=some(0.2, 0.2),
            unheard=some(0.3, 0.2),
            lossy=some(0.3, 0.2),
            stopped=some(0.1, 0.05),
            cluster_lost=some(0.1, 0.05),
            worker_hangs=some(0.1, 0.3),
            node_lost=some(0.3, 0.3),
            sent_twice=some(0.3, 0.3),
        )


class NoReport(nullcontext[Any]):
    """In the place of the process that writes it."""

    def __enter__(self) -> NoReport:
        return self

    def begin(self, run: Path) -> None:
        self._run = run

    def report(self) -> Path:
        return self._run / "report.md"


class World:
    """One seed's."""

    def __init__(
        self, seed: int, scenario: Scenario | None = None, *, trials_fail: bool = True
    ) -> None:
        self.rng = random.Random(seed)
        self.scenario = scenario or SCENARIOS[seed % len(SCENARIOS)]
        self.run = Path("runs") / self.scenario.sweep.name
        self.clock, self.disk, self.server = Clock(), Disk(), Server()
        self.facts = Facts(self.scenario.sweep, self.run, self.server)
        self.training = Training(
            seed,
            failing=self.rng.choice([0.0, 0.0, 0.2]) if trials_fail else 0.0,
            raising=self.rng.choice([0.0, 0.0, 0.05]) if trials_fail else 0.0,
            saved=self.rng.choice([1.0, 0.5]),
            began=self.facts.trains,
        )
        self.faults = Faults()
        self.died = False  # whether a driver was killed
        # in every other world each epoch is reported by itself
        self._together_s = 60.0 * (seed // len(SCENARIOS) % 2)
        self._number = 0  # of the driver
        self._workers: list[Worker] = []
        self._left: list[Worker] = []  # of drivers that are dead
        self._outbox: Any = None
        self._tick: Callable[[], None] = lambda: None
        self._tuner: FakeTuner | None = None
        self._nodes: Nodes | None = None  # other ones than the driver's

    # what FakeTuner asks of its surroundings
    again = property(lambda self: self.faults.again)
    unstarted = property(lambda self: self.faults.unstarted)
    unheard = property(lambda self: self.faults.unheard)

    # and what Nodes asks
    lost = property(lambda self: self.faults.node_lost)
    twice = property(lambda self: self.faults.sent_twice)

    def start(self, config: dict[str, Any]) -> Worker:
        self.facts.starts(Path(config["out"]).name)
        dies = self.rng.random() < self.faults.worker_dies
        dies_at = self.rng.randrange(1, 60) if dies else None
        how = self.rng.choice(["before", "torn", "after"])
        if self.faults.first_worker_dies_at is not None and not self._workers:
            dies_at, how = self.faults.first_worker_dies_at, self.faults.how
        hangs = self.rng.random() < self.faults.worker_hangs
        hangs_at = self.rng.randrange(1, 60) if hangs else None
        fate = Fate(dies_at, how, self.faults.pauses, hangs_at)
        worker = Worker(self.disk, config, fate, self.rng.getrandbits(32))
        self._workers.append(worker)
        return worker

    def happen(self) -> None:
        chance = self.rng.random
        self.clock.now += self.rng.expovariate(1.0)
        if chance() < 0.2:
            self._outbox._deliver_all()
        if self._nodes is not None and chance() < 0.5:
            self._nodes.work()
        if chance() < 0.1:
            self._tick()
        if chance() < 0.02:
            self._look()
        if chance() < self.faults.disk_breaks:
            self.disk.broken = True
        if chance() < self.faults.stopped:
            with self.disk.outside():
                requests = StopRequests(self.run)
                self.rng.choice([requests.drain, requests.cancel])(Stop("person", "asked"))
        for worker in list(self._left):
            self._go_on(worker)

    def _go_on(self, worker: Worker) -> None:
        """A worker whose driver is dead does something, until Ray ends it."""
        if self.rng.random() < 0.3 or worker.event[0] == "report":
            worker.end()
        elif not worker.ended:
            worker.go()
        if worker.ended:
            worker.end()
            self._left.remove(worker)

    def _look(self) -> None:
        """Someone looks into the folder."""
        with self.disk.outside():
            self.facts.look()

    def check_cluster(self, *, signalled: bool = False) -> None:
        if self.rng.random() < self.faults.cluster_lost:
            raise ClusterLost("the cluster does not answer any more")

    def live(self, faults: Faults, *, start: Any = "plain") -> Any:
        """One life of the driver; its outcome, None where it died or could not go on. start: of
        `conduct`.
        """
        self.faults, self.disk.broken, self._tuner = faults, False, None
        self._number += 1
        self.disk.room, self.disk.full_for = faults.disk_full_at, faults.disk_full_for
        self.facts.driver_starts(extends=start == "extend")
        driver = Process("driver", faults.driver_dies_at, faults.how)
        outcome = None
        try:
            with self.disk.of(driver):
                outcome = self._conduct(start)
        except Killed:
            self.died = True
        except (OSError, UserError) as error:
            if not self._is_meant(error):
                raise
        self._end_workers()
        self.facts.sweep = self._sweep_of_folder()
        self.facts.taken_back += bool(faults.lossy) and not (self.run / "resolved.json").is_file()
        self.facts.driver_ended(died=driver.dead or outcome is None)
        if self.facts.has_begun and self.rng.random() < 0.5:
            self._forget_earlier()
        return outcome

    def _forget_earlier(self) -> None:
        """The folder of the sweep it learned from is removed, which it needs no more."""
        if self.scenario.learns_from is not None:
            name = self.scenario.learns_from.sweep.name
            shutil.rmtree(self.run.parent / name, ignore_errors=True)

    def _sweep_of_folder(self) -> Sweep:
        """As it is, or as it was extended."""
        extended = self.scenario.extended
        if extended is None or not (self.run / resolved.FILE).is_file():
            return self.scenario.sweep
        grew = kept.load_resolved(self.run)["digest"] == extended.digest()
        return extended if grew else self.scenario.sweep

    def _is_meant(self, error: Exception) -> bool:
        """Whether a driver may end with it, among these faults."""
        away = self.faults.lossy > 0 and "tracking.uri" in str(error)
        broken = isinstance(error, OSError) and error.errno == errno.EIO
        return away or broken or disk_problem(error) is not None

    def _conduct(self, start: Any) -> Any:
        extended = self.scenario.extended
        sweep = extended if start == "extend" and extended else self.facts.sweep
        outcome = conducting.conduct(sweep, None, lambda text: None, start=start)
        if self._tuner is not None and self.faults.cluster_lost:
            said = len(self.facts.events())
            self._tuner.speak()  # Tune's thread is left behind
            assert len(self.facts.events()) == said, "something was written after the end"
        return outcome

    def _end_workers(self) -> None:
        for worker in self._workers:
            if worker.ended or self.rng.random() < 0.7:
                worker.end()
            elif worker not in self._left:
                self._left.append(worker)
        self._workers = []

    def end(self) -> None:
        """Nothing runs any more."""
        for worker in self._left:
            worker.end()
        self._left = []

    @contextmanager
    def entered(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Within: the driver and its workers live in this world."""
        for module in MODULES:
            patch.setattr(module, "time", self.clock)
        self.disk.placed = self.facts.placed
        self.disk.install(patch)
        patch.setattr(outbox, "threading", SimpleNamespace(Thread=NoThread, Event=threading.Event))
        patch.setattr(mlflow, "Outbox", self._make_outbox)
        patch.setattr(parent, "open_client", self._client)
        patch.setattr(mlflow, "draw", lambda trial, out: [])
        patch.setattr(running, "Display", Quiet)
        patch.setattr(running, "EPOCHS_TOGETHER_S", self._together_s)
        patch.setattr(running, "EarlyStops", self._make_early)
        patch.setattr(running, "turns_of", self._make_turns)
        patch.setattr(running, "beside", self._beside)
        patch.setattr(callbacks, "kill", lambda trial: trial.worker.end())
        patch.setattr(nodes, "node_of", lambda trial: None)
        patch.setattr(nodes.NodeWatch, "where", self._where)
        patch.setattr(running, "Couriers", self._make_nodes)
        patch.setattr(mlflow, "may_be_told", lambda uri: True)
        cluster = SimpleNamespace(check=self.check_cluster, shared=False)
        patch.setattr(running, "ray_cluster", lambda address, note: nullcontext(cluster))
        patch.setattr(clusters, "cluster_ahead", lambda *_: nullcontext(lambda: cluster))
        patch.setattr(running, "possible_nodes", lambda: [{"CPU": self.scenario.at_once}])
        patch.setattr(running, "live_nodes", lambda: [{"CPU": self.scenario.at_once}])
        patch.setattr(running, "remaining_of", lambda *_: None)
        patch.setattr(conducting, "_forecast", lambda *_: None)
        patch.setattr(lease, "World", self._seen_by)
        patch.setattr(lease, "this_process", self._this_process)
        patch.setattr(lease, "threading", SimpleNamespace(Thread=Idle, Event=threading.Event))
        patch.setattr(ray.tune, "with_resources", lambda trainable, wanted: trainable)
        patch.setattr(ray.tune, "Tuner", self._make_tuner)
        patch.setattr(ray.tune, "report", report)
        patch.setattr(trial_story, "_run", self.training)
        evaluation = SimpleNamespace(rows=(), headline=None)
        patch.setattr(conducting, "_evaluate", lambda sweep, run: evaluation)
        patch.setattr(conducting, "ReportBeside", NoReport)
        patch.setattr(conducting, "_bundle", lambda run, evaluation: None)
        patch.setattr(conducting, "write_report", lambda run: run / "report.md")
        patch.setattr(journal.Journal, "append_all", self.facts.noting(journal.Journal.append_all))
        kept.install(patch)
        FakeTuner.around = Nodes.around = self
        try:
            yield
        finally:
            self.end()

    def _this_process(self) -> processes.Process:
        """Each driver is a process of its own."""
        return processes.Process("here", "boot", "", self._number, str(self._number))

    def _seen_by(self, process: processes.Process) -> lease.World:
        """The one before is dead."""
        alive = str(self._number)
        return _LeaseWorld(
            process,
            lambda pid: alive if str(pid) == alive else None,
            self.clock.monotonic,
            self.clock.sleep,
        )

    def _make_outbox(self, *arguments: Any) -> Any:
        self._outbox = outbox.Outbox(*arguments)
        return self._outbox

    def _make_early(self, *arguments: Any) -> EarlyStops:
        self.facts.early = EarlyStops(*arguments)
        return self.facts.early

    def _make_turns(self, *arguments: Any) -> Turns:
        self.facts.turns = _turns_of(*arguments)
        return self.facts.turns

    def _make_tuner(self, *arguments: Any, **options: Any) -> FakeTuner:
        self._tuner = FakeTuner(*arguments, **options)
        return self._tuner

    def _make_nodes(self, cluster: Any) -> Nodes:
        self._nodes = Nodes(cluster)
        return self._nodes

    def _where(self, trial: str) -> str | None:
        """Half of the trials run on the driver's node."""
        return self.rng.choice([None, "another"])

    def _client(self, uri: str) -> Client:
        rng = random.Random(self.rng.getrandbits(32))
        return Client(self.server, self.disk, rng, self.faults.lossy)

    def _beside(self, work: Callable[[], Any], tick: Callable[[], None]) -> None:
        self._tick = tick
        work()


@lru_cache(maxsize=1)
def _everything_imported() -> None:
    """What a driver imports when it first needs it must not be an operation of its."""
    with tempfile.TemporaryDirectory() as where:
        _lived(World(0), Path(where), ())


def simulate(seed: int, where: Path) -> World:
    """One seed's sweep, from its first start to its end; AssertionError where a promise is broken.

    where: an empty folder.
    """
    _everything_imported()
    world = World(seed)
    return _lived(world, where, (Faults.drawn(world.rng) for _ in range(LIVES)))


def simulate_one(seed: int, where: Path, scenario: Scenario, faults: Faults) -> World:
    """The same of a sweep whose first driver alone meets `faults`."""
    _everything_imported()
    return _lived(World(seed, scenario, trials_fail=False), where, (faults,))


@lru_cache
def _lived_before(scenario: Scenario) -> dict[str, bytes]:
    """A sweep among no faults: its files by their names in `runs`, as it leaves them."""
    with tempfile.TemporaryDirectory() as folder:
        _lived(World(0, scenario, trials_fail=False), Path(folder), ())
        runs = Path(folder) / "runs"
        files = (path for path in runs.rglob("*") if path.is_file())
        return {str(path.relative_to(runs)): path.read_bytes() for path in files}


def _lived(world: World, where: Path, faults: Iterable[Faults]) -> World:
    """faults: of the first drivers; those after have none, and must complete the sweep."""
    planned = iter(faults)
    if world.scenario.learns_from is not None:
        for name, content in _lived_before(world.scenario.learns_from).items():
            file = where / "runs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        with world.entered(patch):
            _until_complete(world, planned)
            if world.scenario.extended is not None:
                _until_complete(world, planned)
                assert world.facts.sweep is world.scenario.extended
    return world


def _until_complete(world: World, planned: Iterator[Faults]) -> None:
    """The same command again and again: for a sweep that is complete, that which extends it."""
    facts = world.facts
    wanted = world.scenario.extended if facts.complete_once else world.scenario.sweep
    for _ in range(LIVES + 5):
        now = next(planned, Faults())
        retries = world.rng.random() < 0.1
        extends = facts.complete_once and facts.sweep is not wanted
        start = "extend" if extends else "retry failed" if retries else "plain"
        outcome = world.live(now, start=start)
        ended = outcome is not None and outcome.exit_code in (0, 3) and not now.lossy
        if ended and facts.sweep is wanted:
            break
    assert outcome is not None, "the sweep does not come to its end"
    assert outcome.exit_code in (0, 3), outcome
    world.end()
    facts.started_after_the_end = True
    facts.complete(world.live(Faults()))  # the same command once more
    facts.started_after_the_end, facts.complete_once = False, True
