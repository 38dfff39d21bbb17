"""Archives of other origins: .zip, .npz and .tar.gz, part of the door of `foreign_files`.

An archive of a megabyte can unpack to gigabytes. A member is read only where it says that it
unpacks to little, or to not much more than it takes in the archive; no more than it says is
unpacked.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self, cast

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import (
    Array,
    ArrayHead,
    differs,
    read_head,
    reading,
)
from trainables.contract.names import listed

SMALL = 1 << 26
"""Bytes that any member may unpack to."""
MOST_GROWTH = 200
"""How many times its size a larger one may unpack to: padded skeletons unpack to 30 times."""
MOST_MEMBERS = 1_000_000
_ARRAY = ".npy"


class ZipArchive:
    """An open .zip; every failure is a UserError that names it. A context manager."""

    def __init__(self, file: Path, what: str = "a .zip archive") -> None:
        self.file, self._what = file, what
        with reading(file, what):
            self._archive = zipfile.ZipFile(file)
        self.names: tuple[str, ...] = tuple(self._archive.namelist())
        if len(self.names) > MOST_MEMBERS:
            self.close()
            raise UserError(
                f"{file}: must be {what} of at most {MOST_MEMBERS} members, got {len(self.names)}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()

    def read(self, member: str) -> bytes:
        """The content of a member, its checksum checked."""
        self.check_growth(member)
        with self.reading(member), self._archive.open(member) as stream:
            return stream.read()

    def check_growth(self, member: str) -> None:
        """UserError where a member would unpack to far more than it takes in the archive."""
        with self.reading(member):
            info = self._archive.getinfo(member)
        if info.file_size > max(SMALL, MOST_GROWTH * info.compress_size):
            raise UserError(
                f"{self.place(member)}: must unpack to at most {MOST_GROWTH} times its size, got"
                f" {info.file_size} bytes out of {info.compress_size}"
            )

    def place(self, member: str) -> str:
        """What messages call a member."""
        return f"{self.file}[{member.removesuffix(_ARRAY)}]"

    def reading(self, member: str) -> Any:
        return reading(self.place(member), f"a whole member of {self._what}")


class ArrayArchive(ZipArchive):
    """An open .npz; its arrays are called by name, without `.npy`."""

    def __init__(self, file: Path, what: str = "an .npz archive") -> None:
        super().__init__(file, what)
        self.names = tuple(
            name.removesuffix(_ARRAY) for name in self.names if name.endswith(_ARRAY)
        )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            self.close()
            raise UserError(f"{file}: names of arrays must be unique, got {listed(twice)} twice")

    def head(self, name: str) -> ArrayHead:
        """Shape and type of an array; UserError unless its member holds exactly that."""
        with self.reading(name), self._archive.open(name + _ARRAY) as stream:
            head = read_head(self.place(name), stream)
            size = self._archive.getinfo(name + _ARRAY).file_size - stream.tell()
            if head.bytes != size:
                raise UserError(
                    f"{self.place(name)}: must be a whole array, but {differs(head, size)}"
                )
        return head

    def array(self, name: str) -> Array:
        """A whole array."""
        head = self.head(name)
        self.check_growth(name + _ARRAY)
        with self.reading(name), self._archive.open(name + _ARRAY) as stream:
            read_head(self.place(name), stream)
            numbers = np.frombuffer(bytearray(stream.read()), head.dtype)
            return numbers.reshape(head.shape, order=head.order)

    def blocks(self, name: str, most: int) -> Iterator[Array]:
        """The rows of an array in C order, some at a time: about `most` bytes, however large it is;
        at the end its checksum has been checked.
        """
        head = self.head(name)
        size = max(1, head.bytes // max(1, head.shape[0])) if head.shape else 1
        if head.fortran or not head.shape:
            raise UserError(
                f"{self.place(name)}: must be rows of numbers in C order, got {head.shape}"
                f"{' in Fortran order' if head.fortran else ''}"
            )
        step = max(1, most // size)
        with self.reading(name), self._archive.open(name + _ARRAY) as stream:
            read_head(self.place(name), stream)
            for begin in range(0, head.shape[0], step):
                count = min(step, head.shape[0] - begin)
                content = stream.read(count * size)
                if len(content) != count * size:
                    raise EOFError(f"it ends in row {begin + len(content) // size}")
                yield np.frombuffer(content, head.dtype).reshape(count, *head.shape[1:])
            stream.read(1)  # at its end the checksum is compared


def check_growth(file: Path, what: str) -> None:
    """UserError where a .zip that another library reads would unpack to far more than its size."""
    with ZipArchive(file, what) as archive:
        for member in archive.names:
            archive.check_growth(member)


def tar_members(file: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted files of a .tar or .tar.gz, in its order."""
    what = "a .tar.gz archive"
    with reading(file, what), file.open("rb") as packed:
        zipped = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        most = max(SMALL, MOST_GROWTH * file.stat().st_size)
        stream = _Bounded(file, gzip.GzipFile(fileobj=packed) if zipped else packed, most)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and wanted(member.name):
                    yield member.name, content.read()


class _Bounded:
    """A stream that gives at most `most` bytes, then a UserError."""

    def __init__(self, file: Path, stream: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self._file, self._stream, self._most, self._left = file, stream, most, most

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise UserError(
                f"{self._file}: must unpack to at most {MOST_GROWTH} times its size, got more than"
                f" {self._most} bytes"
            )
        return content
