"""Calls to a service that may be slow or away: done in order by one thread, tried again while the
service is away, never lost in silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from trainables.contract.secrets import redacted

log = logging.getLogger(__name__)

Operation = Callable[[], None]


class NotYet(Exception):
    """Raised by an operation that waits for something else than the service, which comes by itself:
    those behind it go first, but for the last ones, once the outbox is closing.
    """


LONGEST_PAUSE = 30.0  # seconds between two attempts
LONGEST_CALL = 600.0
"""Seconds after which a call that has not come back, such as a large upload, counts as hanging."""
ATTEMPTS = 5
"""Of an operation that fails although the service answers: then it is its own fault."""
SAY_EVERY = 15.0  # seconds between two words of how much is still to be delivered


class Outbox:
    """Operations in, deliveries out. `put` never blocks and never raises what the service raises.

    may_pass: whether an error is worth another attempt; any other error drops the operation, with a
    warning. answers: whether the service answers at all: while it does not, everything keeps its
    place; while it does, an operation is dropped after `ATTEMPTS`, so that what is queued behind it
    gets on.
    first: label and operation without which no other can be delivered. It is dropped only once the
    outbox is closing, whatever the service says before: one odd answer of a service that comes back
    (a proxy without its server) must not cost the rest. Where it is dropped, so are the others,
    which is said once.
    every: seconds between two rounds, so that what comes in meanwhile can be delivered together.
    """

    def __init__(
        self,
        may_pass: Callable[[Exception], bool],
        answers: Callable[[], bool],
        first: tuple[str, Operation] | None = None,
        *,
        every: float = 1.0,
    ) -> None:
        self._may_pass = may_pass
        self._answers = answers
        self._every = every
        self._waiting: deque[tuple[str, Operation]] = deque([] if first is None else [first])
        self._passed: list[tuple[str, Operation]] = []  # in this round, see `NotYet`
        self._last: tuple[str, Operation] | None = None  # until the outbox is closing
        self._first = None if first is None else first[0]
        self._lost: dict[str, None] = {}  # labels, in order
        self._attempts = 0  # of the first that waits
        self._away = first is not None  # and that was said
        self._refused = False  # the first, and that was said
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._patience = float("inf")
        self._last_answer = time.monotonic()
        self._thread = threading.Thread(target=self._deliver, name="outbox", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Nothing else is put in."""
        return self._closing.is_set()

    def put(self, label: str, operation: Operation) -> None:
        """Queue an operation; `label` names it should it never be delivered."""
        self._waiting.append((label, operation))

    def hurry(self) -> None:
        """Deliver what waits now: it is much, and nothing else comes in that it could go with."""
        self._hurry.set()

    def answered(self) -> None:
        """The service answered a call: it is there, however long the queue."""
        self._last_answer = time.monotonic()

    def close(self, patience: float, last: tuple[str, Operation] | None = None) -> tuple[str, ...]:
        """Deliver what is left, however long it takes as long as the service answers; give up once
        it has not for `patience` seconds. The labels of what was not delivered, each once.

        last: label and operation that passes nothing, whatever is under way.
        Ctrl-C ends the waiting, not the sweep.
        """
        self._patience = patience
        self._last_answer = said = time.monotonic()
        self._last = last
        self._closing.set()
        self._hurry.set()
        try:
            while self._thread.is_alive():
                self._thread.join(min(SAY_EVERY, max(patience, 0.05)))
                now = time.monotonic()
                if now - self._last_answer > patience + LONGEST_CALL:
                    break
                if self._thread.is_alive() and now - said >= SAY_EVERY:
                    said = now
                    log.warning("MLflow: delivering what is left (%d entries)", len(self._waiting))
        except KeyboardInterrupt:
            log.warning("MLflow: interrupted, what is left is not delivered")
        last_left = () if self._last is None else (self._last,)
        left = (*self._passed, *tuple(self._waiting), *last_left)
        return tuple({**self._lost, **{label: None for label, _ in left}})

    def _deliver(self) -> None:
        pause = self._every
        while True:
            if not self._closing.is_set():
                self._hurry.wait(pause)
                self._hurry.clear()
            closing = self._closing.is_set()
            if closing and self._last is not None:
                # not before: what was passed in the round in which the closing began is in its
                # place again
                self._waiting.append(self._last)
                self._last = None
            waits = not self._deliver_all()
            silent = time.monotonic() - self._last_answer
            if closing and (not waits or silent >= self._patience):
                return
            pause = min(2 * pause, LONGEST_PAUSE) if waits else self._every
            if closing:
                time.sleep(min(self._every, max(0.0, self._patience - silent)))

    def _deliver_all(self) -> bool:
        """Empty the queue, but for what waits for something else; False as soon as an operation has
        to be tried again.
        """
        try:
            while self._waiting:
                if self._first in self._lost:
                    self._lost[self._waiting[0][0]] = None
                elif not self._attempt(*self._waiting[0]):
                    return False
                self._waiting.popleft()
            return True
        finally:
            while self._passed:
                self._waiting.appendleft(self._passed.pop())

    def _attempt(self, label: str, operation: Operation) -> bool:
        """Whether the operation is done with: delivered, or given up."""
        try:
            operation()
        except NotYet:
            self.answered()  # it is not the service that is silent
            if self._closing.is_set():
                return False
            self._passed.append((label, operation))
            return True
        # whatever goes wrong here must not end the sweep: its files are complete without the
        # service
        except Exception as error:
            if self._keeps_place(label, error):
                return False
            if label not in self._lost:
                self._lost[label] = None
                log.warning("%s: not delivered: %s", label, _first_line(error))
        self._attempts, self._away = 0, False
        self.answered()
        return True

    def _keeps_place(self, label: str, error: Exception) -> bool:
        """Whether the operation is to be tried again; said once per time that the service is away,
        and once where it refuses the first.
        """
        if self._may_pass(error):
            away = not self._answers()
            self._attempts += not away
            if away or self._attempts < ATTEMPTS:
                self._say_again(label, error, said=self._away)
                self._away = True
                return True
        if label != self._first or self._closing.is_set():
            return False
        self._say_again(label, error, said=self._refused)
        self._refused = True
        return True

    def _say_again(self, label: str, error: Exception, *, said: bool) -> None:
        if not said:
            log.warning("%s: not delivered yet, will try again: %s", label, _first_line(error))


def _first_line(error: Exception) -> str:
    return redacted((str(error).splitlines() or [type(error).__name__])[0][:300])
