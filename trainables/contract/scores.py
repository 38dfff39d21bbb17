"""Logits of one split, one row per sample id, in a Parquet table;
aligned by id, never by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError

COLUMNS = ("id", "logits")


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """Row i of `logits` (N, K) is sample `ids[i]`; ids are unique and sorted, so Scores of one
    split align.

    `labels` (N,) is present only where labels may be seen: on the selection split.
    """

    ids: tuple[str, ...]
    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or self.logits.shape[0] != len(self.ids):
            raise ValueError(
                f"logits must have one row per id, got {self.logits.shape} for {len(self.ids)} ids"
            )
        if any(a >= b for a, b in zip(self.ids, self.ids[1:], strict=False)):
            raise ValueError("ids must be sorted and unique")
        if self.labels is not None and self.labels.shape != (len(self.ids),):
            raise ValueError(
                f"labels must have one entry per id, got {self.labels.shape} for"
                f" {len(self.ids)} ids"
            )

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        logits: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64] | None = None,
    ) -> Scores:
        """Scores from rows in any order: sorted by id here."""
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        return cls(
            ids=tuple(ids[i] for i in order),
            logits=np.ascontiguousarray(logits[order], dtype=np.float32),
            labels=None if labels is None else labels[order].astype(np.int64),
        )

    def save(self, path: Path) -> None:
        """Write columns id, logits (fixed-size list of float32)
        and, if present, label; atomically.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        flat = pa.array(self.logits.reshape(-1))
        columns: dict[str, pa.Array] = {
            "id": pa.array(self.ids, pa.string()),
            "logits": pa.FixedSizeListArray.from_arrays(flat, self.logits.shape[1]),
        }
        if self.labels is not None:
            columns["label"] = pa.array(self.labels)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, use_dictionary=False)  # few values recur
        write_atomic(path, sink.getvalue().to_pybytes())

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what `save` wrote."""
        table = _read(path, COLUMNS)
        logits = table["logits"].combine_chunks()
        rows = np.asarray(
            logits.flatten().to_numpy(zero_copy_only=False), dtype=np.float32
        ).reshape(len(logits), -1)
        labels = (
            table["label"].to_numpy().astype(np.int64) if "label" in table.column_names else None
        )
        return cls.of(table["id"].to_pylist(), rows, labels)


def load_ids(path: Path) -> tuple[str, ...]:
    """The clips of a score table, as `Scores.load` has them; no score is read."""
    return tuple(sorted(_read(path, ("id",), only=True)["id"].to_pylist()))


def _read(path: Path, needed: Sequence[str], *, only: bool = False) -> Any:
    """The Arrow table of a file, or of it what is needed only; UserError where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path}: must be a score table, got no such file")
    try:
        with pq.ParquetFile(path) as file:  # a fifth of the time of read_table
            names = file.schema_arrow.names
            missing = set(needed) - set(names)
            table = None if missing else file.read(columns=list(needed) if only else None)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: not a readable score table: {error}") from error
    if table is None:
        raise UserError(
            f"{path}: score table lacks column {', '.join(sorted(missing))}, has {names}"
        )
    return table
