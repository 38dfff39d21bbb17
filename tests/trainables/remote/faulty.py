"""A file system in memory at which writes fail, or the process dies, when a test says so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest

from trainables.remote import objects

WRITES = ("pipe_file", "cp_file", "rm_file")
READS = ("cat_file", "find", "ls", "exists")


class Killed(BaseException):
    """The process has ended at this place."""


class Faulty:
    """The file system in memory; counts its requests.

    dies_at: the number of the write at which the process dies, `after` that is done or before it:
    from then on nothing is written or read. fails: how many requests have no answer, each once.
    """

    protocol = "memory"

    def __init__(self) -> None:
        self._fs = fsspec.filesystem("memory")
        self.dies_at: int | None = None
        self.after = False
        self.fails = 0
        self.refuses: set[str] = set()  # methods that are not permitted
        self.revive()

    def revive(self) -> None:
        """A new process."""
        self.writes, self.dead = 0, False
        self.requests: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._fs, name)
        if name not in (*WRITES, *READS):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            self._before(name, str(arguments[0]))
            answer = method(*arguments, **options)
            if name in WRITES:
                self.writes += 1
                self._die_if(self.after and self.writes == self.dies_at)
            return answer

        return call

    def _before(self, name: str, path: str) -> None:
        self._die_if(self.dead)
        self.requests.append((name, path))
        if name in self.refuses:
            raise PermissionError("AccessDenied")
        if self.fails:
            self.fails -= 1
            raise TimeoutError("no answer in 60 s")
        if name in WRITES:
            self._die_if(not self.after and self.writes + 1 == self.dies_at)

    def _die_if(self, dies: bool) -> None:
        if dies:
            self.dead = True
            raise Killed


@contextmanager
def faulty_store() -> Iterator[tuple[str, Faulty]]:
    """An address of its own, and the file system that is opened for it and whatever is below."""
    fs = Faulty()
    address = f"memory://{uuid.uuid4().hex}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "opened", lambda place: (fs, "/" + place.removeprefix("memory://")))
        patch.setattr(objects, "PAUSES_S", (0.0, 0.0))
        patch.setattr(objects, "SETTLE_S", 0.0)
        yield address, fs
