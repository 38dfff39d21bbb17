"""Stores by location: a folder as it is, a URI by way of this machine's cache.

The only door to stores whose place a person names.

A store at a URI is downloaded once per machine, whichever process comes first, into a folder named
by what it holds: `${ORCHESTRATE_CACHE:-~/.cache/orchestrate}/stores/NAME-DIGEST`. Only what matches
the checksums of its dataset.json gets that name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit

from trainables.contract.disk import cache_root, write_atomic
from trainables.contract.errors import UserError
from trainables.contract.locks import held
from trainables.contract.secrets import redacted
from trainables.data.store.description import CLIPS_FILE, INFO_FILE, JOINTS_FILE, StoreInfo
from trainables.data.store.reading import Store, parse_info

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

log = logging.getLogger(__name__)

PATIENCE_S = 6 * 3600.0
"""How long to wait for another process's download; the lock of one that died is free at once."""
ATTEMPTS = 3
PAUSE_S = 2.0  # before the second attempt, twice as long before the third
CHUNK = 8 << 20  # bytes read at a time
SAY_EVERY_S = 10.0

ARROW = ("file", "s3", "gs", "gcs")
"""Read by PyArrow itself, which has the drivers; all else by fsspec.

(PyArrow's own for Azure ends the process where credentials lack.)
"""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class _Mismatch(Exception):
    """What arrived is not what dataset.json says."""


def open_store(location: Path | str, root: Path = Path()) -> Store:
    """The store at `location`: a folder (a relative one starts at `root`), or a URI (s3://, gs://,
    file://, ...).

    UserError when it cannot be read, is damaged, or the cache cannot be written.
    """
    return Store.open(local_store(location, root))


def local_store(location: Path | str, root: Path = Path()) -> Path:
    """The folder on this machine that holds the store at `location`: the folder itself, or the
    cached copy of a URI.

    Where a URI cannot be reached, the copy last made from it is used, with a warning: compute nodes
    are often cut off from the internet.
    """
    return _Remote(str(location)).fetched() if is_uri(str(location)) else root / location


def is_uri(location: str) -> bool:
    """Whether a location is a URI, not a path."""
    return _URI.match(location) is not None


def cache_folder() -> Path:
    """Where copies of stores are kept; any of them may be deleted while nothing uses it. UserError
    where there is no folder for caches.
    """
    return cache_root() / "stores"


class _Remote:
    """One store at a URI."""

    def __init__(self, uri: str) -> None:
        try:
            place = urlsplit(uri)
        except ValueError as error:
            raise UserError(f"{redacted(uri)}: must be a path or a URI: {error}") from error
        if not (place.netloc + place.path).strip("/"):
            raise UserError(f"{uri}: must name a store: {place.scheme}://BUCKET/STORE or the like")
        if place.password is not None or _ends_within_a_password(place) or redacted(uri) != uri:
            raise UserError(
                f"{redacted(uri)}: must not hold a password, which every trial would write down;"
                " credentials come from the environment"
            )
        self.uri = uri
        self._cache = cache_folder()
        # holds the name of the copy last used
        self._seen = self._cache / ".seen" / hashlib.sha256(uri.encode()).hexdigest()[:16]

    def fetched(self) -> Path:
        """The folder of the copy, downloaded unless it is there."""
        try:
            files, base = _file_system(self.uri)
            content = _patiently(bound(_read, files, f"{base}/{INFO_FILE}"))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.uri}: must be a store made by 'orchestrate data', but no {INFO_FILE} is"
                " found there"
            ) from error
        except OSError as error:
            return self._earlier_copy(error)
        info = parse_info(content, f"{self.uri}/{INFO_FILE}")
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", PurePosixPath(base).name).lstrip(".") or "store"
        copy = self._cache / f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}"
        if not (copy / INFO_FILE).is_file():
            busy = f"{copy}: another process has been downloading it for hours"
            with held(self._cache / ".locks" / copy.name, patience=PATIENCE_S, busy=busy):
                if not (copy / INFO_FILE).is_file():  # the process waited for may have made it
                    self._download(files, base, info, content, copy)
        if not self._seen.is_file() or self._seen.read_text() != copy.name:
            with suppress(OSError):  # a cache that others fill and this user may only read
                write_atomic(self._seen, copy.name.encode())
        return copy

    def _earlier_copy(self, error: OSError) -> Path:
        """The copy last used, where the URI cannot be reached."""
        copy = self._cache / self._seen.read_text() if self._seen.is_file() else None
        if copy is None or not (copy / INFO_FILE).is_file():
            raise UserError(f"{self.uri}: cannot be read: {_reason(error)}") from error
        log.warning(
            "%s: cannot be read (%s); using the copy made earlier, %s",
            self.uri,
            _reason(error),
            copy,
        )
        return copy

    def _download(
        self, files: FileSystem, base: str, info: StoreInfo, content: bytes, copy: Path
    ) -> None:
        """Fill a hidden folder, check it and give it its name; on failure nothing is left of it."""
        log.warning("downloading %s to %s", self.uri, copy)
        partial = copy.with_name(f".{copy.name}.partial")
        with _writing(partial):
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir(parents=True)
        try:
            for name in (CLIPS_FILE, JOINTS_FILE):
                _patiently(
                    bound(_copy, files, f"{base}/{name}", partial / name, info.checksums.get(name))
                )
            with _writing(partial):
                write_atomic(partial / INFO_FILE, content)
                shutil.rmtree(copy, ignore_errors=True)  # of a copy that was not quite deleted
                partial.rename(copy)
        except FileNotFoundError as error:
            raise UserError(f"{self.uri}: the store is damaged, {error}") from error
        except _Mismatch as error:
            raise UserError(
                f"{self.uri}: {error}; it was damaged, or is being replaced: try again or upload it"
                " again"
            ) from error
        except OSError as error:
            raise UserError(f"{self.uri}: cannot be downloaded: {_reason(error)}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _ends_within_a_password(place: SplitResult) -> bool:
    """Whether a host was read of KEY:SECRET/WITH/SLASHES@HOST: what should be its port is none."""
    try:
        place.port  # noqa: B018, reading it checks it
    except ValueError:
        return True
    return False


def _file_system(uri: str) -> tuple[FileSystem, str]:
    """What reads a URI, and the path in it: one of PyArrow's own file systems, or one that fsspec
    knows.
    """
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    try:
        if urlsplit(uri).scheme in ARROW:
            files, base = FileSystem.from_uri(_hurried(uri))
        else:
            from fsspec.core import url_to_fs

            known, base = url_to_fs(uri)
            files = PyFileSystem(FSSpecHandler(known))
    except ImportError as error:
        raise UserError(f"{uri}: needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise UserError(
            f"{uri}: must be a path, or a URI that PyArrow or fsspec can read: {error}"
        ) from error
    return files, base.rstrip("/")


def _hurried(uri: str) -> str:
    """A Google URI with its driver's patience cut from a quarter of an hour to seconds: it waits
    that long where there are no credentials.
    """
    place = urlsplit(uri)
    if place.scheme not in ("gs", "gcs") or "retry_limit_seconds" in place.query:
        return uri
    return f"{uri}{'&' if place.query else '?'}retry_limit_seconds=10"


T = TypeVar("T")


def _patiently(action: Callable[[], T]) -> T:
    """What `action` returns; tried again after a failure that may pass."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except (FileNotFoundError, PermissionError):
            raise
        except (OSError, _Mismatch) as error:
            log.warning("%s; trying again", _reason(error))
            time.sleep(PAUSE_S * attempt)
    return action()


def _read(files: FileSystem, path: str) -> bytes:
    with files.open_input_stream(path, compression=None) as stream:
        content: bytes = stream.read()
    return content


def _copy(files: FileSystem, source: str, target: Path, checksum: str | None) -> None:
    """Copy one file, checking its content on the way."""
    digest, size = hashlib.sha256(), files.get_file_info(source).size or 0
    done, said = 0, time.monotonic()
    with files.open_input_stream(source, compression=None) as stream, ExitStack() as opened:
        with _writing(target):
            out = opened.enter_context(target.open("wb"))
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            with _writing(target):
                out.write(chunk)
            done += len(chunk)
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                log.warning("%s: %.1f of %.1f GB", source, done / 1e9, size / 1e9)
        with _writing(target):
            os.fsync(out.fileno())
    if digest.hexdigest() != checksum:
        raise _Mismatch(
            f"{target.name} must match the checksum in {INFO_FILE}, but what arrived does not"
        )


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


def _reason(error: Exception) -> str:
    """The first line of an error, without the detail that SDKs append."""
    return (str(error).splitlines() or [type(error).__name__])[0]
