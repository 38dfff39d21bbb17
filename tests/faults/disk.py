"""A disk on which a simulated process can die in any of its operations, and which can be full.

The operations of threads that belong to no simulated process are those of the real disk.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import pytest

How = Literal["before", "torn", "after"]
"""When a process dies: before an operation, when half of what it writes is there, or after."""


class Killed(BaseException):
    """The process was killed: nothing that it still does reaches the disk or anyone else."""


@dataclass(eq=False)
class Process:
    """A simulated process, as a thread of this one."""

    name: str
    dies_at: int | None = None  # the operation, counted from 1, in which it dies; None: in none
    how: How = "before"
    between: Callable[[], None] = lambda: None  # called before each operation
    dead: bool = False
    operations: int = 0

    def operate(self, do: Callable[[], Any], torn: Callable[[], Any] = lambda: None) -> Any:
        """Do one operation, or die in it. torn: do a part of it."""
        if self.dead:
            raise Killed
        self.between()
        self.operations += 1
        if self.operations != self.dies_at:
            return do()
        self.dead = True
        with suppress(OSError):
            {"before": lambda: None, "torn": torn, "after": do}[self.how]()
        raise Killed


class Disk:
    """Knows which thread is which process, and how much room there is."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        self.room: int | None = None  # operations until the disk is full; None: it is not
        self.full_for = 0  # operations that it stays full for
        self.broken = False  # the next write fails, for a reason that passes
        self.met_full = 0  # operations that met a full disk
        self.placed: Callable[[str], None] = lambda path: None  # told of every file put in place
        self._real = {name: getattr(os, name) for name in CHANGES} | {"write": os.write}
        self._open = io.open

    @contextmanager
    def of(self, process: Process) -> Iterator[None]:
        """Within: what this thread does is done by `process`."""
        ident = threading.get_ident()
        self._processes[ident] = process
        try:
            yield
        finally:
            del self._processes[ident]

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Within: what this thread does is done by somebody else."""
        ident = threading.get_ident()
        process = self._processes.pop(ident)
        try:
            yield
        finally:
            self._processes[ident] = process

    @property
    def process(self) -> Process | None:
        """Whose operation this is; None: of nobody who is simulated."""
        return self._processes.get(threading.get_ident())

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between the simulated processes and the disk."""
        for name in CHANGES:
            patch.setattr(os, name, self._change(name))
        patch.setattr(os, "write", self._write)
        patch.setattr(os, "fsync", self._sync)
        patch.setattr(io, "open", self._open_file)

    def _change(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def change(*arguments: Any, **options: Any) -> Any:
            process = self.process
            if process is None:
                return real(*arguments, **options)
            if name in TAKES_ROOM:
                self._check_room(process, arguments[0])
            return process.operate(lambda: do(*arguments, **options))

        def do(*arguments: Any, **options: Any) -> Any:
            answer = real(*arguments, **options)
            if name == "replace":
                self.placed(str(arguments[1]))
            return answer

        return change

    def _sync(self, _descriptor: int) -> None:
        """A tmpfs has nothing to sync: only the moment counts."""
        if (process := self.process) is not None:
            process.operate(lambda: None)

    def _write(self, descriptor: int, data: bytes) -> int:
        process, real = self.process, self._real["write"]
        if process is None:
            return int(real(descriptor, data))
        return int(self._operate_write(process, lambda part: real(descriptor, part), data))

    def _open_file(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        process = None if mode in ("r", "rb") else self.process
        if process is None or not set(mode) & set("wax+"):
            return self._open(file, mode, *arguments, **options)
        self._check_room(process, file)
        opened = None

        def do() -> None:
            nonlocal opened
            opened = self._open(file, mode, *arguments, **options)

        try:
            process.operate(do)
        except Killed:
            if opened is not None:
                opened.close()
            raise
        return _File(opened, lambda write, data: self._operate_write(process, write, data))

    def _operate_write(self, process: Process, write: Callable[[bytes], Any], data: bytes) -> Any:
        half = data[: len(data) // 2]
        if not process.dead and self._is_full():
            write(half)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not process.dead and self.broken:
            self.broken = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return process.operate(lambda: write(data), lambda: write(half))

    def _check_room(self, process: Process, path: Any) -> None:
        if not process.dead and self._is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _is_full(self) -> bool:
        if self.room is None:
            return False
        if self.room > 0:
            self.room -= 1
            return False
        self.full_for -= 1
        if self.full_for < 0:
            self.room = None
            return False
        self.met_full += 1
        return True


CHANGES = ("replace", "unlink", "mkdir", "rmdir", "link", "pwrite", "truncate", "ftruncate")
TAKES_ROOM = ("mkdir",)


class _File:
    """A file that is open for writing: each write reaches the disk at once."""

    def __init__(self, file: Any, write: Callable[..., Any]) -> None:
        self._file = file
        self._operate = write

    def write(self, data: Any) -> Any:
        def through(part: Any) -> Any:
            count = self._file.write(part)
            self._file.flush()
            return count

        return self._operate(through, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
