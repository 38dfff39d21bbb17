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
    base: Any = table
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.base if isinstance(base, np.ndarray) else getattr(base, "obj", None)
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
