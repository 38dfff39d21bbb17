"""Files of ours on disk: written atomically and for good, read with one clear error; and which
errors mean that the disk takes no more.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from trainables.contract.addresses import was_address
from trainables.contract.errors import LaterForm, NotWritable, OutOfSpace, StorageFailed, UserError
from trainables.contract.names import said

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""They concern the whole sweep, not one trial."""


LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
"""The name of a file that `write_atomic` had not finished when its process was killed."""


_TO_FORCE: ContextVar[dict[Path, BinaryIO] | None] = ContextVar("to_force", default=None)
"""Within `forced_together`: the files that are not forced to disk yet."""


@contextmanager
def forced_together() -> Iterator[None]:
    """Within: what `write_atomic` wrote survives a power cut once the block is left, not before.
    The first file that is forced to disk takes most of the others along, which takes half of the
    time; names are forced once per folder. For files that nobody reads before one of later names
    them. The errors of `write_atomic` are raised here, too; what was refused is then removed.
    """
    files: dict[Path, BinaryIO] = {}
    token = _TO_FORCE.set(files)
    with ExitStack() as closing:
        closing.callback(lambda: [stream.close() for stream in files.values()])
        try:
            yield
        finally:
            _TO_FORCE.reset(token)
        for path, stream in files.items():
            try:
                os.fsync(stream.fileno())
            except OSError as error:
                path.unlink(missing_ok=True)
                _raise_of(path, error)
    for folder in sorted({path.parent for path in files}):
        try:
            sync_folder(folder)
        except OSError as error:
            if OutOfSpace.is_why(error):
                raise OutOfSpace(folder, error) from error
            raise


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the old file, the whole new one, or none; once it
    returns, a power cut does not undo it (see `forced_together`). OutOfSpace where the disk is
    full, NotWritable where the machine refuses otherwise, UserError where the path was an address.
    """
    _refuse_address(path)
    later = _TO_FORCE.get()
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        make_folder(path.parent)
        with ExitStack() as closing:
            stream = closing.enter_context(partial.open("wb"))
            stream.write(content)
            stream.flush()
            if later is None:
                os.fsync(stream.fileno())
            partial.replace(path)
            if later is None:
                sync_folder(path.parent)
            else:
                if (before := later.pop(path, None)) is not None:
                    before.close()
                later[path] = stream
                closing.pop_all()  # forced to disk and closed at the end of the block
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            _raise_of(path, error)
        raise


def _raise_of(path: Path, error: OSError) -> NoReturn:
    """The error of writing this file; its own name may be that of another one."""
    if OutOfSpace.is_why(error):
        raise OutOfSpace(path, error) from error
    if error.strerror:
        raise NotWritable(error.errno, error.strerror, str(path)) from error
    raise error


def _refuse_address(path: Path) -> None:
    """`s3://bucket/x` where a file is to be written would become a folder that is called `s3:`."""
    if was_address(path):
        raise UserError(f"{path}: must be a place on this machine, no address")


def check_writable(path: Path) -> None:
    """UserError where `write_atomic` could not write this file now; nothing is left behind. Asked
    before work whose result goes there.
    """
    _refuse_address(path)
    if path.is_dir():
        raise UserError(f"{path}: must be the name of a file to write, got that of a folder")
    folder = next(each for each in path.absolute().parents if each.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; a power cut does not take their names away."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:  # a file of that name
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk: a new file's content alone is not the file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove what `write_atomic` left half written in or below a folder when its process was
    killed; no other process may be writing there.
    """
    for path in folder.rglob(".*.partial"):
        if LEFTOVER.fullmatch(path.name):
            path.unlink()


def cache_root() -> Path:
    """The folder of what can be made or fetched anew; UserError where there is none."""
    try:
        return Path(os.environ.get("ORCHESTRATE_CACHE") or "~/.cache/orchestrate").expanduser()
    except RuntimeError as error:  # a container's user without a home
        raise UserError(
            f"ORCHESTRATE_CACHE: must name a folder for caches here: {error}"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file of ours; UserError where it cannot be read or is damaged."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        text = said(error)
        raise UserError(
            f"{path}: is damaged, it is not readable as JSON{f': {text}' if text else ''}"
        ) from error


@cache
def warn_once(log: logging.Logger, text: str) -> None:
    """Log a warning the first time that this process has reason to: one command reads some files
    again and again.
    """
    log.warning("%s", text)


def check_form(path: Path, form: Any, known: int) -> None:
    """LaterForm where a file of ours has a form that this version does not know yet."""
    if isinstance(form, int) and form > known:
        raise LaterForm(
            f"{path}: must be of a form up to {known}, got {form}: a later version of orchestrate"
            " wrote it"
        )


def disk_problem(error: BaseException) -> str | None:
    """`No space left on device: FILE` if `error`, or one that it came from, says that the disk is
    full, a quota used up or the file system read-only, or what StorageFailed says; None otherwise.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, OSError) and current.errno in DISK_ERRORS:
            where = f": {current.filename}" if current.filename else ""
            return f"{os.strerror(current.errno)}{where}"
        if isinstance(current, StorageFailed):
            return str(current)
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None
