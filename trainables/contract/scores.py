"""Logits of one split, one row per sample id, in a Parquet table;
aligned by id, never by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError


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
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not path.is_file():
            raise UserError(f"{path}: must be a score table, got no such file")
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: not a readable score table: {error}") from error
        missing = {"id", "logits"} - set(table.column_names)
        if missing:
            raise UserError(
                f"{path}: score table lacks column {', '.join(sorted(missing))}, has"
                f" {table.column_names}"
            )
        logits = table["logits"].combine_chunks()
        rows = np.asarray(
            logits.flatten().to_numpy(zero_copy_only=False), dtype=np.float32
        ).reshape(len(logits), -1)
        labels = (
            table["label"].to_numpy().astype(np.int64) if "label" in table.column_names else None
        )
        return cls.of(table["id"].to_pylist(), rows, labels)
