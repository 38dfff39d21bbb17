"""Calls to a service that may be slow or away: done in order by one thread, tried again while the
service is away, never lost in silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Operation = Callable[[], None]
LONGEST_PAUSE = 30.0  # seconds between two attempts


class Outbox:
    """Operations in, deliveries out. `put` never blocks and never raises what the service raises.

    transient: whether an error is worth another attempt; the operation then keeps its place. Any
    other error drops it, with a warning.
    every: seconds between two rounds, so that what comes in meanwhile can be delivered together.
    """

    def __init__(self, transient: Callable[[Exception], bool], *, every: float = 1.0) -> None:
        self._transient = transient
        self._every = every
        self._waiting: deque[tuple[str, Operation]] = deque()
        self._lost: list[str] = []
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._deliver, name="outbox", daemon=True)
        self._thread.start()

    def put(self, label: str, operation: Operation) -> None:
        """Queue an operation; `label` names it should it never be delivered."""
        self._waiting.append((label, operation))

    def close(self, patience: float) -> tuple[str, ...]:
        """Deliver what is left, for at most `patience` seconds while the service is away; the
        labels of what was not delivered.
        """
        self._deadline = time.monotonic() + patience
        self._closing.set()
        self._thread.join(patience + LONGEST_PAUSE)
        return (*self._lost, *(label for label, _ in tuple(self._waiting)))

    def _deliver(self) -> None:
        pause = self._every
        while True:
            self._closing.wait(pause)
            closing = self._closing.is_set()
            away = not self._deliver_all()
            if closing and (not away or time.monotonic() >= self._deadline):
                return
            pause = min(2 * pause, LONGEST_PAUSE) if away else self._every
            if closing:
                time.sleep(min(self._every, max(0.0, self._deadline - time.monotonic())))

    def _deliver_all(self) -> bool:
        """Empty the queue; False as soon as the service turns out to be away."""
        while self._waiting:
            label, operation = self._waiting[0]
            try:
                operation()
            # whatever goes wrong here must not end the sweep: its files are complete without the
            # service
            except Exception as error:
                if self._transient(error):
                    log.warning(
                        "%s: not delivered yet, will try again: %s", label, _first_line(error)
                    )
                    return False
                log.warning("%s: not delivered: %s", label, _first_line(error))
                self._lost.append(label)
            self._waiting.popleft()
        return True


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
