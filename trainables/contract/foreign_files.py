"""The one door through which files of other origins are read.

Whatever is wrong with a file becomes one UserError that names the file, the rule and what was
found. What a file makes grow in memory is bounded by its size. Archives are in `archives`.
"""

from __future__ import annotations

import csv
import json
import lzma
import math
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.contract.names import said, shown
from trainables.contract.pickles import Refused, check_extent, load_pickle

Array = npt.NDArray[Any]

LARGEST_TEXT = 1 << 29
"""Bytes of a file of text; such files are read as a whole."""
LARGEST_YAML = 1 << 20
"""Bytes of a YAML file: people write them."""
DEEPEST_YAML = 100
"""Brackets inside brackets; before PyYAML gives up on more, it looks at them for minutes."""
MOST_DIGITS = 20
"""Of a whole number: what 64 bits hold."""
MOST_COLUMNS = 1000

FAILURES: tuple[type[Exception], ...] = (
    OSError,  # no such file, no permission, a folder
    EOFError,
    ValueError,  # among them text that is not UTF-8, JSON, numbers of too many digits
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,  # among them OverflowError
    RuntimeError,  # among them RecursionError, NotImplementedError and what torch raises
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    csv.Error,
    pickle.UnpicklingError,
)
"""What can go wrong when a damaged or hostile file is read; PyYAML's errors are read in its own
door, pyarrow's are ValueError, OSError, LookupError or RuntimeError."""

_WHOLE_CLAUSES = (RecursionError, MemoryError, UnicodeDecodeError, Refused)
"""Errors of which what is said needs no other word."""


@contextmanager
def reading(place: Path | str, what: str) -> Iterator[None]:
    """Within: whatever a file can make a library raise becomes
    `UserError("{place}: must be {what}, but {reason}")`; a UserError passes as it is.
    """
    try:
        yield
    except UserError:
        raise
    except FAILURES as error:
        raise UserError(f"{place}: must be {what}, but {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Why a file could not be read, in one line and as a clause; without the advice to run code
    from it.
    """
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {error.strerror}"
    text = said(error)
    if text and isinstance(error, _WHOLE_CLAUSES):
        return text
    return f"it is damaged, cut short or of another kind{f': {text}' if text else ''}"


def read_bytes(file: Path, what: str = "a readable file", *, most: int = LARGEST_TEXT) -> bytes:
    """The content of a file of at most `most` bytes."""
    with reading(file, what), file.open("rb") as stream:
        large = os.fstat(stream.fileno()).st_size > most
        # a pipe does not say how much there is
        content = b"" if large else stream.read(-1 if file.is_file() else most + 1)
    if large or len(content) > most:
        raise UserError(f"{file}: must be {what} of at most {most} bytes, got more")
    return content


def read_text(file: Path, what: str = "text", *, most: int = LARGEST_TEXT) -> str:
    """The content of a UTF-8 file, without its byte order mark."""
    content = read_bytes(file, what, most=most)
    with reading(file, what):
        return content.decode("utf-8-sig")


def read_json(file: Path, what: str = "JSON") -> Any:
    """The content of a JSON file."""
    return parse_json(file, read_bytes(file, what), what)


def parse_json(place: Path | str, content: bytes | str, what: str = "JSON") -> Any:
    """What JSON text holds; `place` is what messages call it."""
    with reading(place, what):
        return json.loads(content, parse_int=_whole_number, object_pairs_hook=_record)


def yaml_loader() -> Any:
    """PyYAML's loader of plain text, every scalar as text; a YAMLError for brackets nested deeper
    than DEEPEST_YAML.
    """
    import yaml

    class Loader(yaml.BaseLoader):
        def fetch_flow_collection_start(self, token: Any) -> None:
            if self.flow_level >= DEEPEST_YAML:
                raise yaml.scanner.ScannerError(
                    problem="it is nested too deeply", problem_mark=self.get_mark()
                )
            super().fetch_flow_collection_start(token)

    return Loader


def read_yaml(file: Path, what: str = "YAML") -> Any:
    """The content of a YAML file, every scalar as text: a joint called `on` is no boolean."""
    import yaml

    class Loader(yaml_loader()):  # type: ignore[misc]
        """Yaml's own takes the last of several entries of one name."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            record: dict[Any, Any] = super().construct_mapping(node, deep)
            if len(record) < len(node.value):
                raise yaml.constructor.ConstructorError(
                    problem="a name occurs twice in one record", problem_mark=node.start_mark
                )
            return record

    text = read_text(file, what, most=LARGEST_YAML)
    with reading(file, what):
        try:
            content = yaml.load(text, Loader=Loader)
        except yaml.YAMLError as error:
            raise UserError(f"{file}: must be {what}: {' '.join(str(error).split())}") from error
        check_extent(content, len(text))
    return content


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV or TSV file: the names of its columns, and rows with an entry for each of them."""

    header: tuple[str, ...]
    rows: list[dict[str, str]]  # the first one is row 2 of the file


def read_table(file: Path, what: str = "a table") -> Table:
    """A table with a header, separated by tabs where the file ends in .tsv, by commas otherwise."""
    lines = read_text(file, what).splitlines(keepends=True)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    with reading(file, what):
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = tuple(next(reader, ()))
        rows = [row for row in reader if row]
    if len(header) > MOST_COLUMNS:
        raise UserError(f"{file}: must have at most {MOST_COLUMNS} columns, got {len(header)}")
    twice = sorted({shown(name) for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{file}: column names must be unique, got {', '.join(twice)} twice")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UserError(
                f"{file}: row {number}: must have {len(header)} entries, as the first line, got"
                f" {len(row)}"
            )
    return Table(header, [dict(zip(header, row, strict=True)) for row in rows])


def read_pickle(file: Path, what: str = "a whole pickle of plain arrays") -> Any:
    """The plain content of a pickle (see `pickles`); nothing in it is run."""
    with reading(file, what):
        return load_pickle(file)


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """What an array in NumPy's format says of itself before its numbers come."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def order(self) -> Literal["C", "F"]:
        return "F" if self.fortran else "C"

    @property
    def bytes(self) -> int:
        """Of its content; exact, however large."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(file: Path, what: str = "a NumPy array (.npy)", *, mapped: bool = False) -> Array:
    """The array of numbers or text in a .npy file; `mapped`: a read-only memory map of it."""
    with reading(file, what), file.open("rb") as stream:
        head = read_head(file, stream)
        size = file.stat().st_size - stream.tell()
        if head.bytes != size:
            raise UserError(f"{file}: must be {what}, but {differs(head, size)}")
        if not size:
            return np.empty(head.shape, head.dtype)
        if mapped:
            return np.memmap(file, head.dtype, "r", stream.tell(), head.shape, head.order)
        numbers = np.fromfile(stream, head.dtype, math.prod(head.shape))
        return numbers.reshape(head.shape, order=head.order)


def read_head(place: Path | str, stream: IO[bytes]) -> ArrayHead:
    """The head of an array; leaves the stream at its first number. To be called within
    `reading`; UserError where it holds anything but numbers or text.
    """
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
        with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
            shape, fortran, dtype = read(stream)
    except Exception as error:  # it is read as Python code, and there is no list of what fails
        raise ValueError(f"its head is no head of an array: {error}") from error
    if dtype.kind not in "biufcSU" or min(shape, default=0) < 0:
        held = "Python objects" if dtype.hasobject else f"{shown(dtype.str)} {shown(shape)}"
        raise UserError(f"{place}: must be an array of numbers or text, got {held}")
    return ArrayHead(tuple(map(int, shape)), dtype, bool(fortran))


def differs(head: ArrayHead, size: int) -> str:
    """What is wrong with an array whose content has `size` bytes, as a clause."""
    wanted = f"its head announces {head.dtype} {shown(head.shape)}, {head.bytes} bytes"
    return f"{wanted}, and {size} follow: it was cut short or changed"


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python's own takes the last of several entries of one name."""
    record = dict(pairs)
    if len(record) < len(pairs):
        (twice, count), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise Refused(f"the name {shown(twice)} occurs {count} times in one record")
    return record


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS + text.startswith("-"):
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
