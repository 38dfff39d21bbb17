"""What asks a sweep to end while its trials run: signals, the time budget, a full disk.

Knows no Ray.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.record.stop_requests import Stop, StopRequests
from trainables.contract.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSwitch:
    """The sweep's stop request, kept in memory too: a full disk does not take the file that running
    trials look for.
    """

    def __init__(self, requests: StopRequests) -> None:
        self._requests = requests
        self._stop: Stop | None = None
        # the running trials cannot be asked, so they end without another checkpoint
        self.at_once = False

    def cancel(self, stop: Stop) -> None:
        """No new trials; the running ones write a checkpoint and end. The first reason stays."""
        self._stop = self._stop or stop
        try:
            self._requests.cancel(self._stop)
        except OSError:
            self.at_once = True

    def closed(self) -> bool:
        """True once no new trial may start."""
        return self._stop is not None or self._requests.closed()

    def stop(self) -> Stop | None:
        """Why the sweep ends; None if nobody asked."""
        return self._stop or self._requests.stop()


@contextmanager
def signals_cancel(switch: StopSwitch, note: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Within: the first Ctrl-C, SIGTERM or SIGUSR1 cancels the sweep, the second ends the process
    at once.

    Yields what makes the signals ours again, for after a library has taken them.
    """
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(Interrupted.exit_code)
        received.append(number)
        name = signal.Signals(number).name
        switch.cancel(Stop("person", f"received {name}"))
        note(f"{name}: running trials write a checkpoint and end; once more to end at once")

    def install() -> None:
        for number in SIGNALS:
            signal.signal(number, handle)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    install()
    try:
        yield install
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def time_budget(
    switch: StopSwitch, seconds: float | None, note: Callable[[str], None]
) -> Iterator[None]:
    """Within: the sweep is cancelled once `seconds` have passed; None is no limit."""
    if seconds is None:
        yield
        return

    def end() -> None:
        switch.cancel(Stop("budget", "budget.hours used up"))
        note("budget.hours used up: running trials write a checkpoint and end")

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
