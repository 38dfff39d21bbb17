"""Lists of records, one per sample: labels with a name, MMAction2's dumps of test results, and
PYSKL's annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.names import shown

NAMES = ("id", "file_name", "frame_dir", "filename", "video_id")
"""Keys under which records have the name of their sample, the first that all of them have."""
SCORES = ("pred_score", "pred_scores")
LABELS = ("label", "gt_label", "gt_labels")


def is_records(content: Any) -> bool:
    """Whether this is a list of records."""
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict)


def records(path: Path, content: Any, keys: Sequence[str] = LABELS) -> Content:
    """The entries of the first of `keys` that all records have, and their names where they have
    some; anything but records is taken for the entries themselves.

    MMAction2 wraps an entry as {"item": entry} in some versions, and a label in a list.
    """
    if not is_records(content):
        return Content(content)
    key = _common(content, keys)
    if key is None:
        raise UserError(
            f"{path}: every record must have an entry {' or '.join(keys)}, the first has"
            f" {', '.join(map(shown, list(content[0])[:8]))}"
        )
    values = [_bare(record[key]) for record in content]
    name = _common(content, NAMES)
    return Content(values, None if name is None else [record[name] for record in content])


def scored(path: Path, content: Any) -> Content:
    """MMAction2's dump of test results: scores, the names and the labels that its records have."""
    found = records(path, content, SCORES)
    own = records(path, content, LABELS) if _common(content, LABELS) else None
    return Content(found.values, found.ids, labels=None if own is None else own.values)


def annotated(path: Path, content: dict[str, Any], part: str | None) -> Content:
    """The labels of a PYSKL annotation file {"split": {part: names}, "annotations": [records]}, of
    one part of it in the order in which PYSKL tests it, or of all.
    """
    parts = content.get("split") or {}
    entries = content["annotations"]
    if not isinstance(parts, dict) or not is_records(entries):
        raise UserError(f"{path}: must have a record 'split' and a list 'annotations'")
    found = records(path, entries)
    if found.ids is None:
        raise UserError(f"{path}: every annotation must have a name ({' or '.join(NAMES)})")
    sizes = {str(name): len(names) for name, names in parts.items()}
    if part is None:
        return Content(found.values, found.ids, sizes)
    if part not in parts:
        raise UserError(f"--split: must be {' or '.join(map(shown, sizes))}, got {shown(part)}")
    wanted = set(map(str, parts[part]))
    rows = [row for row, name in enumerate(found.ids) if str(name) in wanted]
    return Content([found.values[i] for i in rows], [found.ids[i] for i in rows], sizes)


def is_annotations(content: Any) -> bool:
    """Whether this is the content of a PYSKL annotation file."""
    return isinstance(content, dict) and "annotations" in content


def _common(content: Sequence[Any], keys: Sequence[str]) -> str | None:
    return next(
        (
            key
            for key in keys
            if all(isinstance(record, dict) and key in record for record in content)
        ),
        None,
    )


def _bare(value: Any) -> Any:
    return value["item"] if isinstance(value, dict) and set(value) == {"item"} else value
