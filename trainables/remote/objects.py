"""Whole objects below an address: listed, read and written, several at once, and again after a
pause where the other side does not answer. Knows nothing of what is in them.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainables.contract.addresses import check_storage, joined
from trainables.contract.disk import LEFTOVER, make_folder
from trainables.contract.errors import StorageFailed, UserError
from trainables.contract.secrets import redacted
from trainables.remote.filesystem import (
    in_words,
    lacks_bucket,
    may_pass,
    opened,
    reason_in_words,
)

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Requests under way: the wire waits for answers most of the time."""

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Before each further attempt, as far as patience lasts."""

PATIENCE_S = 120.0
"""A service that is away for two minutes is waited for: no attempt begins later."""

SETTLE_S = 0.5
"""After an object was made, until it is read: a store that knows no condition takes a second one,
and whose it is shows then.
"""

_GIVEN_UP: ContextVar[threading.Event] = ContextVar("given up", default=threading.Event())  # noqa: B039, nobody sets this one
"""Set once others have failed for which this call is made, too: it waits no more."""

_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "created")
"""What file systems call that which changes with an object's content."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it."""

    size: int  # bytes
    version: str  # another one after each write


class Objects:
    """Objects by their names below one address, such as `trials/3f2a/result.json`.

    Every write is of a whole object: a reader sees the old one or the new one. Every method raises
    StorageFailed where the other side refuses or does not answer in time, and FileNotFoundError
    where an object that is read is not there.

    Nobody waits twice for the same outage: after a call that had no answer in time the others are
    made once each, until one has an answer.
    """

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        """patience_s: how long a call is made again; PATIENCE_S, or less where the answer would be
        of no use later.
        """
        problem = check_storage(address)
        if problem is not None:
            raise UserError(problem)
        self.address = address.rstrip("/")
        self._patience_s = patience_s
        self._away = False  # a call had no answer in time, and none after it has had one
        self._told = threading.Lock()  # held once a person knows that answers are missing
        self._fs, root = opened(self.address)
        self._root = str(root).rstrip("/")
        self._local = "file" in _protocols(self._fs)
        if "s3" in _protocols(self._fs):
            self._fs.retries = 1  # not five, of which nobody would hear: here it is said

    def list(self, name: str = "") -> dict[str, Entry]:
        """All objects, or those below `name`, by their names here."""

        def find() -> dict[str, dict[str, Any]]:
            self._fs.invalidate_cache()
            try:
                return dict(self._fs.find(self._path(name), detail=True))
            except FileNotFoundError as error:
                if lacks_bucket(error):
                    raise
                return {}

        found = self._patiently(find, name, "list")
        return self._entries(found.values())

    def top(self) -> dict[str, Entry]:
        """The objects directly at the address; of folders an entry with the size 0."""

        def ls() -> list[dict[str, Any]]:
            self._fs.invalidate_cache()
            try:
                return list(self._fs.ls(self._root, detail=True))
            except FileNotFoundError as error:
                if lacks_bucket(error):
                    raise
                return []

        return self._entries(self._patiently(ls, "", "list"), folders=True)

    def _entries(
        self, infos: Iterable[Mapping[str, Any]], *, folders: bool = False
    ) -> dict[str, Entry]:
        prefix = f"{self._root.lstrip('/')}/"
        entries = {}
        for info in infos:
            name = str(info["name"]).lstrip("/").removeprefix(prefix).rstrip("/")
            is_file = info.get("type", "file") == "file"
            if name and (is_file or folders) and not LEFTOVER.fullmatch(name.split("/")[-1]):
                entries[name] = Entry(int(info.get("size") or 0), _version(info))
        return entries

    def read(self, name: str) -> bytes:
        """The content of an object."""
        return bytes(self._patiently(lambda: self._fs.cat_file(self._path(name)), name))

    def has(self, name: str) -> bool:
        """Whether there is such an object."""

        def exists() -> bool:
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)))

        return self._patiently(exists, name)

    def having(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are objects."""
        found: set[str] = set()

        def one(name: str) -> None:
            if self.has(name):
                found.add(name)

        _all_at_once(one, names)
        return found

    def fetch(self, files: Mapping[str, Path]) -> None:
        """Copy objects to files, each of which is whole or not there."""

        def one(item: tuple[str, Path]) -> None:
            name, path = item
            content = self.read(name)
            partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
            make_folder(path.parent)
            try:
                partial.write_bytes(content)
                partial.replace(path)
            except BaseException:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise

        _all_at_once(one, files.items())

    def store(self, files: Mapping[str, Path]) -> None:
        """Copy files to objects; in no order."""
        _all_at_once(lambda item: self.write(item[0], item[1].read_bytes()), files.items())

    def write_all(self, contents: Mapping[str, bytes]) -> None:
        """Replace objects, or make them; in no order."""
        _all_at_once(lambda item: self.write(*item), contents.items())

    def write(self, name: str, content: bytes) -> None:
        """Replace an object, or make it."""
        self._patiently(lambda: self._put(name, content), name, "write")

    def _put(self, name: str, content: bytes) -> None:
        path = self._path(name)
        if not self._local:
            self._fs.pipe_file(path, content)
            return
        # a folder that is reached by an address: its files are to be whole, too
        partial = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex[:8]}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fs.pipe_file(str(partial), content)
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def make(self, name: str, content: bytes) -> bool:
        """Write an object that is not there yet; False where it is. In one step, where the other
        side can do that: no two callers are both told True. `content` must be the caller's own: an
        answer may be lost on its way, and what lies there then tells whose it is.
        """

        def create() -> bool:
            if self._local:
                return _made(Path(self._path(name)), content)
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if "PreconditionFailed" in str(error) or "pre-condition" in str(error).lower():
                    return False
                raise
            return True

        try:
            made = self._patiently(create, name, "write")
        except StorageFailed:
            with suppress(StorageFailed):
                if self._holds(name, content):
                    return True
            raise
        if made and not self._local:
            _GIVEN_UP.get().wait(SETTLE_S)
        return self._holds(name, content)

    def _holds(self, name: str, content: bytes) -> bool:
        with suppress(FileNotFoundError):
            return self.read(name) == content
        return False

    def copy(self, name: str, to: str) -> None:
        """Copy an object to another name, on the other side."""
        if self._local:
            self.write(to, self.read(name))
            return
        self._patiently(lambda: self._fs.cp_file(self._path(name), self._path(to)), to, "write")

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is not there is none too many."""

        def one(name: str) -> None:
            def rm() -> None:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._path(name))

            self._patiently(rm, name, "delete")

        _all_at_once(one, names)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _patiently(self, work: Callable[[], Value], name: str, doing: str = "read") -> Value:
        """Do it, and again after each pause where that may help."""
        until = time.monotonic() + (0.0 if self._away else self._patience_s)
        for pause in (*PAUSES_S, None):
            try:
                value = work()
            except Exception as error:
                if isinstance(error, FileNotFoundError) and not lacks_bucket(error):
                    self._away = False
                    raise
                passes, left = may_pass(error), until - time.monotonic()
                if not passes:
                    self._away = False
                elif pause is None or left <= 0:
                    self._away = True
                elif self._waits(pause, left, error):
                    continue
                text = in_words(error, joined(self.address, name), doing)
                raise StorageFailed(text, refused=not passes) from error
            self._away = False
            return value
        raise AssertionError("unreachable")

    def _waits(self, pause: float, left: float, error: Exception) -> bool:
        """Whether it was worth while to wait: nobody has given up. Says once that it waits."""
        level = logging.WARNING if self._told.acquire(blocking=False) else logging.INFO
        why = reason_in_words(error, self.address)
        log.log(level, "%s: %s; trying for %.0f s more", redacted(self.address), why, left)
        return not _GIVEN_UP.get().wait(min(pause, left))


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _version(info: Mapping[str, Any]) -> str:
    if "ino" in info:  # of a folder that is reached by an address
        return f"{info['ino']}-{info['mtime']!r}"
    return next((str(info[key]) for key in _VERSIONS if info.get(key)), "")


def _made(path: Path, content: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as stream:
            stream.write(content)
    except FileExistsError:
        return False
    return True


Item = TypeVar("Item")


def _all_at_once(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Raises the first exception once what was under way has ended; the rest is not begun."""
    waiting = list(items)
    if len(waiting) < 2:
        for item in waiting:
            work(item)
        return
    over = threading.Event()
    number = min(AT_ONCE, len(waiting))
    pool = ThreadPoolExecutor(number, "objects", _GIVEN_UP.set, (over,))
    try:
        for done in as_completed([pool.submit(work, item) for item in waiting]):
            done.result()
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)
