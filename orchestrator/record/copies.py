"""Sweeps whose folder lies at an address: this machine works in a copy, brought up to date before
it is read, and sent back. What lies at the address is the sweep, and the copy a cache of it.

Large files of trials come when they are read: until then a stub stands for each, an empty file of
the same size. Functions here take the paths of any sweep, and do nothing for one that lies in a
folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from orchestrator.record.resolved import FILE
from orchestrator.record.working_copy import GLANCE, Copy, files_below, is_stub
from trainables.contract import locks
from trainables.contract.addresses import check_storage, is_address, joined
from trainables.contract.disk import cache_root, write_atomic
from trainables.contract.errors import UserError

SWEEPS = "sweeps"
"""In the cache: a folder for each storage, with a folder for each sweep."""

WHOSE = ".address"
"""The file that names the storage whose sweeps lie beside it."""


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
    folder = _root() / hashlib.sha256(storage.encode()).hexdigest()[:16]
    if not (folder / WHOSE).is_file():
        write_atomic(folder / WHOSE, storage.encode())
    return folder


def all_copies() -> list[Path]:
    """The copies of sweeps on this machine; those whose removal was cut off go."""
    root = _root().absolute()
    for left in root.glob("*/.*.gone"):
        shutil.rmtree(left, ignore_errors=True)
    return sorted(file.parent for file in root.glob(f"*/*/{FILE}"))


def _root() -> Path:
    """Of this machine alone: a cache in a home folder may be shared with others."""
    return cache_root() / SWEEPS / socket.gethostname()


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
    names = objects.top()
    there = objects.having(f"{name}/{FILE}" for name in names)
    return [name for name in sorted(names) if f"{name}/{FILE}" in there]


def copy_of(path: Path) -> Copy | None:
    """The copy that a path lies in; None where it lies in none."""
    try:
        root = _root().absolute()
    except UserError:
        return None
    # most paths are no copy's: as text that is told in a fraction of the time
    text = str(path) if path.is_absolute() else f"{Path.cwd()}{os.sep}{path}"
    if not text.startswith(f"{root}{os.sep}"):
        return None
    parts = path.absolute().relative_to(root).parts
    return _copy(root / parts[0] / parts[1]) if len(parts) > 1 else None


def refresh(run: Path, *, at_a_glance: bool = False) -> None:
    """Bring a copy up to date; one that a process of this machine works in is newer than what it
    has sent. at_a_glance: what a list of sweeps is made from, alone.
    """
    copy = copy_of(run)
    if copy is not None:
        only = GLANCE if at_a_glance else None
        copy.pull(unless=lambda: locks.is_held(run), only=only)


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
            files = files_below(path) if path.is_dir() else [path]
            stubs.setdefault(copy, []).extend(file for file in files if is_stub(file))
    for copy, files in stubs.items():
        copy.fetch(files)


def send(path: Path) -> None:
    """Send a file, or what changed in a folder; for what is done outside a hold of the sweep."""
    copy = copy_of(path)
    if copy is not None:
        copy.push(copy.name_of(path))
        copy.settle(copy.name_of(path))


def remove(path: Path) -> None:
    """Remove a file of a sweep, if it is there: of a copy at the address, too, when it is sent
    next. Nothing else is removed there, whatever becomes of the copy.
    """
    path.unlink(missing_ok=True)
    copy = copy_of(path)
    if copy is not None:
        copy.forget(copy.name_of(path))


def _address_beside(run: Path) -> str | None:
    copy = copy_of(run)
    return None if copy is None else copy.address.rpartition("/")[0]


@cache
def _copy(run: Path) -> Copy | None:
    try:
        storage = (run.parent / WHOSE).read_text()
    except OSError:
        return None
    return Copy(run, joined(storage, run.name))
