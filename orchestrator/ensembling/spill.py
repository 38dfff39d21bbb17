"""Tables of numbers that may be larger than memory: beyond a limit they lie in a temporary file and
are read through a map of it. Knows nothing of what the numbers are.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

LIMIT = 1 << 28  # bytes of one table in memory
TOUCHED = 64  # tables of a map between two releases: a page of a large file may have 2 MB


class Rows:
    """A table (R, width) of float32 that grows row by row."""

    def __init__(self, width: int, limit: int | None = None) -> None:
        self._width = width
        self._limit = LIMIT if limit is None else limit
        self._parts: list[npt.NDArray[np.float32]] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, rows: npt.NDArray[np.float32]) -> None:
        """Add rows (R, width)."""
        self._parts.append(np.ascontiguousarray(rows, np.float32))
        self._bytes += rows.nbytes
        if self._file is None and self._bytes > self._limit:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is mapped
        if self._file is not None:
            for part in self._parts:
                self._file.write(part.data)
            self._parts.clear()

    def table(self) -> npt.NDArray[np.float32]:
        """All rows, once; read-only where they lie in a file, which is gone with the table."""
        if self._file is None:
            return np.concatenate([np.empty((0, self._width), np.float32), *self._parts])
        with self._file:  # the map needs it no longer
            self._file.flush()
            table: npt.NDArray[np.float32] = np.memmap(
                self._file, np.float32, "r", shape=(self._bytes // 4 // self._width, self._width)
            )
        return table


def release(table: npt.NDArray[Any]) -> None:
    """Let go of the memory that a mapped table's pages take; they are read again when needed."""
    found = _map_of(table)
    if found is not None:
        found.madvise(mmap.MADV_DONTNEED)


def part_of_each(
    values: npt.NDArray[np.float32], which: slice, part: slice
) -> npt.NDArray[np.float32]:
    """values[which, part] of tables (S, N, K); a copy where they are mapped, of which hardly more
    than the copy is in memory.
    """
    if _map_of(values) is None:
        return values[which, part]
    tables = values[which]
    found = np.empty(tables[:, part].shape, np.float32)
    for start in range(0, len(tables), TOUCHED):
        own = slice(start, start + TOUCHED)
        found[own] = tables[own, part]
        release(values)
    return found


def _map_of(table: npt.NDArray[Any]) -> mmap.mmap | None:
    base: Any = table
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.base if isinstance(base, np.ndarray) else getattr(base, "obj", None)
    return base
