"""Pickles of other code bases, told apart by what they hold; nothing in them is run."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ensembling.readers.keys import named_labels, named_scores
from orchestrator.ensembling.readers.records import (
    annotated,
    is_annotations,
    is_records,
    records,
    scored,
)
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_pickle


def pickled_scores(path: Path) -> Content:
    """{sample: vector} (CTR-GCN and its followers), a list of vectors (PYSKL), or of MMAction2's
    records; {"scores": table, ...} with labels and names where there are some.
    """
    content = read_pickle(path, "a pickle of scores")
    if is_annotations(content):
        raise UserError(f"{path}: must be a file of scores, got one of annotations: --labels")
    if isinstance(content, dict):
        return named_scores(content) or Content(list(content.values()), list(content))
    return scored(path, content) if is_records(content) else Content(content)


def pickled_labels(path: Path, part: str | None) -> Content:
    """{sample: class}, {"labels": classes, ...}, (names, classes) as in ST-GCN's val_label.pkl, a
    list of classes or of records, a PYSKL annotation file, or MMAction2's dump of test results.
    """
    content = read_pickle(path, "a pickle of labels")
    if is_annotations(content):
        return annotated(path, content, part)
    if isinstance(content, dict):
        return named_labels(content) or Content(list(content.values()), list(content))
    pair = isinstance(content, tuple | list) and len(content) == 2
    if pair and isinstance(content[0], list | tuple):
        return Content(content[1], content[0])
    return records(path, content)
