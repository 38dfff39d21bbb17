"""A score or label file by its ending: the table of formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.ensembling.readers.csv_files import csv_labels, csv_scores
from orchestrator.ensembling.readers.json_files import json_labels, json_scores
from orchestrator.ensembling.readers.numpy_files import npy, npz_labels, npz_scores
from orchestrator.ensembling.readers.parquet import parquet_labels, parquet_scores
from orchestrator.ensembling.readers.pickled import pickled_labels, pickled_scores
from orchestrator.ensembling.readers.tables import (
    Content,
    LabelTable,
    ScoreTable,
    label_table,
    score_table,
)
from trainables.contract.errors import UserError
from trainables.contract.names import shown

Reader = Callable[[Path], Content]

SCORE_READERS: dict[str, Reader] = {
    ".parquet": parquet_scores,
    ".csv": csv_scores,
    ".tsv": csv_scores,
    ".npy": npy,
    ".npz": npz_scores,
    ".pkl": pickled_scores,
    ".pickle": pickled_scores,
    ".json": json_scores,
}
LABEL_READERS: dict[str, Reader] = {
    ".parquet": parquet_labels,
    ".csv": csv_labels,
    ".tsv": csv_labels,
    ".npy": npy,
    ".npz": npz_labels,
    ".json": json_labels,
    ".pkl": partial(pickled_labels, part=None),
    ".pickle": partial(pickled_labels, part=None),
}


def read_scores(path: Path) -> ScoreTable:
    """The scores of a file of any of the formats (docs/scores.md says what each may hold)."""
    return score_table(path, _reader(path, SCORE_READERS, "scores")(path))


def read_labels(path: Path, part: str | None = None) -> LabelTable:
    """The labels of a file of any of the formats; `part` of a PYSKL annotation file."""
    reader = _reader(path, LABEL_READERS, "labels")
    if part is None:
        return label_table(path, reader(path))
    pickled = path.suffix in (".pkl", ".pickle")
    content = pickled_labels(path, part) if pickled else Content(())
    if part not in content.parts:
        raise UserError(f"--split: goes with a PYSKL annotation file, got {path}")
    return label_table(path, content)


def _reader(path: Path, readers: dict[str, Reader], what: str) -> Reader:
    if path.suffix not in readers:
        raise UserError(
            f"{path}: {what} must be a file of type {', '.join(readers)}, got {shown(path.suffix)}"
        )
    if path.is_file() and not path.stat().st_size:
        raise UserError(
            f"{path}: must be a file of {what}, got an empty one: copy or write it again"
        )
    return readers[path.suffix]
