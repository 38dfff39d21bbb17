"""`resolved.json`: what a sweep's folder says of the sweep, not what happened in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainables.contract.errors import UserError


def load_resolved(run: Path) -> dict[str, Any]:
    """The content of resolved.json: the expanded `sweep`, its `digest` and its `trials`; UserError
    if the folder holds none.
    """
    path = run / "resolved.json"
    try:
        resolved = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{run}: not the folder of a sweep, resolved.json is missing") from None
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(resolved, dict) or not {"sweep", "trials"} <= set(resolved):
        raise UserError(f"{path}: must be a record with the sweep and its trials")
    return resolved
