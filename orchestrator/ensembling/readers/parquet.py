"""Parquet tables of labels: the clips of a store, the selection scores of a trial."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ensembling.readers.keys import LABELS, NAMES, first_of
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reading


def parquet_labels(path: Path) -> Content:
    """The columns label and, where there is one, id."""
    import pyarrow.parquet as pq

    with reading(path, "a Parquet table of labels"):
        table = pq.read_table(path)
    label, names = first_of(LABELS, table.column_names), first_of(NAMES, table.column_names)
    if label is None:
        raise UserError(f"{path}: must have a column 'label', has {table.column_names}")
    return Content(table[label].to_pylist(), None if names is None else table[names].to_pylist())
