"""JSON: scores, and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.ensembling.readers.keys import named_labels, named_scores
from orchestrator.ensembling.readers.records import is_records, records, scored
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_json
from trainables.contract.names import shown


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
