"""Workers that train nothing: the real adapter and the real story of a trial around an invented
training that writes real files, in threads that run one at a time.
"""

from __future__ import annotations

import json
import random
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.disk import Disk, How, Killed, Process
from tests.orchestrator import fake_run
from trainables import ray_trainable
from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.disk import write_atomic, write_json
from trainables.contract.errors import Interrupted, TrialFailed, UserError
from trainables.run import Setup, Watch

Event = tuple[Any, ...]
"""("paused",), ("report", metrics), ("returned",), ("raised", error), ("died",) or ("stopped",)."""


class Passing(RuntimeError):
    """What another attempt may not meet again."""


MEANT = (OSError, UserError, Passing)
"""What a worker may raise; anything else is a mistake, and would make every trial fail."""


@dataclass(frozen=True)
class Fate:
    """What becomes of a worker."""

    dies_at: int | None = None
    how: How = "before"
    pauses: float = 0.0  # probability that others go on before one of its operations
    hangs_at: int | None = None  # from this operation on it does nothing any more


class Worker:
    """One attempt at a trial. `go` lets it run until it reports, pauses or ends."""

    def __init__(self, disk: Disk, request: Any, fate: Fate, seed: int) -> None:
        self.event: Event = ("paused",)
        self.request = request
        self._rng, self._pauses = random.Random(seed), fate.pauses
        self._hangs_at = fate.hangs_at
        self._wake, self._back = threading.Lock(), threading.Lock()  # as semaphores, at 0
        self._wake.acquire()
        self._back.acquire()
        self._command = "go"
        self.process = Process("worker", fate.dies_at, fate.how, self._between)
        self._thread = threading.Thread(target=self._run, args=(disk,), daemon=True)
        WORKERS[self._thread] = self
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """It does nothing any more, until someone ends it."""
        return self._hangs_at is not None and self.process.operations >= self._hangs_at

    @property
    def ended(self) -> bool:
        return self.event[0] in ("returned", "raised", "died", "stopped")

    def go(self, command: str = "go") -> Event:
        """Run on; `die` kills it where it is, `stop` ends it the way Tune ends a trial."""
        assert not self.ended
        self._command = command
        self._wake.release()
        assert self._back.acquire(timeout=60), "a worker hangs"
        if self.event[0] == "raised" and not isinstance(self.event[1], MEANT):
            raise self.event[1]
        return self.event

    def end(self, command: str = "die") -> None:
        """Wherever it is, it ends; `stop` waits for what it does now."""
        while not self.ended:
            at_once = command == "die" or self.event[0] == "report" or self.hangs
            self.go(command if at_once else "go")
        self._thread.join()
        WORKERS.pop(self._thread, None)

    def report(self, metrics: dict[str, Any]) -> None:
        self._hand_over(("report", metrics))

    def pause(self) -> None:
        self._hand_over(("paused",))

    def _between(self) -> None:
        if self._rng.random() < self._pauses:
            self.pause()
        while self.hangs:
            self.pause()

    def _hand_over(self, event: Event) -> None:
        self.event = event
        self._back.release()
        self._wake.acquire()
        if self._command == "die":
            self.process.dead = True
            raise Killed
        if self._command == "stop":
            raise SystemExit

    def _run(self, disk: Disk) -> None:
        self._wake.acquire()
        with disk.of(self.process):
            self.event = self._attempt()
        self._back.release()

    def _attempt(self) -> Event:
        if self._command != "go":
            return ("died",)
        try:
            ray_trainable.train(self.request)
        except Killed:
            return ("died",)
        except SystemExit:
            return ("stopped",)
        except Exception as error:
            return ("raised", error)
        return ("returned",)


WORKERS: dict[threading.Thread, Worker] = {}
"""The workers of threads that are alive."""


def report(metrics: dict[str, Any]) -> None:
    """In the place of `tune.report`."""
    WORKERS[threading.current_thread()].report(metrics)


@dataclass
class Training:
    """In the place of what a trial does between its lock and its result: epochs with a checkpoint
    each, and the files of a finished trial, the result last.
    """

    seed: int
    failing: float  # probability that a trial fails for a reason that another attempt meets again
    raising: float  # probability that an attempt raises what another attempt may not meet
    saved: float  # probability that an epoch but the last has a checkpoint
    began: Callable[[str], None]  # told of every attempt that trains
    attempts: int = 0

    def __call__(self, config: TrialConfig, out: TrialDir, setup: Setup, watch: Watch) -> Any:
        name = out.path.name
        self.began(name)
        self.attempts += 1
        luck = random.Random(f"{self.seed}/{name}")
        fails_in = luck.randrange(config.total_epochs) if luck.random() < self.failing else None
        history = self._resumed(out, setup, watch)
        for epoch in range(len(history), config.total_epochs):
            if watch.should_stop():
                raise Interrupted(f"stopped in epoch {epoch + 1}")
            if epoch == fails_in:
                raise TrialFailed("train_loss must be finite")
            if _draw(self.seed, name, epoch, self.attempts) < self.raising:
                raise Passing("the worker met something that may pass")
            history.append(self.metrics(name, epoch, setup))
            for file in setup.beginnings.leave:
                if file.epochs == len(history) and not file.path.is_file():
                    write_atomic(file.path, json.dumps(history).encode())
                    setup.beginnings.left(file, 1.0)
            last = epoch + 1 == config.total_epochs
            if last or _draw(name, epoch, self.attempts) < self.saved:
                write_atomic(out.checkpoint_file, json.dumps(history).encode())
            watch.report(dict(history[-1]))
        return self._outcome(out, history)

    def _resumed(self, out: TrialDir, setup: Setup, watch: Watch) -> list[dict[str, float]]:
        """The epochs of the checkpoint, the last of them reported again, or those that another
        trial left, all of them reported; as by a real trial.
        """
        history: list[dict[str, float]] = []
        start = setup.beginnings.start
        if out.checkpoint_file.is_file():
            history = json.loads(out.checkpoint_file.read_bytes())
            watch.report(dict(history[-1]))
        elif start is not None and start.path.is_file():
            history = json.loads(start.path.read_bytes())
            assert len(history) == start.epochs
            setup.beginnings.branched(start, 1.0)
            for metrics in history:
                watch.report(dict(metrics))
        return history

    def metrics(self, name: str, epoch: int, setup: Setup) -> dict[str, float]:
        """What a trial reports after an epoch: the same in every attempt, and in every trial that
        shares the epoch.
        """
        shared = (setup.beginnings.start, *setup.beginnings.leave)
        of = next((file.digest for file in shared if file and epoch < file.epochs), name)
        top1 = _draw(self.seed, of, epoch)
        return {"epoch": epoch, "train_loss": 1.0 / (epoch + 1), "selection_top1": top1}

    def _outcome(self, out: TrialDir, history: list[dict[str, float]]) -> TrialResult:
        write_atomic(out.deploy_file, b"weights")
        write_atomic(out.metrics_file, _table(json.dumps(history)))
        made = fake_run.Trial("joint", 0.5)
        made.name = out.path.name
        result = fake_run.result_of(made).model_copy(
            update={
                "epochs": len(history),
                "selection_top1": history[-1]["selection_top1"],
                "digests": out.digests(),
            }
        )
        content = json.loads(result.model_dump_json())
        write_json(out.result_file, content)
        return result


def _draw(*what: Any) -> float:
    """A number in [0, 1) that depends on nothing else."""
    return (zlib.crc32(repr(what).encode()) % 10_000) / 10_000


@lru_cache(maxsize=4096)
def _table(history: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(json.loads(history)), sink)
    return bytes(sink.getvalue().to_pybytes())
