"""When trials are stopped early, and what asks a sweep to end: signals and the time budget."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.record.stop_requests import Stop, StopRequests

SCHEDULERS: dict[str, Callable[[], TrialScheduler]] = {"none": FIFOScheduler}
"""early_terminate.type -> what decides which running trials are stopped."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def signals_cancel(requests: StopRequests, note: Callable[[str], None]) -> Iterator[None]:
    """Within: the first Ctrl-C, SIGTERM or SIGUSR1 cancels the sweep, the second ends the process
    at once.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if requests.cancel_file.exists():
            os._exit(130)
        requests.cancel(Stop("person", f"received {name}"))
        note(f"{name}: running trials write a checkpoint and end; once more to end at once")

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def time_budget(
    requests: StopRequests, seconds: float | None, note: Callable[[str], None]
) -> Iterator[None]:
    """Within: the sweep is cancelled once `seconds` have passed; None is no limit."""
    if seconds is None:
        yield
        return

    def end() -> None:
        requests.cancel(Stop("budget", "budget.hours used up"))
        note("budget.hours used up: running trials write a checkpoint and end")

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
