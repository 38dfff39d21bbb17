"""One process at a time in a folder: a lock that ends with the process that holds it, however it
ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.contract.errors import UserError

PAUSE_S = 0.05
"""Between two attempts to take a lock."""


LOOKS = 5
"""How often a file that is another one than was opened is opened again: there are file systems
whose files have another number each time, and whose locks are good.
"""


@contextmanager
def held(
    folder: Path, *, patience: float, busy: str | Callable[[], str], name: str = ".lock"
) -> Iterator[None]:
    """Hold `folder` (made if it is not there) through its file `name`.

    UserError(busy) if another process holds it for `patience` seconds, and where there cannot be
    such a folder.
    """
    deadline, looks = time.monotonic() + patience, LOOKS
    handle = _opened(folder, name)
    try:
        while not taken(handle) or (looks and _is_gone(handle, folder / name)):
            if looks and _is_gone(handle, folder / name):  # its holder has removed the folder
                looks -= 1
                there = _opened(folder, name)
                os.close(handle)
                handle = there
            elif time.monotonic() > deadline:
                raise UserError(busy if isinstance(busy, str) else busy())
            else:
                time.sleep(PAUSE_S)
        yield
    finally:
        os.close(handle)


def _opened(folder: Path, name: str) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise UserError(
            f"{folder}: must be a folder that can be written to: {error.strerror}"
        ) from error


def _is_gone(handle: int, file: Path) -> bool:
    """Whether what was opened is not the file any more: a lock on it keeps nobody out."""
    try:
        return not os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return True


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder now, as far as that can be seen: another user's lock may
    be looked at, unless its owner forbids reading.
    """
    try:
        handle = os.open(folder / ".lock", os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        return not _taken(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What a file system says that has no locks, as some that are shared over a network: nothing can be
held there, and nothing is refused.
"""


def wait_for(handle: int) -> None:
    """Lock an open file until it is closed, however long another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def taken(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process has it."""
    return _taken(handle, fcntl.LOCK_EX)


def _taken(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True
