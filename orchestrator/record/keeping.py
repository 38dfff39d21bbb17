"""A sweep that lies at an address is kept there while a process of this machine holds its copy.
Functions here do nothing for a sweep in a folder of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.record.copies import copy_of
from orchestrator.record.lease import Lease
from orchestrator.record.working_copy import Copy
from trainables.contract.errors import StorageFailed

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""Between two looks at what changed here, and for requests to stop that another machine made."""

TRIALS_EVERY_S = 60.0
"""The same for the folders of trials, of which there are many and in which little changes."""

REQUESTS = ("drain", "cancel")
"""Files that ask the sweep to end."""

_KEPT: dict[Path, _Keeper] = {}
"""Copies that this process holds now."""


class _Keeper:
    """Sends what changes in a copy, in a thread of its own."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self.problem: str | None = None  # why the last attempt to send failed

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        all_at = time.monotonic() + TRIALS_EVERY_S
        while not self._ended.wait(EVERY_S):
            everything = time.monotonic() >= all_at
            try:
                self._copy.watch(REQUESTS)
                self._copy.push("" if everything else None)
                self.problem = None
            except (StorageFailed, OSError) as error:
                self.problem = str(error)
                log.warning("%s", error)
            if everything:
                all_at = time.monotonic() + TRIALS_EVERY_S


@contextmanager
def kept(run: Path, lease: Lease) -> Iterator[None]:
    """Within: the copy, brought up to date first, is sent as it changes, and once more at the end.
    StorageFailed where the address does not have all of it then. lease: the hold on the sweep;
    where another machine has taken it, this process ends before it sends anything.
    """
    copy = copy_of(run)
    if copy is None:
        yield
        return
    copy.pull()
    copy.check = lease.check
    keeper = _KEPT[run.absolute()] = _Keeper(copy)
    keeper.start()
    try:
        try:
            yield
        finally:
            keeper.end()
            del _KEPT[run.absolute()]
    except BaseException:
        try:
            _send_all(copy)
        except (StorageFailed, OSError) as error:  # why the run ends matters more
            log.warning("%s", error)
        raise
    else:
        _send_all(copy)
    finally:
        copy.check = lambda: None


def _send_all(copy: Copy) -> None:
    try:
        copy.push("")
        copy.settle()
    except StorageFailed as error:
        raise StorageFailed(
            f"{error}\nwhat was not sent is made again by the same command", refused=error.refused
        ) from error


def reached(run: Path, *, trials: bool = False) -> None:
    """Return once the address has what was written in the folder, with `trials` in those of trials,
    too. StorageFailed where it cannot have it: what depends on it must not begin.
    """
    copy = copy_of(run)
    if copy is not None:
        copy.push("" if trials else None)


def problem(run: Path) -> str | None:
    """Why a sweep that is held here cannot be kept where it lies."""
    keeper = _KEPT.get(run.absolute())
    return None if keeper is None else keeper.problem
