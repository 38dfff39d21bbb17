"""Who drives a sweep, said to every machine that sees its folder, or the address where it lies: a
file that its holder renews.

Locks of the operating system need not hold across machines. A lease does: it is made in one step,
and whoever finds one waits, on its own clock, until the file has not changed for a while. The
clocks of two machines are never compared.

Every lease has a number. A new one takes the next number, which only one process can, and its
holder changes no file but its own; whoever finds a higher number than its own has lost.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.record.commands import command
from orchestrator.record.copies import copy_of, place_of
from orchestrator.record.processes import Process, process_start, this_process
from orchestrator.record.resolved import FILE
from trainables.contract.errors import Interrupted, OutOfSpace, StorageFailed, UserError

if TYPE_CHECKING:
    from trainables.remote.objects import Objects

log = logging.getLogger(__name__)

RENEW_S = 5.0
STILL_S = 90.0
"""A lease that stood still for so long may be taken. Longer than a shared file system keeps what it
has read (60 s on NFS) and than a busy holder misses.
"""
PATIENCE_S = 20.0
"""How long a renewal at an address is tried: the next one is due."""
LOOK_S = 3 * RENEW_S
"""How long `status` looks before it says that nothing runs."""
PAUSE_S = 0.5
"""Between two looks."""

_NAME = re.compile(r"\.lease\.(\d+)")
_BEATS = 12  # digits of the count of renewals
_RELEASED = b"released".ljust(_BEATS)


@dataclass(frozen=True, slots=True)
class World:
    """A process, and how it sees other processes and time."""

    process: Process
    started: Callable[[int], str | None] = process_start
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Look:
    """The newest lease of a folder as it was at a moment of the reader's clock."""

    number: int  # 0: there is none
    content: bytes
    at: float

    @property
    def holder(self) -> Process | None:
        """None where the file is damaged or not yet written."""
        try:
            return Process(**json.loads(self.content.partition(b"\n")[0])["holder"])
        except (ValueError, TypeError, LookupError):
            return None

    def is_free(self, world: World) -> bool:
        """Whether nobody holds it: there is none, it was given back, or its holder is dead."""
        if not self.number or self.is_released:
            return True
        holder = self.holder
        if holder is None or not world.process.sees(holder):
            return False
        started = world.started(holder.pid)
        if started is None:
            return True
        # another process has its number by now; an unknown start proves nothing
        return bool(started and holder.started) and started != holder.started

    @property
    def is_released(self) -> bool:
        """Whether its holder gave it back."""
        return self.content.endswith(_RELEASED)

    def same(self, other: Look) -> bool:
        """Whether it was not renewed between two looks."""
        return (self.number, self.content) == (other.number, other.content)

    @property
    def words(self) -> str:
        known = None if self.is_released else self.holder
        return "another process" if known is None else known.words


def look(run: Path, world: World) -> Look:
    """The newest lease of a folder now."""
    shelf = shelf_of(run)
    number = max(shelf.numbers(), default=0)
    return Look(number, shelf.read(number) if number else b"", world.now())


def lease_files(run: Path) -> list[Path]:
    """Every lease of a folder on this machine, and what making one left behind."""
    try:
        return sorted(path for path in run.iterdir() if path.name.startswith(".lease."))
    except OSError:
        return []


def _name(number: int) -> str:
    return f".lease.{number}"


def _numbers(names: Iterable[str]) -> list[int]:
    found = map(_NAME.fullmatch, names)
    return [int(match[1]) for match in found if match]


class Shelf(Protocol):
    """Where the leases of a folder are: files by their numbers."""

    def numbers(self) -> list[int]: ...

    def read(self, number: int) -> bytes:
        """Empty where it is gone."""
        ...

    def make(self, number: int, content: bytes) -> bool:
        """In one step, whole; False where there is one of this number."""
        ...

    def renew(self, number: int, content: bytes) -> None:
        """Change its last word; nothing where it is gone or cannot be written."""
        ...

    def remove(self, number: int) -> None: ...


class Files:
    """Leases in a folder that this machine reaches by a path."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def numbers(self) -> list[int]:
        return _numbers(path.name for path in lease_files(self._run))

    def read(self, number: int) -> bytes:
        # it may be taken away at this moment, by a newer one
        with suppress(OSError):
            return (self._run / _name(number)).read_bytes()
        return b""

    def make(self, number: int, content: bytes) -> bool:
        partial = self._run / f".lease.{uuid.uuid4().hex[:12]}.partial"
        try:
            partial.write_bytes(content)
            return _link(partial, self._run / _name(number), content)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def renew(self, number: int, content: bytes) -> None:
        """In place: that takes no space of a full disk."""
        word = content[-_BEATS:]
        try:
            handle = os.open(self._run / _name(number), os.O_RDWR)
        except OSError as error:  # the folder was removed, or does not answer
            log.debug("%s: the lease cannot be written: %s", self._run, error)
            return
        try:
            os.pwrite(handle, word, os.fstat(handle).st_size - _BEATS)
        except OSError as error:
            log.debug("%s: the lease cannot be written: %s", self._run, error)
        finally:
            os.close(handle)

    def remove(self, number: int) -> None:
        (self._run / _name(number)).unlink(missing_ok=True)


class AtAnAddress:
    """Leases of a sweep that lies at an address: objects beside its other files."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def numbers(self) -> list[int]:
        return _numbers(self._objects.top())

    def read(self, number: int) -> bytes:
        with suppress(FileNotFoundError):
            return self._objects.read(_name(number))
        return b""

    def make(self, number: int, content: bytes) -> bool:
        return self._objects.make(_name(number), content)

    def renew(self, number: int, content: bytes) -> None:
        try:
            if self._objects.has(_name(number)):
                self._objects.write(_name(number), content)
        except StorageFailed as error:
            log.debug("the lease cannot be written: %s", error)

    def remove(self, number: int) -> None:
        self._objects.remove([_name(number)])


def shelf_of(run: Path) -> Shelf:
    """Where the leases of a sweep's folder are."""
    copy = copy_of(run)
    if copy is None:
        return Files(run)
    from trainables.remote.objects import Objects

    return AtAnAddress(Objects(copy.address, patience_s=PATIENCE_S))


class Lease:
    """A hold on a folder that other machines see."""

    def __init__(self, run: Path, world: World | None = None) -> None:
        self._run = run
        self._shelf = shelf_of(run)
        self._world = world or World(this_process())
        self._id = uuid.uuid4().hex[:12]
        self._number = 0
        self._beats = 0
        self._record = b""
        self._shown_at = 0.0  # when it was last seen to be ours, by a clock that counts sleep

    def acquire(self) -> None:
        """Take the folder's lease. UserError where somebody else has it, which may take some
        seconds to see; a holder that can't be seen is waited for until STILL_S have passed.
        """
        world, first = self._world, look(self._run, self._world)
        now, said = first, False
        while not self._is_free(now, first):
            if not now.same(first):
                raise UserError(busy(self._run, now))
            if not said:
                said = True
                log.warning(
                    "%s: %s may still run it: looking for up to %.0f s whether it does",
                    self._run,
                    now.words,
                    STILL_S,
                )
            world.sleep(PAUSE_S)
            now = look(self._run, world)
        if not self._take(now.number + 1):
            raise UserError(busy(self._run, look(self._run, world)))

    def _is_free(self, now: Look, first: Look) -> bool:
        return now.is_free(self._world) or (now.same(first) and now.at - first.at >= STILL_S)

    def _take(self, number: int) -> bool:
        """Whether the lease of this number, which nobody had, is ours."""
        record = {"holder": asdict(self._world.process), "id": self._id, "since": time.time()}
        self._record = json.dumps(record).encode() + b"\n"
        try:
            made = self._shelf.make(number, self._record + self._beat())
        except OSError as error:
            if OutOfSpace.is_why(error):
                raise OutOfSpace(self._run, error) from error
            raise UserError(
                f"{self._run}: must be a folder that can be written to: {error.strerror}"
            ) from error
        if not made:
            return False
        if max(self._shelf.numbers(), default=0) > number:
            self._shelf.remove(number)  # of somebody who had taken this number and gave it up
            return False
        self._number, self._shown_at = number, _boot_time()
        for other in self._shelf.numbers():
            if other < number:
                self._shelf.remove(other)
        return True

    def _beat(self) -> bytes:
        return f"{self._beats:0{_BEATS}d}".encode()

    def renew(self) -> bool:
        """Show that the holder is there; False where somebody else has taken the lease."""
        if max(self._shelf.numbers(), default=0) > self._number:
            return False
        self._shown_at = _boot_time()
        self._beats += 1
        self._shelf.renew(self._number, self._record + self._beat())
        return True

    def check(self) -> None:
        """End this process where another one has taken the lease, which it can once this machine
        slept or the wire stood still for STILL_S; looks only where that may be.
        """
        if _boot_time() - self._shown_at < STILL_S / 2:
            return
        now = _boot_time()
        if max(self._shelf.numbers(), default=0) > self._number:
            _end(self._run)
        self._shown_at = now

    def release(self) -> None:
        """Give it back, unless it was taken; remove it at an address that has no sweep any more."""
        if copy_of(self._run) is not None and not (self._run / FILE).is_file():
            self._shelf.remove(self._number)
        else:
            self._shelf.renew(self._number, self._record + _RELEASED)


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _link(partial: Path, file: Path, content: bytes) -> bool:
    """Make `file`, whole and in one step, unless it is there; where the file system has no links,
    in two.
    """
    try:
        os.link(partial, file)
    except FileExistsError:
        # over a network a request that was answered may be sent again
        return partial.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        try:
            with file.open("xb") as stream:
                stream.write(content)
        except FileExistsError:
            return False
    return True


def busy(run: Path, found: Look | None = None) -> str:
    """That a folder is held, and by whom."""
    found = found or look(run, World(this_process()))
    return (
        f"{place_of(run)}: is being run by {found.words}; `{command('status', run)}` shows how far"
        " it is"
    )


def first_looks(runs: Iterable[Path]) -> dict[Path, Look]:
    """A look at each folder, for `is_renewed`: so that it is waited once for all of them."""
    world = World(this_process())
    return {run: look(run, world) for run in runs}


def is_renewed(run: Path, first: Look | None = None, world: World | None = None) -> bool:
    """Whether somebody holds the folder's lease. Where that cannot be told from the process, it is
    looked at until it is renewed, for at most LOOK_S since `first`.
    """
    world = world or World(this_process())
    first = first or look(run, world)
    now = look(run, world)
    while now.same(first):
        if now.is_free(world) or now.at - first.at >= LOOK_S:
            return False
        world.sleep(PAUSE_S)
        now = look(run, world)
    return not now.is_free(world)


@contextmanager
def leased(run: Path, on_loss: Callable[[], None] | None = None) -> Iterator[Lease]:
    """Within: the folder's lease is ours, and renewed. on_loss: what to do, at once, where somebody
    else has taken it; default: this process ends, and leaves the folder to the other one.
    """
    lease, ended = Lease(run), threading.Event()
    lease.acquire()

    def renew() -> None:
        while not ended.wait(RENEW_S):
            try:
                kept = lease.renew()
            except StorageFailed as error:  # nothing is sent before it is seen again, see `check`
                log.debug("%s", error)
                continue
            if not kept:
                (on_loss or (lambda: _end(run)))()
                return

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join(RENEW_S)  # a file system that hangs may keep it
        lease.release()


def _end(run: Path) -> None:
    """Like a killed process: nothing more is written, as the folder is another one's."""
    log.error(
        "%s: this process stood still for so long that another one runs the sweep now: it ends",
        run,
    )
    os._exit(Interrupted.exit_code)
