"""What asks a sweep to end while its trials run: signals, the time budget, a full disk.

Knows no Ray.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from orchestrator.record.stop_requests import Stop, StopRequests
from trainables.contract.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
SIGACTION_BYTES = 512
"""More than C's `struct sigaction` has anywhere."""


class StopSwitch:
    """The sweep's stop request, kept in memory too: a full disk does not take the file that running
    trials look for.
    """

    def __init__(self, requests: StopRequests) -> None:
        self.requests = requests
        self.signalled = False  # once more ends the process at once
        self._stop: Stop | None = None
        # the running trials cannot be asked, so they end without another checkpoint
        self.at_once = False

    def cancel(self, stop: Stop) -> None:
        """No new trials; the running ones write a checkpoint and end. The first reason stays."""
        self._stop = self._stop or stop
        try:
            self.requests.cancel(self._stop)
        except OSError:
            self.at_once = True

    def closed(self) -> bool:
        """True once no new trial may start."""
        return self._stop is not None or self.requests.closed()

    def stop(self) -> Stop | None:
        """Why the sweep ends; None if nobody asked."""
        return self._stop or self.requests.stop()


def fresh_switch(run: Path) -> StopSwitch:
    """Of a run of the sweep that begins: requests made to an earlier one are forgotten."""
    requests = StopRequests(run)
    requests.clear()
    return StopSwitch(requests)


WRITE_AND_END = "running trials write a checkpoint and end"


@contextmanager
def signals_cancel(
    switch: StopSwitch, note: Callable[[str], None], then: str = WRITE_AND_END
) -> Iterator[Callable[[], None]]:
    """Within: the first Ctrl-C, SIGTERM or SIGUSR1 cancels the sweep, the second ends the process
    at once. then: what happens before the sweep ends.

    Yields what makes the signals ours again, for after a library has taken them.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if switch.signalled:
            os._exit(Interrupted.exit_code)
        switch.signalled = True
        name = signal.Signals(number).name
        switch.cancel(Stop("person", f"received {name}"))
        note(f"{name}: {then}; once more to end at once")

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
def handlers_kept() -> Iterator[None]:
    """Within: what a library puts in the place of the handlers of these signals, below Python, is
    taken back at the end. For threads: in them Python sets no handler.
    """
    system = ctypes.CDLL(None)
    kept = {number: ctypes.create_string_buffer(SIGACTION_BYTES) for number in SIGNALS}
    for number, action in kept.items():
        system.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in kept.items():
            system.sigaction(int(number), action, None)


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
