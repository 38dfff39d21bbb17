"""Labels as CSV or TSV with columns label and id, and scores or labels as JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.ensembling.readers.keys import NAMES, first_of, named_labels, named_scores
from orchestrator.ensembling.readers.records import is_records, records, scored
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import MOST_DIGITS, read_json, read_table
from trainables.contract.names import shown

_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{MOST_DIGITS}}}")


def csv_labels(path: Path) -> Content:
    """The columns label and, where there is one, id."""
    table = read_table(path, "a table of labels")
    if "label" not in table.header:
        raise UserError(
            f"{path}: must have a column 'label', has {', '.join(map(shown, table.header))}"
        )
    labels = [row["label"] for row in table.rows]
    words = sorted({label for label in labels if not _WHOLE.fullmatch(label.strip())})
    if words:
        raise UserError(
            f"{path}: labels must be class numbers, got {shown(words[0])}; a store's clips.parquet"
            " has them"
        )
    name = first_of(NAMES, table.header)
    ids = None if name is None else [row[name] for row in table.rows]
    return Content([int(label) for label in labels], ids)


def json_scores(path: Path) -> Content:
    """{sample: vector}, a list of vectors or of records; {"scores": table, ...} with labels and
    names where there are some.
    """
    content = read_json(path, "a JSON file of scores")
    if isinstance(content, dict):
        return named_scores(content) or Content(list(content.values()), list(content))
    return scored(path, content) if is_records(content) else Content(content)


def json_labels(path: Path) -> Content:
    """{"labels": [...]}, perhaps with "ids"; a list of classes, or of records with a label."""
    content: Any = read_json(path, "a JSON file of labels")
    if not isinstance(content, dict):
        return records(path, content)
    found = named_labels(content)
    if found is None:
        raise UserError(
            f"{path}: must have an entry 'labels', has {', '.join(map(shown, list(content)[:5]))}"
        )
    return found
