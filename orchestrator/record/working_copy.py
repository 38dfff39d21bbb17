"""The working copy of one sweep that lies at an address: what comes and what is sent, in which
order, and what is noted of it. Knows nothing of what the files say.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.record.resolved import FILE
from trainables.contract import locks
from trainables.contract.addresses import joined
from trainables.contract.disk import make_folder, write_atomic
from trainables.contract.errors import StorageFailed, UserError

if TYPE_CHECKING:
    from trainables.remote.objects import Entry, Objects

STUB_NS = 1_000_000_000
"""When a stub was last changed, in nanoseconds since the epoch: no file of ours is so old."""

_LARGE = re.compile(r"(trials|sources|shared)/.*(?<!metrics)\.(pt|parquet)")
"""What is fetched only when it is read."""

_OWN = re.compile(r"(.*/)?(\.lock|\.attempt|\.lease\..*)|\.tune/.*")
"""What a machine, or an attempt, has for itself."""

PATIENCE_S = 600.0
"""How long to wait for another process that changes the same copy."""

_LASTING = re.compile(r"resolved\.json|trials/[^/]+/result\.json")
"""What does not go from the address while a sweep is there."""

GLANCE = re.compile(
    r"resolved\.json|journal\.jsonl|running\.json|drain|cancel"
    r"|trials/[^/]+/(result|failure)\.json"
)
"""What a list of sweeps is made from."""

_APPENDED = ("journal.jsonl", "epochs.jsonl")
"""Files that only grow."""

JOURNAL = "journal.jsonl"

LONG = 1 << 20
"""Bytes of a file that only grows, from which on it is sent less often."""

Known = tuple[str, "Mark | None"]
"""Of a file: its version at the address, empty while it is not known, and its mark here."""

Mark = tuple[int, int, int]
"""Size, time of change and number of a file."""


class Copy:
    """The working copy of one sweep. One process at a time changes it, or sends of it."""

    def __init__(self, run: Path, address: str) -> None:
        self.run, self.address = run, address
        self.check: Callable[[], None] = lambda: None  # whether this process may send
        self._lock = threading.RLock()
        self._opened: Objects | None = None
        self._file = run.with_name(f".{run.name}.json")
        self._known: dict[str, Known] = {}
        self._read: Mark | None = None  # of the file that says what is known
        self._gone: set[str] = set()  # names that were removed here

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

    def pull(
        self,
        below: str = "",
        unless: Callable[[], bool] = lambda: False,
        only: re.Pattern[str] | None = None,
    ) -> None:
        """Make the copy, or a folder of it, what the address holds: what is not there goes.

        unless: asked once no other process changes the copy. only: what is to come; the rest stays
        as it is, and comes another time. UserError where what was there for good is gone.
        """
        with self._alone():
            if unless():
                return
            listed = self.objects.list(below).items()
            entries = {name: entry for name, entry in listed if not _OWN.fullmatch(name)}
            self._check_there(entries, below)
            wanted: dict[str, Path] = {}
            for name, entry in entries.items():
                path = self.run / name
                unasked = only is not None and not only.fullmatch(name)
                if unasked or self._is_current(name, entry, path):
                    continue
                if _LARGE.fullmatch(name):
                    self._stub(name, entry)
                elif not (name in _APPENDED and self._is_ahead(name)):
                    wanted[name] = path
            self.objects.fetch(wanted)
            for name, path in wanted.items():
                self._note(name, entries[name].version, path)
            for path in files_below(self.run / below):
                name = self.name_of(path)
                if name not in entries and not _OWN.fullmatch(name):
                    path.unlink(missing_ok=True)
                    self._known.pop(name, None)

    def fetch(self, paths: Iterable[Path]) -> None:
        """Put the content in the place of stubs; UserError where it is not there any more."""
        with self._alone():
            files = {self.name_of(path): path for path in paths if is_stub(path)}
            try:
                self.objects.fetch(files)
            except FileNotFoundError as error:
                raise UserError(
                    f"{self.address}: lacks a file that was there: another machine has removed it"
                ) from error
            for name, path in files.items():
                self._note(name, self._known.get(name, ("", None))[0], path)

    def push(self, below: str | None = None) -> None:
        """Send what changed since it came or was sent: that by which the folder is a sweep's first,
        the journal, which speaks of the other files, last; and remove there what was removed here.

        below: of this file or folder alone; None: of everything but trials. StorageFailed where the
        copy was damaged while it was in use.
        """
        with self._alone():
            self.check()
            self._check_whole()
            names = self._names(below)
            journal = names.pop(JOURNAL, None)
            # what the journal says now is of files that are there now, and go first
            last = None if journal is None else (_mark(journal), _whole_lines(journal))
            changed = {
                name: mark
                for name, path in names.items()
                if (mark := _mark(path)) is not None and self._mark_of(name) != mark
            }
            if FILE in changed:
                self._send({FILE: changed.pop(FILE)})
            self._send(changed)
            if last is not None and self._mark_of(JOURNAL) != last[0]:
                self.check()
                self.objects.write(JOURNAL, last[1])
                self._known[JOURNAL] = "", last[0]
            self._remove_gone(below)

    def unsent(self) -> list[str]:
        """What was changed or removed here, or is there no more, so that it is nowhere else."""
        with self._alone():
            names, there = self._names(""), self.objects.list()
            changed = [
                name
                for name, path in names.items()
                if name not in there or self._mark_of(name) != _mark(path)
            ]
            return sorted({*changed, *self._gone})

    def drop(self) -> None:
        """Remove it; a process that holds it now is the caller."""
        with self._alone():
            self._file.unlink(missing_ok=True)
            self.run.rename(gone := self.run.with_name(f".{self.run.name}.gone"))
            shutil.rmtree(gone, ignore_errors=True)

    def settle(self, below: str = "") -> None:
        """Learn the versions of what was sent, so that it need not come back."""
        with self._alone():
            for name, entry in self.objects.list(below).items():
                version, mark = self._known.get(name, ("", None))
                if not version and mark is not None and entry.size == mark[0]:
                    self._known[name] = entry.version, mark

    def forget(self, name: str) -> None:
        """The file was removed: it is to go at the address, too."""
        with self._lock:
            self._gone.add(name)

    def watch(self, names: Iterable[str]) -> None:
        """Bring files that another machine has put there, where they are not here yet."""
        there = self.objects.top()
        with self._alone():
            for name in names:
                if name in there and name not in self._known and name not in self._gone:
                    with suppress(FileNotFoundError):
                        write_atomic(self.run / name, self.objects.read(name))
                        self._note(name, there[name].version, self.run / name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within: no other process changes the copy, and what it has noted is known."""
        busy = f"{self.run}: another process has been bringing it up to date for long"
        lock = f".{self.run.name}.lock"
        with self._lock:
            if self._inside:
                yield
                return
            with locks.held(self.run.parent, patience=PATIENCE_S, busy=busy, name=lock):
                self._inside = True
                try:
                    self._load()
                    before = dict(self._known)
                    try:
                        yield
                    finally:
                        if self._known != before:
                            self._save()
                finally:
                    self._inside = False

    _inside = False

    def _names(self, below: str | None) -> dict[str, Path]:
        """What may be sent."""
        start = self.run if below is None else self.run / below
        found = {}
        for path in files_below(start, without="trials" if below is None else ""):
            name = self.name_of(path)
            long = below is None and name in _APPENDED[1:] and path.stat().st_size > LONG
            if not (long or _OWN.fullmatch(name) or is_stub(path)):
                found[name] = path
        return found

    def _send(self, files: Mapping[str, Mark]) -> None:
        """Those of the files that are still there."""
        contents = {}
        for name in sorted(files):
            path = self.run / name
            with suppress(FileNotFoundError):
                contents[name] = _whole_lines(path) if name in _APPENDED else path.read_bytes()
        self.objects.write_all(contents)
        for name in contents:
            self._known[name] = "", files[name]
            self._gone.discard(name)

    def _remove_gone(self, below: str | None) -> None:
        gone = {name for name in self._gone if below is None or name.startswith(below)}
        gone = {name for name in gone if not (self.run / name).exists()}
        if FILE in gone:  # with the sweep goes what attempts left, but the lease
            left = (name for name in self.objects.list() if _OWN.fullmatch(name))
            gone |= {name for name in left if ".lease." not in name}
        self.objects.remove(sorted(gone - {FILE}))
        self.objects.remove(gone & {FILE})
        for name in gone:
            self._gone.discard(name)
            self._known.pop(name, None)

    def _check_there(self, entries: Collection[str], below: str) -> None:
        """UserError where what does not go is gone: then it is not this address that answers, or
        somebody has removed the sweep, and the copy is all that is left of it.
        """
        for name in self._known:
            within = name == below or name.startswith(f"{below}/" if below else "")
            lost = within and _LASTING.fullmatch(name) and name not in entries
            if lost and (self.run / name).is_file():
                raise UserError(
                    f"{joined(self.address, name)}: is not there any more, but was; where the"
                    f" sweep was removed on purpose, remove its copy, {self.run}"
                )

    def _check_whole(self) -> None:
        """StorageFailed where the copy was removed while this process works in it."""
        if FILE in self._known and FILE not in self._gone and not (self.run / FILE).is_file():
            raise StorageFailed(
                f"{self.run}: the copy of {self.address}, where nothing is lost, was removed while"
                " it was in use: the same command goes on",
                refused=True,
            )

    def _is_current(self, name: str, entry: Entry, path: Path) -> bool:
        return bool(entry.version) and self._known.get(name) == (entry.version, _mark(path))

    def _stub(self, name: str, entry: Entry) -> None:
        path = self.run / name
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
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

    def _load(self) -> None:
        """What this or another process has noted, where it has since."""
        mark = _mark(self._file)
        if mark == self._read:
            return
        self._read = mark
        try:
            content = json.loads(self._file.read_bytes())
            self._known = {
                str(name): (str(version), (int(size), int(time), int(number)))
                for name, (version, (size, time, number)) in content.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            self._known = {}

    def _save(self) -> None:
        known = {name: each for name, each in self._known.items() if each[1] is not None}
        partial = self._file.with_name(f"{self._file.name}.partial")
        partial.write_text(json.dumps(known))
        partial.replace(self._file)
        self._read = _mark(self._file)


def is_stub(path: Path) -> bool:
    """Whether a file of a copy has no content here."""
    try:
        return path.stat().st_mtime_ns == STUB_NS
    except FileNotFoundError:
        return False


def _mark(path: Path) -> Mark | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def files_below(place: Path, without: str = "") -> Iterator[Path]:
    """A file, or those below a folder; nothing half written. without: a folder in it."""
    if place.is_file():
        yield place
        return
    for folder, folders, files in os.walk(place):
        whole = [name for name in folders if not _is_partial(name) and name != ".tune"]
        folders[:] = [name for name in whole if Path(folder) != place or name != without]
        for name in files:
            if not _is_partial(name):
                yield Path(folder) / name


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")
