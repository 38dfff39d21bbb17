"""The append-only record of a sweep: one JSON line per event, on disk before the call returns.

Knows nothing of what the events mean.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from pathlib import Path
from typing import Any, Literal, get_args

log = logging.getLogger(__name__)

Event = Literal[
    "sweep_started",
    "sweep_resumed",
    "trial_started",
    "trial_finished",
    "trial_failed",
    "trial_interrupted",
    "trial_pruned",
    "trial_discarded",
    "trial_restarted",
    "ensemble_built",
    "test_read",
    "sweep_finished",
    "sweep_interrupted",
]
EVENTS: tuple[str, ...] = get_args(Event)


class Journal:
    """Writer of one journal file; several writers may append to the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Event, **fields: Any) -> None:
        """Add one line `{"time": seconds since the epoch, "event": ..., fields}` and force it to
        disk.

        A line that a crash cut short is closed first, so that this event stays readable.
        """
        assert event in EVENTS, event
        line = json.dumps({"time": time.time(), "event": event, **fields}).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # another writer's line, half visible, would look like one that a crash cut short
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            _write_all(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    """One write in practice; the rest follows should the system take only a part."""
    while content:
        content = content[os.write(descriptor, content) :]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Every whole event in the order written; lines cut by a crash are left out with a warning.

    No file: no events.
    """
    if not path.is_file():
        return []
    events: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError:  # not JSON, or not UTF-8
            log.warning("%s:%d: incomplete line left out", path, number)
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
        else:
            log.warning("%s:%d: not an event, left out", path, number)
    return events
