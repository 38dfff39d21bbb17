"""One attempt of a trial whose folder lies at an address: in a folder of this node, which begins
with what the address holds, and is kept there at each checkpoint and at the end.

Knows the names of a trial's files, not what is in them.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.contract import locks
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import LEFTOVER, cache_root
from trainables.contract.errors import Interrupted, StorageFailed, TrialFailed, UserError
from trainables.remote.objects import Objects

log = logging.getLogger(__name__)

FOLDER = "attempts"
"""In the cache of a node: a folder for each machine, with one for each attempt under way."""

OWNER = ".attempt"
"""The object in a trial's folder that names the attempt which may write there."""

REST = 9.0
"""A checkpoint waits until the one before lies at the address for this many times as long as it
took to get there: uploads take a tenth of the time at most.
"""

CANCEL_LOOK_S = 5.0
"""Between two looks for a request to stop."""

ABANDONED_S = 60.0
"""A folder that no process holds for so long is of one that was killed."""

NEXT_BEST = "checkpoint/next.best.pt"
"""The weights of a new best epoch until the checkpoint that names it lies beside them."""


class Attempt:
    """The node's folder of one trial, and what lies at the trial's address."""

    def __init__(self, address: str, root: Path) -> None:
        """root: an empty folder of this attempt's own."""
        self._objects = Objects(address)
        self._root = root
        self.folder = TrialDir(root / address.rstrip("/").rsplit("/", 1)[-1])
        self._id = uuid.uuid4().hex
        self._there: set[str] = set()  # names at the address, as far as this attempt knows
        self._sent: dict[str, _Mark] = {}  # checkpoint files that were sent
        self._shared: dict[Path, str] = {}  # beginnings -> the address that they lie at
        self._upload: threading.Thread | None = None
        self._error: BaseException | None = None
        self._rests_until = 0.0

    def begin(self) -> None:
        """Take the trial over and bring the state here that it goes on from."""
        self._there = set(self._objects.list())
        wanted = [name for name in self._there if name.startswith("checkpoint/")]
        result = self.folder.result_file.name
        self.folder.path.mkdir(parents=True)
        if result in self._there:
            self._objects.fetch({result: self.folder.result_file})
            if self.folder.is_complete():
                return
            self.folder.result_file.unlink()  # damaged: the end writes another one
            self._there.remove(result)
        self._objects.fetch({name: self.folder.path / name for name in wanted})
        self._objects.write(OWNER, self._id.encode())

    def shared_file(self, address: str) -> Path:
        """The file here of a beginning at an address, with its content if it is there."""
        place, name = address.rsplit("/", 1)
        file = self._root / "shared" / name
        self._shared[file] = place
        with suppress(FileNotFoundError):
            Objects(place).fetch({name: file})
        return file

    def send_shared(self, file: Path) -> None:
        """Leave a beginning, which was written to such a file, to others."""
        Objects(self._shared[file]).store({file.name: file})

    def saved(self) -> None:
        """The trainer has reported: where its checkpoint is a new one and the wire is free, send it
        while training goes on. StorageFailed where an earlier one could not be sent, and
        FileNotFoundError where the node's folder was taken away.
        """
        self._raise()
        self._check_folder()
        busy = self._upload is not None and self._upload.is_alive()
        if busy or time.monotonic() < self._rests_until:
            return
        if _mark(self.folder.checkpoint_file) in (None, self._sent.get("last.pt")):
            return
        files = self._snapshot()
        self._upload = threading.Thread(
            target=self._send_beside, args=(files,), name="upload", daemon=True
        )
        self._upload.start()

    def finish(self) -> None:
        """Send everything that is not there yet, a result last. StorageFailed where that cannot be:
        the trial then goes on from what is there. Of a folder without its configuration, which was
        taken away or not begun, only why the trial failed is sent, and nothing is removed for it:
        FileNotFoundError where it holds a result.
        """
        self._wait()
        self._raise()
        result = self.folder.result_file.name
        if result in self._there:
            return
        files = {
            name: path
            for path in _files(self.folder.path)
            if not (name := path.relative_to(self.folder.path).as_posix()).startswith("checkpoint/")
        }
        checkpoint = {f"checkpoint/{path.name}" for path in self._checkpoint()}
        whole = self.folder.config_file.is_file()
        if result in files:
            self._check_folder()
        self._check_owner()
        if not whole:
            why = self.folder.failure_file
            self._objects.store({name: path for name, path in files.items() if name == why.name})
            self._remove({OWNER})
            return
        self._objects.store({name: path for name, path in files.items() if name != result})
        self._there |= files.keys() - {result}
        if _mark(self.folder.checkpoint_file) not in (None, self._sent.get("last.pt")):
            self._send(self._snapshot())
        self._remove((self._there - files.keys() - checkpoint) | {OWNER})
        if result in files:
            self._objects.store({result: files[result]})
            self._there.add(result)

    def leave(self) -> None:
        """Nothing more is sent; an upload under way ends first."""
        self._wait()

    def _checkpoint(self) -> list[Path]:
        files = (self.folder.checkpoint_file, self.folder.best_file)
        return [path for path in files if path.is_file()]

    def _snapshot(self) -> dict[str, Path]:
        """The checkpoint as it is now, by its names: training replaces files, it does not change
        them, so that a second name of each keeps what it held.
        """
        outbox = self._root / "outbox"
        shutil.rmtree(outbox, ignore_errors=True)
        outbox.mkdir()
        for path in self._checkpoint():
            try:
                os.link(path, outbox / path.name)
            except OSError:  # a file system without links
                shutil.copy2(path, outbox / path.name)
        return {path.name: path for path in _files(outbox)}

    def _send_beside(self, files: dict[str, Path]) -> None:
        began = time.monotonic()
        try:
            self._check_owner()
            self._send(files)
        except BaseException as error:
            self._error = error
        now = time.monotonic()
        self._rests_until = now + REST * (now - began)

    def _send(self, files: dict[str, Path]) -> None:
        """The weights of a new best epoch lie beside the old ones until the checkpoint names them,
        as on a disk: whenever this ends, what is there can be gone on from.
        """
        marks = {name: mark for name, path in files.items() if (mark := _mark(path)) is not None}
        config = self.folder.config_file
        if config.name not in self._there and config.is_file():
            self._objects.store({config.name: config})
            self._there.add(config.name)
        best = self.folder.best_file.name
        new_best = best in files and marks[best] != self._sent.get(best)
        if new_best:
            self._objects.store({NEXT_BEST: files[best]})
        last = self.folder.checkpoint_file.name
        self._objects.store({f"checkpoint/{last}": files[last]})
        if new_best:
            self._objects.copy(NEXT_BEST, f"checkpoint/{best}")
            self._objects.remove([NEXT_BEST])
        self._there |= {f"checkpoint/{name}" for name in files}
        self._there.discard(NEXT_BEST)
        self._sent = marks

    def _check_owner(self) -> None:
        """Interrupted where another worker has taken the trial over: this one stood still."""
        try:
            owner = self._objects.read(OWNER)
        except FileNotFoundError:
            owner = b""
        if owner != self._id.encode():
            raise Interrupted("another worker has taken the trial over")

    def _check_folder(self) -> None:
        """FileNotFoundError where somebody cleaned this node's cache. A trial begins with its
        configuration, and nobody writes it again: where it is, so is all that was written after it.
        What lies at the address is not removed because it is gone here.
        """
        file = self.folder.config_file
        if not file.is_file():
            text = "must stay while its trial runs; the trial goes on from what lies at the address"
            raise FileNotFoundError(errno.ENOENT, text, str(file))

    def _remove(self, names: set[str]) -> None:
        self._objects.remove(sorted(names))
        self._there -= names

    def _wait(self) -> None:
        if self._upload is not None:
            self._upload.join()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


_Mark = tuple[int, int]
"""What changes when a file is replaced."""


def _mark(path: Path) -> _Mark | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock" and not LEFTOVER.fullmatch(path.name):
            yield path


@contextmanager
def attempt(address: str) -> Iterator[Attempt]:
    """Within: the trial at the address is this process's. What it leaves is sent when the block
    ends as a trial does, complete, failed or interrupted; the node keeps nothing.
    """
    with _own_folder() as root:
        current = Attempt(address, root)
        current.begin()
        try:
            yield current
        except (TrialFailed, Interrupted):
            current.finish()
            raise
        else:
            current.finish()
        finally:
            current.leave()


@contextmanager
def fetched(address: str) -> Iterator[Path]:
    """Within: a folder with what training needs of the finished trial at an address."""
    with _own_folder() as root:
        objects = Objects(address)
        folder = TrialDir(root / address.rstrip("/").rsplit("/", 1)[-1])
        config, result = folder.config_file.name, folder.result_file.name
        names = objects.list()
        first = [name for name in (config, result) if name in names]
        objects.fetch({name: folder.path / name for name in first})
        weights = [name for name in ("checkpoint/best.pt", "checkpoint/last.pt") if name in names]
        if config in first and folder.load_config().train.keep == "last":
            weights.reverse()
        objects.fetch({name: folder.path / name for name in weights[:1]})
        yield folder.path


@contextmanager
def fetched_file(address: str) -> Iterator[Path]:
    """Within: the file at an address, under its own name."""
    place, name = address.rsplit("/", 1)
    with _own_folder() as root:
        Objects(place).fetch({name: root / name})
        yield root / name


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Within: a folder of this node that nobody else uses; afterwards it is gone. Those of killed
    processes go, too.

    Each machine has its own beside those of others: a home that several share need not lock across
    them.
    """
    base = cache_root() / FOLDER / (socket.gethostname() or "here")
    _tidy(base)
    root = base / uuid.uuid4().hex[:16]
    try:
        with locks.held(root, patience=0.0, busy=f"{root}: is held"):
            yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _tidy(base: Path) -> None:
    """Remove what killed processes left on this node."""
    for folder in base.iterdir() if base.is_dir() else ():
        with suppress(OSError, UserError):
            if time.time() - (folder / ".lock").stat().st_mtime < ABANDONED_S:
                continue
            with locks.held(folder, patience=0.0, busy="its process runs"):
                shutil.rmtree(folder, ignore_errors=True)


class StopObject:
    """Callable: has the object appeared? It is looked for beside the work, every CANCEL_LOOK_S."""

    def __init__(self, address: str) -> None:
        parent, self._name = address.rsplit("/", 1)
        self._objects = Objects(parent)
        self._seen = threading.Event()
        self._ended = threading.Event()
        self._look()
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    def __call__(self) -> bool:
        return self._seen.is_set()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._seen.is_set() and not self._ended.wait(CANCEL_LOOK_S):
            try:
                self._look()
            except StorageFailed as error:  # sending a checkpoint says so, too
                log.info("%s", error)

    def _look(self) -> None:
        if self._objects.has(self._name):
            self._seen.set()
