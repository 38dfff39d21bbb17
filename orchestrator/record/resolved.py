"""`resolved.json`: what a sweep's folder says of the sweep, not what happened in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainables.contract.disk import read_json
from trainables.contract.errors import UserError

FILE = "resolved.json"


def load_resolved(run: Path) -> dict[str, Any]:
    """The content of resolved.json: the expanded `sweep`, its `digest`, the folder's `mark`, and
    in folders of version 0.2 the list of `trials`. UserError if the folder holds none.
    """
    path = run / FILE
    if not path.is_file():
        raise UserError(f"{run}: is not the folder of a sweep, {FILE} is missing")
    resolved = read_json(path)
    if not isinstance(resolved, dict) or not isinstance(resolved.get("sweep"), dict):
        raise UserError(f"{path}: must be a record with the sweep")
    return resolved
