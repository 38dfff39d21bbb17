"""What trials reported after their epochs, in the order in which the sweep heard of it: by this a
stopping rule is rebuilt. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainables.contract.disk import warn_once, write_atomic
from trainables.contract.errors import OutOfSpace

log = logging.getLogger(__name__)

FILE = "epochs.jsonl"


class EpochLog:
    """The file of one sweep: a line per epoch, written before anything is decided by it.

    It is not forced to disk: what a crash of the machine loses, the rules do not know.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / FILE
        self._whole = False  # whether the file is known to end with a whole line

    def append(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add what `trial` reported after `epoch` (0-based). OutOfSpace where the disk is full."""
        line = json.dumps({"trial": trial, "epoch": epoch, **metrics}).encode() + b"\n"
        if not self._whole:  # a crash may have cut the last one short
            line, self._whole = (b"" if self._ends_whole() else b"\n") + line, True
        try:
            with self._path.open("ab") as file:
                file.write(line)
        except OSError as error:
            if OutOfSpace.is_why(error):
                raise OutOfSpace(self._path, error) from error
            raise

    def load(self) -> Iterator[tuple[str, int, dict[str, float]]]:
        """(trial, epoch, metrics) in the order they were added; lines cut by a crash are left out
        with a warning.
        """
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                    trial, epoch = str(entry.pop("trial")), int(entry.pop("epoch"))
                    metrics = {str(name): float(value) for name, value in entry.items()}
                except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                    warn_once(log, f"{self._path}:{number}: not an epoch of a trial, left out")
                    continue
                yield trial, epoch, metrics

    def _ends_whole(self) -> bool:
        if not self._path.is_file() or not self._path.stat().st_size:
            return True
        with self._path.open("rb") as file:
            file.seek(-1, io.SEEK_END)
            return file.read() == b"\n"


def write_curve(path: Path, epochs: Sequence[Mapping[str, float]]) -> None:
    """The curve of a trial that ended early, one row per epoch (Parquet), atomically: the file that
    a finished trial leaves.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(each) for each in epochs]), sink)
    write_atomic(path, sink.getvalue().to_pybytes())
