"""Parquet tables with columns id, logits, label: what a trial writes, and the clips of a store."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reading
from trainables.contract.scores import Scores


def parquet_scores(path: Path) -> Content:
    """The score table of a trial."""
    with reading(path, "a readable score table"):
        table = Scores.load(path)
    return Content(table.logits, table.ids)


def parquet_labels(path: Path) -> Content:
    """The columns label and, where there is one, id."""
    import pyarrow.parquet as pq

    with reading(path, "a Parquet table of labels"):
        table = pq.read_table(path)
    if "label" not in table.column_names:
        raise UserError(f"{path}: must have a column 'label', has {table.column_names}")
    ids = table["id"].to_pylist() if "id" in table.column_names else None
    return Content(table["label"].to_pylist(), ids)
