"""Sweeps whose folder lies at an address: this machine works in a copy, brought up to date before
it is read, and sent back. What lies at the address is the sweep, and the copy a cache of it.

Large files of trials come when they are read: until then a stub stands for each, an empty file of
the same size. Functions here take the paths of any sweep, and do nothing for one that lies in a
folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.contract import locks
from trainables.contract.addresses import check_storage, is_address, joined
from trainables.contract.disk import LEFTOVER, cache_root, make_folder, write_atomic
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from trainables.remote.objects import Entry, Objects

log = logging.getLogger(__name__)

SWEEPS = "sweeps"
"""In the cache: a folder for each storage, with a folder for each sweep."""

WHOSE = "address"
"""The file that names the storage whose sweeps lie beside it."""

STUB_NS = 1_000_000_000
"""When a stub was last changed, in nanoseconds since the epoch: no file of ours is so old."""

_LARGE = re.compile(r"(trials|sources|shared)/.*(?<!metrics)\.(pt|parquet)|report/.*")
"""What is fetched only when it is read."""

_OWN = re.compile(r"(.*/)?(\.lock|\.attempt|\.lease\..*)|\.tune/.*")
"""What a machine, or an attempt, has for itself."""

_KEPT = re.compile(
    r"resolved\.json|sweep\.yaml|journal\.jsonl"
    r"|trials/[^/]+/(?!checkpoint/|failure\.json|latency\.json).*"
)
"""What is removed from the address with the whole sweep only."""

_APPENDED = ("journal.jsonl", "epochs.jsonl")
"""Files that only grow."""

FILE = "resolved.json"
JOURNAL = "journal.jsonl"

Mark = tuple[int, int]
"""Size and time of change of a file."""


def local_storage(storage: str) -> Path:
    """The folder on this machine in which the sweeps of a storage lie, or their copies. UserError
    where an address cannot be one.
    """
    if not is_address(storage):
        return Path(storage)
    problem = check_storage(storage)
    if problem is not None:
        raise UserError(problem)
    storage = storage.rstrip("/")
    folder = cache_root() / SWEEPS / hashlib.sha256(storage.encode()).hexdigest()[:16]
    if not (folder / WHOSE).is_file():
        write_atomic(folder / WHOSE, storage.encode())
    return folder


def storage_of(run: Path) -> str:
    """What `storage` is for a sweep's folder: an address, or the folder that it lies in."""
    return _address_beside(run) or str(run.parent)


def place_of(path: Path) -> str:
    """How a person, or a worker on another machine, finds a file or folder of a sweep."""
    copy = copy_of(path)
    if copy is None:
        return str(path)
    name = copy.name_of(path)
    return joined(copy.address, name) if name else copy.address


def names_at(storage: str) -> list[str]:
    """The sweeps at an address, by name."""
    from trainables.remote.objects import Objects

    objects = Objects(storage)
    return [name for name in sorted(objects.top()) if objects.has(f"{name}/{FILE}")]


def copy_of(path: Path) -> Copy | None:
    """The copy that a path lies in; None where it lies in none."""
    try:
        parts = path.absolute().relative_to((cache_root() / SWEEPS).absolute()).parts
    except (ValueError, UserError):
        return None
    return _copy(cache_root().absolute() / SWEEPS / parts[0] / parts[1]) if len(parts) > 1 else None


def refresh(run: Path) -> None:
    """Bring a copy up to date; one that a process of this machine works in is newer than what it
    has sent.
    """
    copy = copy_of(run)
    if copy is not None and not locks.is_held(run):
        copy.pull()


@cache
def refresh_once(run: Path) -> None:
    """The same, the first time that this process asks for it."""
    refresh(run)


def bring(place: Path) -> None:
    """The same of a file or folder, such as a trial's, that a worker has changed there."""
    copy = copy_of(place)
    if copy is not None:
        copy.pull(copy.name_of(place))


def here(path: Path) -> Path:
    """The file, once it is there with its content."""
    fetch([path])
    return path


def fetch(paths: Iterable[Path]) -> None:
    """The same of several at once, and of all files below each that is a folder."""
    stubs: dict[Copy, list[Path]] = {}
    for path in paths:
        copy = copy_of(path)
        if copy is not None:
            files = _files(path) if path.is_dir() else [path]
            stubs.setdefault(copy, []).extend(file for file in files if is_stub(file))
    for copy, files in stubs.items():
        copy.fetch(files)


def send(path: Path) -> None:
    """Send a file, or what changed in a folder; for what is done outside a hold of the sweep."""
    copy = copy_of(path)
    if copy is not None:
        copy.push(copy.name_of(path))


def is_stub(path: Path) -> bool:
    """Whether a file of a copy has no content here."""
    try:
        return path.stat().st_mtime_ns == STUB_NS
    except FileNotFoundError:
        return False


def _address_beside(run: Path) -> str | None:
    copy = copy_of(run)
    return None if copy is None else copy.address.rpartition("/")[0]


class Copy:
    """The working copy of one sweep."""

    def __init__(self, run: Path, address: str) -> None:
        self.run, self.address = run, address
        self._lock = threading.RLock()
        self._opened: Objects | None = None
        self._file = run.with_name(f".{run.name}.json")
        self._known = self._load()  # name -> version at the address, mark of the file here

    @property
    def objects(self) -> Objects:
        """What lies at the address."""
        if self._opened is None:
            from trainables.remote.objects import Objects

            self._opened = Objects(self.address)
        return self._opened

    def name_of(self, path: Path) -> str:
        """Of a file or folder in the copy: its name at the address, empty for the whole."""
        name = path.absolute().relative_to(self.run).as_posix()
        return "" if name == "." else name

    def pull(self, below: str = "") -> None:
        """Make the copy, or a folder of it, what the address holds: what is not there goes."""
        with self._lock:
            entries = {
                name: entry
                for name, entry in self.objects.list(below).items()
                if not _OWN.fullmatch(name)
            }
            wanted: dict[str, Path] = {}
            for name, entry in entries.items():
                path = self.run / name
                if self._known.get(name) == (entry.version, _mark(path)):
                    continue
                if _LARGE.fullmatch(name):
                    self._stub(name, entry)
                elif not (name in _APPENDED and self._is_ahead(name)):
                    wanted[name] = path
            self.objects.fetch(wanted)
            for name, path in wanted.items():
                self._note(name, entries[name].version, path)
            for path in _files(self.run / below):
                name = self.name_of(path)
                if name not in entries and not _OWN.fullmatch(name):
                    path.unlink(missing_ok=True)
                    self._known.pop(name, None)
            self._save()

    def fetch(self, paths: Iterable[Path]) -> None:
        """Put the content in the place of stubs."""
        with self._lock:
            files = {self.name_of(path): path for path in paths}
            self.objects.fetch(files)
            for name, path in files.items():
                version = self._known.get(name, ("", None))[0]
                self._note(name, version, path)
            self._save()

    def push(self, below: str | None = None) -> None:
        """Send what changed since it came or was sent: that by which the folder is a sweep's first,
        the journal, which speaks of the other files, last; and remove there what was removed here.

        below: of this file or folder alone; None: of everything but trials.
        """
        with self._lock:
            start = self.run if below is None else self.run / below
            names = {self.name_of(path): path for path in _files(start)}
            if below is None:
                names = {name: path for name, path in names.items() if not _of_trial(name)}
            journal = names.pop(JOURNAL, None)
            # what the journal says now is of files that are there now, and go first
            last = None if journal is None else (_mark(journal), _whole_lines(journal))
            changed = {
                name: (path, mark)
                for name, path in names.items()
                if not _OWN.fullmatch(name)
                and not is_stub(path)
                and (mark := _mark(path)) is not None
                and self._mark_of(name) != mark
            }
            if FILE in changed:
                self.objects.store({FILE: changed[FILE][0]})
            for name in changed.keys() & set(_APPENDED):
                self.objects.write(name, _whole_lines(changed[name][0]))
            own = {FILE, *_APPENDED}
            self.objects.store(
                {name: path for name, (path, _) in changed.items() if name not in own}
            )
            for name, (_, mark) in changed.items():
                self._known[name] = "", mark
            if last is not None and self._mark_of(JOURNAL) != last[0]:
                self.objects.write(JOURNAL, last[1])
                self._known[JOURNAL] = "", last[0]
            self._remove_gone(below)

    def _remove_gone(self, below: str | None) -> None:
        whole = not (self.run / FILE).is_file()
        gone = {
            name
            for name in self._known
            if (not _of_trial(name) if below is None else name.startswith(below))
            and not (self.run / name).exists()
            and (whole or not _KEPT.fullmatch(name))
        }
        self.objects.remove(sorted(gone - {FILE}))
        self.objects.remove(gone & {FILE})
        for name in gone:
            del self._known[name]

    def watch(self, names: Iterable[str]) -> None:
        """Bring files that another machine has put there, where they are not here yet."""
        there = self.objects.top()
        missing = [name for name in names if name in there and name not in self._known]
        with self._lock:
            for name in missing:
                with suppress(FileNotFoundError):
                    write_atomic(self.run / name, self.objects.read(name))
                    self._note(name, there[name].version, self.run / name)

    def close(self) -> None:
        """Note what is here, for the next process."""
        with self._lock:
            self._save()

    def _stub(self, name: str, entry: Entry) -> None:
        path = self.run / name
        partial = path.with_name(f".{path.name}.{os.getpid():08x}.partial")
        make_folder(path.parent)
        with partial.open("wb") as stream:
            stream.truncate(entry.size)
        os.utime(partial, ns=(STUB_NS, STUB_NS))
        partial.replace(path)
        self._note(name, entry.version, path)

    def _is_ahead(self, name: str) -> bool:
        """Whether the file here goes on where the one at the address ends: this machine's driver
        was killed before it could send the rest.
        """
        path = self.run / name
        return path.is_file() and path.read_bytes().startswith(self.objects.read(name))

    def _mark_of(self, name: str) -> Mark | None:
        return self._known.get(name, ("", None))[1]

    def _note(self, name: str, version: str, path: Path) -> None:
        self._known[name] = version, _mark(path)

    def _load(self) -> dict[str, tuple[str, Mark | None]]:
        try:
            content = json.loads(self._file.read_bytes())
            return {
                str(name): (str(version), (int(mark[0]), int(mark[1])))
                for name, (version, mark) in content.items()
                if mark is not None
            }
        except (OSError, ValueError, TypeError, AttributeError, IndexError):
            return {}

    def _save(self) -> None:
        write_atomic(self._file, json.dumps(self._known).encode())


@cache
def _copy(run: Path) -> Copy | None:
    try:
        storage = (run.parent / WHOSE).read_text()
    except OSError:
        return None
    return Copy(run, joined(storage, run.name))


def _of_trial(name: str) -> bool:
    return name.startswith("trials/")


def _mark(path: Path) -> Mark | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _files(place: Path) -> Iterator[Path]:
    """A file, or those below a folder; none of those half written."""
    if place.is_file():
        yield place
        return
    for folder, folders, files in os.walk(place):
        if ".tune" in folders:
            folders.remove(".tune")
        for name in files:
            if not LEFTOVER.fullmatch(name):
                yield Path(folder) / name
