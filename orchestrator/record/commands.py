"""The commands that messages advise: as they have to be typed for the folder at hand."""

from __future__ import annotations

import shlex
from pathlib import Path

from orchestrator.record.copies import storage_of

STORAGE = Path("runs")
"""Where commands look for a sweep without --storage."""


def command(verb: str, run: Path, *options: str, address: str | None = None) -> str:
    """`orchestrate resume NAME --storage elsewhere --address HOST:PORT`, as far as needed."""
    words = ["orchestrate", verb, run.name, *options]
    if run.parent != STORAGE:
        words += ["--storage", storage_of(run)]
    if address is not None:
        words += ["--address", address]
    return shlex.join(words)
