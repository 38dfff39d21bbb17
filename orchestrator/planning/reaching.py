"""Places that a sweep needs on every node, folders and addresses: whether this machine reaches
them, and may write and delete there. Starts nothing and leaves nothing behind.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.contract.addresses import is_address, joined
from trainables.contract.disk import cache_root
from trainables.contract.errors import UserError
from trainables.remote.filesystem import explained, opened
from trainables.remote.objects import Objects

PREFIX = ".doctor-"
"""Of what is made for a moment, to see whether it can be."""

_WORD = "word"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or an address that a node has to reach."""

    folder: str  # absolute, or an address
    word: str = ""  # content of the file `word` in it, which the driver has written; "": none
    file: str = ""  # of an address: what has to be there

    @property
    def shown(self) -> str:
        """As the sweep knows it: a probe is in it for a moment."""
        above, _, name = self.folder.rpartition("/")
        return above if name.startswith(PREFIX) else self.folder


def unreached(place: Place, name: str) -> str | None:
    """Why this machine does not reach the place; None if it does. In a place with a word it leaves
    a file of its own name, and at an address another one for a moment.
    """
    try:
        if is_address(place.folder):
            _reach_address(place, name)
        else:
            _reach_folder(Path(place.folder), place.word, name)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # UserError, too
        return str(error).removeprefix(f"{place.folder}: ")
    return None


def _reach_folder(folder: Path, word: str, name: str) -> None:
    shutil.disk_usage(folder)
    if not word:
        return
    if (folder / _WORD).read_text() != word:
        raise ValueError("another folder lies there under the same path")
    (folder / f"from-{name}-{os.getpid()}").write_text(word)


def _reach_address(place: Place, name: str) -> None:
    files, root = opened(place.folder)
    wanted = _WORD if place.word else place.file
    with explained(place.folder, "read"):
        try:
            content = files.cat_file(f"{root}/{wanted}") if wanted else b""
        except FileNotFoundError as error:
            raise ValueError(f"there is no {wanted}, which this machine should see") from error
    if not place.word:
        return
    if content != place.word.encode():
        raise ValueError("another bucket is reached by the same address")
    own = f"{root}/from-{name}-{os.getpid()}"
    with explained(place.folder, "write"):
        files.pipe_file(own, content)
        files.cp_file(own, f"{own}-copy")
    with explained(place.folder, "list"):
        listed = {each.rpartition("/")[2] for each in files.find(root)}
    if not {_WORD, own.rpartition("/")[2]} <= listed:
        raise ValueError("a list of what lies there lacks what was just written")
    with explained(place.folder, "delete"):
        files.rm_file(own)
        files.rm_file(f"{own}-copy")


def makes_once(place: Place) -> bool:
    """Whether an object is written there only where none of its name is: by that a sweep has one
    driver. False where the other side does not know how.
    """
    objects = Objects(place.folder)
    return [objects.make("once", text) for text in (b"one", b"two")] == [True, False]


@contextmanager
def probe(storage: str) -> Iterator[Place]:
    """Within: something in the storage, with a word that a worker must read; gone afterwards.
    UserError where it cannot be made.
    """
    word = secrets.token_hex(8)
    with _probe_at(storage, word) if is_address(storage) else _probe_in(storage, word) as place:
        yield place


@contextmanager
def _probe_in(storage: str, word: str) -> Iterator[Place]:
    whole = Path(storage).absolute()
    there = next(folder for folder in (whole, *whole.parents) if folder.exists())
    try:
        folder = tempfile.mkdtemp(dir=there, prefix=PREFIX)
        Path(folder, _WORD).write_text(word)
    except OSError as error:
        raise UserError(f"{there}: {error.strerror}") from error
    try:
        yield Place(folder, word)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _probe_at(storage: str, word: str) -> Iterator[Place]:
    place = Place(joined(storage, f"{PREFIX}{secrets.token_hex(4)}"), word)
    files, root = opened(place.folder)
    with explained(storage, "write"):
        files.pipe_file(f"{root}/{_WORD}", word.encode())
    try:
        reason = unreached(place, "driver")
        if reason is not None:
            raise UserError(f"{storage}: {reason}")
        yield place
    finally:
        _remove(files, root)


def _remove(files: Any, root: str) -> None:
    with suppress(Exception):  # what cannot be deleted was said before
        for path in files.find(root):
            files.rm_file(path)
    with suppress(Exception):  # of file://, where folders are
        files.rmdir(root)


def free_in_cache() -> tuple[str, int]:
    """This machine's folder of copies, and the bytes that are free there."""
    root = cache_root().absolute()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    return str(root), shutil.disk_usage(there).free
