"""Work on many items in several processes, with results in the order of the items.

Knows no format.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from trainables.contract.errors import UserError

CHUNK = 16  # items a process takes at a time
AHEAD = 3  # chunks per process that may wait or be done before their turn

A = TypeVar("A")
B = TypeVar("B")


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(work: Callable[[A], B], items: Sequence[A], jobs: int) -> Iterator[B]:
    """`work` of every item, in the order of `items`, whatever the number of processes; never more
    than a few chunks are held.

    `work` and what it takes and gives are pickled. With one job, or few items, everything happens
    in this process.
    """
    chunks = [items[begin : begin + CHUNK] for begin in range(0, len(items), CHUNK)]
    jobs = min(jobs, len(chunks))
    if jobs <= 1:
        yield from map(work, items)
        return
    # Not forked: the progress bar is a thread. Started like this, a process knows nothing of this
    # one's locks.
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    waiting: deque[Future[list[B]]] = deque()
    try:
        for chunk in chunks:
            with _ctrl_c_held_back():
                waiting.append(pool.submit(_each, work, chunk))
            if len(waiting) > AHEAD * jobs:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"one of {jobs} reading processes was ended from outside, perhaps for want of memory;"
            " use fewer"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _each(work: Callable[[A], B], items: Sequence[A]) -> list[B]:
    return [work(item) for item in items]


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Processes started within never see Ctrl-C, not even while they start: it is for this one,
    which then ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """A parent that was killed takes this process along."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
