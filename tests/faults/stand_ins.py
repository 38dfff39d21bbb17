"""What stands in the place of clocks, displays and threads in a world of faults."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console

from orchestrator.tuning import progress
from tests.faults.workers import WORKERS


class Clock:
    """In the place of the module `time`: it goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        worker = WORKERS.get(threading.current_thread())
        if worker is not None:
            worker.pause()


class Quiet(progress.Display):
    """A display of which nobody sees anything."""

    def __init__(self, totals: Any) -> None:
        super().__init__(totals, Console(file=io.StringIO()))

    def note(self, text: str) -> None: ...


class NoThread:
    """In the place of the outbox's thread: it works when someone waits for it."""

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self._target: Callable[[], None] | None = target

    def start(self) -> None: ...

    def is_alive(self) -> bool:
        return self._target is not None

    def join(self, timeout: float) -> None:
        target, self._target = self._target, None
        if target is not None:
            target()


class Idle(NoThread):
    """In the place of the thread that renews a lease: no other process takes one in this time."""

    def join(self, timeout: float) -> None: ...
