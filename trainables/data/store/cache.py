"""Stores by location: a folder as it is, an address by way of this machine's cache.

The only door to stores whose place a person names.

A store at an address is fetched once per machine, whichever process comes first, into a folder
named by what it holds: `${ORCHESTRATE_CACHE:-~/.cache/orchestrate}/stores/NAME-DIGEST`. Only what
matches the checksums of its dataset.json gets that name. Its outline, without the joints, lies
beside it under `.outlines`, for whoever only plans.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from functools import partial as bound
from pathlib import Path
from typing import Any, TypeVar

from trainables.contract.addresses import is_address, joined, last_name
from trainables.contract.disk import cache_root, write_atomic
from trainables.contract.errors import Unreached, UserError
from trainables.contract.locks import held
from trainables.data.store.description import CLIPS_FILE, INFO_FILE, JOINTS_FILE, StoreInfo
from trainables.data.store.reading import Store, parse_info
from trainables.remote.filesystem import explained, first_line, may_pass, opened

log = logging.getLogger(__name__)

PATIENCE_S = 6 * 3600.0
"""How long to wait for another process's download; the lock of one that died is free at once."""
ATTEMPTS = 3
PAUSE_S = 2.0  # before the second attempt, twice as long before the third
CHUNK = 32 << 20  # bytes of one request
SAY_EVERY_S = 10.0
MARGIN = 64 << 20  # bytes that stay free
LONGEST_HEADER = 4096  # bytes before the numbers of joints.npy, at most


class _Mismatch(Exception):
    """What arrived is not what dataset.json says."""


def open_store(location: Path | str, root: Path = Path()) -> Store:
    """The store at `location`: a folder (a relative one starts at `root`), or an address (s3://,
    gs://, file://, ...).

    UserError when it is damaged; Unreached when it is not there, cannot be fetched, or the cache
    cannot be written.
    """
    place = local_store(location, root)
    try:
        return Store.open(place)
    except UserError as error:
        if place.is_dir():
            raise
        raise Unreached(*error.problems) from error  # it may be mounted elsewhere


def open_outline(location: Path | str, root: Path = Path()) -> Store:
    """The same, for whoever does not look at joints: of a store at an address only dataset.json and
    the table of clips are fetched. Its `joints` may be missing.
    """
    if not is_address(str(location)):
        return Store.open(root / location)
    return _Remote(str(location)).outline()


def local_store(location: Path | str, root: Path = Path()) -> Path:
    """The folder on this machine that holds the store at `location`: the folder itself, or the
    cached copy of an address.

    Where an address cannot be reached, the copy last made from it is used, with a warning: compute
    nodes are often cut off from the internet. Unreached where there is none.
    """
    if not is_address(str(location)):
        return root / location
    try:
        return _Remote(str(location)).fetched()
    except UserError as error:
        raise Unreached(*error.problems) from error


def cache_folder() -> Path:
    """Where copies of stores are kept; any of them may be deleted while nothing uses it. UserError
    where there is no folder for caches.
    """
    return cache_root() / "stores"


class _Remote:
    """One store at an address."""

    def __init__(self, address: str) -> None:
        self._files, self._base = opened(address)
        self.address = address
        self._cache = cache_folder()
        # holds the name of the copy last used
        self._seen = self._cache / ".seen" / hashlib.sha256(address.encode()).hexdigest()[:16]

    def fetched(self) -> Path:
        """The folder of the copy, downloaded unless it is there."""
        name = self._name()
        if name is None:
            return self._earlier(self._cache)
        copy = self._cache / name
        self._complete(copy, (CLIPS_FILE, JOINTS_FILE))
        self._remember(name)
        return copy

    def outline(self) -> Store:
        """The store without its joints, unless they are here."""
        name = self._name()
        outlines = self._cache / ".outlines"
        if name is None:
            with suppress(UserError):
                return Store.open(self._earlier(self._cache))
            return Store.open(self._earlier(outlines), joints=False)
        if (self._cache / name / INFO_FILE).is_file():
            return Store.open(self._cache / name)
        self._check_joints()
        self._complete(outlines / name, (CLIPS_FILE,))
        self._remember(name)
        return Store.open(outlines / name, joints=False)

    @cached_property
    def _content(self) -> bytes:
        """Of dataset.json."""
        path = f"{self._base}/{INFO_FILE}"
        content: bytes = _patiently(lambda: self._files.cat_file(path))
        return content

    @cached_property
    def _info(self) -> StoreInfo:
        return parse_info(self._content, joined(self.address, INFO_FILE))

    def _name(self) -> str | None:
        """What the copy is called; None where the other side does not answer."""
        try:
            with explained(self.address):
                content = self._content
        except FileNotFoundError as error:
            raise UserError(
                f"{self.address}: must be a store made by 'orchestrate data', but no {INFO_FILE} is"
                " found there"
            ) from error
        except UserError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # it answers: there is no bucket
                raise
            self._silent = error
            return None
        _ = self._info  # of a version that is known
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", last_name(self._base)).lstrip(".") or "store"
        return f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}"

    def _earlier(self, folder: Path) -> Path:
        """The copy last used, where the other side does not answer."""
        copy = folder / self._seen.read_text() if self._seen.is_file() else None
        if copy is None or not (copy / INFO_FILE).is_file():
            raise self._silent
        log.warning("%s; using the copy made earlier, %s", self._silent, copy)
        return copy

    def _remember(self, name: str) -> None:
        if not self._seen.is_file() or self._seen.read_text() != name:
            with suppress(OSError):  # a cache that others fill and this user may only read
                write_atomic(self._seen, name.encode())

    def _check_joints(self) -> None:
        """UserError unless joints of the right size are there: a store may be half uploaded."""
        file, wanted = joined(self.address, JOINTS_FILE), self._info.joints_bytes
        with self._reading():
            size = self._size(JOINTS_FILE)
        if not wanted < size <= wanted + LONGEST_HEADER:
            raise UserError(
                f"{file}: the store is damaged, it has {size} bytes where {INFO_FILE} says"
                f" {wanted} and a header: upload it again"
            )

    def _size(self, name: str) -> int:
        return _patiently(lambda: int(self._files.size(f"{self._base}/{name}")))

    def _complete(self, copy: Path, names: tuple[str, ...]) -> None:
        """Make the copy, unless it is there; one process of this machine at a time."""
        if (copy / INFO_FILE).is_file():
            return
        busy = f"{copy}: another process has been downloading it for hours"
        with held(self._cache / ".locks" / copy.name, patience=PATIENCE_S, busy=busy):
            if not (copy / INFO_FILE).is_file():  # the process waited for may have made it
                self._download(copy, names)

    def _download(self, copy: Path, names: tuple[str, ...]) -> None:
        """Fill a hidden folder, check it and give it its name; on failure nothing is left of it.
        What a process had fetched that was killed is gone on from: on a slow network a trial may be
        ended as silent before the joints are here.
        """
        partial = copy.with_name(f".{copy.name}.partial")
        with _writing(partial):
            partial.mkdir(parents=True, exist_ok=True)
        try:
            with self._reading():
                sizes = {name: self._size(name) for name in names}
                here = sum(
                    (partial / name).stat().st_size for name in names if (partial / name).exists()
                )
                self._check_room(partial, sum(sizes.values()) - here)
                log.warning("downloading %s to %s", self.address, copy)
                for name, size in sizes.items():
                    _patiently(bound(self._copy, name, size, partial / name))
            with _writing(partial):
                write_atomic(partial / INFO_FILE, self._content)
                shutil.rmtree(copy, ignore_errors=True)  # of a copy that was not quite deleted
                partial.rename(copy)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Within: what goes wrong with the store's files is said of its address."""
        try:
            with explained(self.address):
                yield
        except FileNotFoundError as error:
            missing = error.filename or first_line(error)
            raise UserError(
                f"{self.address}: the store is damaged, {missing} is not there; upload it again"
            ) from error
        except _Mismatch as error:
            raise UserError(
                f"{self.address}: {error}; it was damaged, or is being replaced: try again or"
                " upload it again"
            ) from error

    def _check_room(self, folder: Path, size: int) -> None:
        with _writing(folder):
            free = shutil.disk_usage(folder).free
        if free < size + MARGIN:
            raise UserError(
                f"{folder.parent}: needs {(size + MARGIN) / 1e9:.2f} GB for a copy of"
                f" {self.address}, but {free / 1e9:.2f} GB are free; ORCHESTRATE_CACHE names"
                " another place"
            )

    def _copy(self, name: str, size: int, target: Path) -> None:
        """Copy the rest of one file, checking the content of all of it on the way."""
        source, said = f"{self._base}/{name}", time.monotonic()
        with (
            self._files.open(source, "rb", block_size=CHUNK, cache_type="none") as stream,
            _continued(target) as (out, digest),
        ):
            done = out.tell()
            stream.seek(done)
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                with _writing(target):
                    out.write(chunk)
                done += len(chunk)
                if time.monotonic() - said > SAY_EVERY_S:
                    said = time.monotonic()
                    log.warning("%s: %.1f of %.1f GB", source, done / 1e9, size / 1e9)
            with _writing(target):
                out.flush()
                os.fsync(out.fileno())
        if digest.hexdigest() != self._info.checksums.get(name):
            target.unlink()
            raise _Mismatch(
                f"{name} must match the checksum in {INFO_FILE}, but what arrived does not"
            )


T = TypeVar("T")


def _patiently(action: Callable[[], T]) -> T:
    """What `action` returns; tried again after a failure that may pass."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except Exception as error:
            if not isinstance(error, _Mismatch) and not may_pass(error):
                raise
            log.warning("%s; trying again", first_line(error))
            time.sleep(PAUSE_S * attempt)
    return action()


@contextmanager
def _continued(target: Path) -> Iterator[tuple[Any, Any]]:
    """Within: the file, open at its end, and the digest of what it holds."""
    digest = hashlib.sha256()
    with _writing(target):
        out = target.open("a+b")
    with out:
        with _writing(target):
            out.seek(0)
            while chunk := out.read(CHUNK):
                digest.update(chunk)
        yield out, digest


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Within: what goes wrong is a matter of the cache, not of the source."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place}: the cache cannot be written: {error.strerror}; ORCHESTRATE_CACHE names"
            " another place"
        ) from error
