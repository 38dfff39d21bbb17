"""What scores, labels and names of samples are called in files that hold several things, and which
columns are classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.names import listed, shown

SCORES = ("scores", "logits", "pred_score", "pred_scores", "probabilities", "probs", "score")
LABELS = ("y_test", "label", "labels", "gt_label", "gt_labels", "y", "y_true", "targets")
NAMES = ("id", "ids", "names", "file_name", "frame_dir", "filename", "video_id", "sample_name")
INDEX = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas calls the names of rows that have no name themselves."""

_NUMBERED = re.compile(r"(.*?)([0-9]{1,6})")


def first_of(keys: Sequence[str], held: Iterable[str]) -> str | None:
    """The first of `keys` that is there."""
    found = set(held)
    return next((key for key in keys if key in found), None)


def named_scores(content: Mapping[Any, Any]) -> Content | None:
    """Of {"scores": table, "ids": names, "labels": classes}, the last two where there are some;
    None for a record of another kind, such as {sample: vector}.
    """
    key = first_of(SCORES, map(str, content))
    if key is None or not _is_table(content[key]):
        return None
    names, labels = first_of(NAMES, map(str, content)), first_of(LABELS, map(str, content))
    return Content(
        content[key],
        None if names is None else content[names],
        labels=None if labels is None else content[labels],
    )


def named_labels(content: Mapping[Any, Any]) -> Content | None:
    """Of {"labels": classes, "ids": names}, the latter where there are some; None for a record of
    another kind, such as {sample: class}.
    """
    key = first_of(LABELS, map(str, content))
    if key is None or not isinstance(content[key], list | tuple | np.ndarray):
        return None
    names = first_of(NAMES, map(str, content))
    return Content(content[key], None if names is None else content[names])


def class_order(path: Path, columns: Sequence[str]) -> list[int]:
    """The places of the columns of classes 0, 1, ...: by their numbers where they are numbered
    (0 or class_0 or score1, from 0 or from 1), else as they stand.
    """
    parts = [_NUMBERED.fullmatch(name) for name in columns]
    prefixes = {part[1] for part in parts if part is not None}
    if len(prefixes) != 1 or sum(part is not None for part in parts) < 2:
        return list(range(len(columns)))
    others = [name for name, part in zip(columns, parts, strict=True) if part is None]
    numbers = [int(part[2]) for part in parts if part is not None]
    if others:
        raise UserError(
            f"{path}: every column must be a class, the id or the label, got"
            f" {listed(others)} beside numbered classes"
        )
    if sorted(numbers) not in ([*range(len(numbers))], [*range(1, len(numbers) + 1)]):
        raise UserError(
            f"{path}: columns of classes must be numbered from 0 or 1 without a gap, got"
            f" {shown(sorted(numbers)[:8])} of {len(numbers)}"
        )
    return sorted(range(len(numbers)), key=numbers.__getitem__)


def _is_table(value: Any) -> bool:
    """Whether this has rows of several numbers."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1
    return isinstance(value, list | tuple) and bool(value) and np.ndim(value[0]) > 0
