"""Parquet tables: scores as vectors or with a column per class, and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.readers.keys import (
    INDEX,
    LABELS,
    NAMES,
    SCORES,
    class_order,
    first_of,
)
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reading
from trainables.contract.names import listed

if TYPE_CHECKING:
    import pyarrow as pa


def parquet_scores(path: Path) -> Content:
    """A column of vectors (`logits`, as trials write them) or a column per class; names and labels
    where there are some.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path, "a Parquet table of scores"):
        table = pq.read_table(path)
    held = table.column_names
    names, label = first_of((*NAMES, *INDEX), held), first_of(LABELS, held)
    others = [each for each in held if each not in (*INDEX, names, label)]
    vectors = [each for each in others if pa.types.is_nested(table[each].type)]
    key = first_of(SCORES, vectors) or (vectors[0] if len(vectors) == 1 else None)
    if vectors and key is None:
        raise UserError(
            f"{path}: must have one column of vectors, or one called {' or '.join(SCORES)}, got"
            f" {listed(vectors)}"
        )
    with reading(path, "score vectors of the same number of classes"):
        values = (
            _vectors(table[key])
            if key is not None
            else np.stack([_floats(table[others[at]]) for at in class_order(path, others)], axis=1)
        )
    return Content(values, _entries(path, table, names), labels=_entries(path, table, label))


def parquet_labels(path: Path) -> Content:
    """The columns label and, where there is one, id."""
    import pyarrow.parquet as pq

    with reading(path, "a Parquet table of labels"):
        table = pq.read_table(path)
    label, names = first_of(LABELS, table.column_names), first_of(NAMES, table.column_names)
    if label is None:
        raise UserError(f"{path}: must have a column 'label', has {table.column_names}")
    return Content(_entries(path, table, label), _entries(path, table, names))


def _entries(path: Path, table: pa.Table, column: str | None) -> list[Any] | None:
    """What a column holds; None without one."""
    if column is None:
        return None
    with reading(path, "a whole Parquet table"):
        entries: list[Any] = table[column].to_pylist()  # text is decoded here
    return entries


def _vectors(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """(N, K); ValueError where vectors are missing or of different lengths."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_pylist()
    if column.null_count or len(set(lengths)) > 1:
        raise ValueError(f"it has vectors of {sorted({str(each) for each in lengths})[:3]} entries")
    flat = column.combine_chunks().flatten()
    return np.asarray(_floats(flat)).reshape(len(lengths), -1)


def _floats(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """Numbers as they are, missing ones as NaN; ValueError for text."""
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ValueError(f"it has a column of {column.type}")
    numbers: npt.NDArray[Any] = (
        column.to_numpy()
        if isinstance(column, pa.ChunkedArray)
        else column.to_numpy(zero_copy_only=False)
    )
    return numbers
