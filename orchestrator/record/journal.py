"""The append-only record of a sweep: one JSON line per event, on disk before the call returns.

Knows nothing of what the events mean.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from trainables.contract import locks
from trainables.contract.disk import make_folder, sync_folder, warn_once
from trainables.contract.errors import OutOfSpace

log = logging.getLogger(__name__)

Event = Literal[
    "sweep_started",
    "sweep_resumed",
    "sweep_forecast",
    "sweep_extended",
    "sweep_running",
    "resources_decided",
    "trial_proposed",
    "trial_started",
    "trial_warned",
    "trial_restarted",
    "trial_retried",
    "trial_finished",
    "trial_failed",
    "trial_interrupted",
    "trial_pruned",
    "trial_discarded",
    "beginning_trained",
    "beginning_used",
    "cell_exhausted",
    "node_excluded",
    "search_warmed",
    "ensemble_built",
    "test_read",
    "sweep_finished",
    "sweep_interrupted",
    "space_freed",
]
EVENTS: tuple[str, ...] = get_args(Event)

HEARTBEAT_S = 300.0
"""A run in which nothing happens says this often that it goes on: no more than this of its time is
lost where its process is killed.
"""


class Journal:
    """Writer of one journal file; several writers may append to the same file."""

    def __init__(
        self, path: Path, began: float | None = None, *, others: Sequence[Path] = ()
    ) -> None:
        """began: `time.monotonic()` when a run of the sweep began: its events carry `elapsed`, the
        seconds since then, which no change of the clock touches. others: journals that are told the
        same, before this one.
        """
        self.path = path
        self._others = tuple(others)
        self._began = began
        self._written = time.monotonic()  # when this writer last wrote

    def append(self, event: Event, **fields: Any) -> None:
        """Add one line `{"time": seconds since the epoch, "event": ..., fields}` and force it to
        disk. OutOfSpace where the disk is full.
        """
        self.append_all(event, [fields])

    def heartbeat(self) -> None:
        """Say that the run goes on, where nothing was said for HEARTBEAT_S."""
        if time.monotonic() - self._written >= HEARTBEAT_S:
            self.append("sweep_running")

    def append_all(self, event: Event, entries: Iterable[Mapping[str, Any]]) -> None:
        """Like `append` for every mapping of fields, forced to disk once.

        A line that a crash cut short is closed first, so that these events stay readable.
        """
        assert event in EVENTS, event
        common: dict[str, Any] = {"time": time.time(), "event": event}
        if self._began is not None:
            common["elapsed"] = round(time.monotonic() - self._began, 3)
        lines = b"".join(json.dumps(common | dict(fields)).encode() + b"\n" for fields in entries)
        try:
            for path in (*self._others, self.path):
                _write(path, lines)
            self._written = time.monotonic()
        except OSError as error:
            if OutOfSpace.is_why(error):
                raise OutOfSpace(self.path, error) from error
            raise


def _write(path: Path, lines: bytes) -> None:
    make_folder(path.parent)
    created = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # another writer's line, half visible, would look like one that a crash cut short
        locks.wait_for(descriptor)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        while lines:  # one write in practice; the system may take only a part
            lines = lines[os.write(descriptor, lines) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if created:
        sync_folder(path.parent)


MOST_SAID = 3
"""Damaged lines of a journal that have a warning each."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """Whole lines of a journal, and what they say."""

    content: bytes = b""
    events: tuple[dict[str, Any], ...] = ()
    wrong: tuple[str, ...] = ()  # number of each line that is no event, and why

    def and_those_of(self, content: bytes) -> _Lines:
        """With the lines that follow."""
        if not content:
            return self
        events, wrong = list[dict[str, Any]](), list[str]()
        for number, line in enumerate(content.split(b"\n"), self.content.count(b"\n") + 1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):  # not JSON, or not UTF-8
                wrong.append(f"{number}: incomplete line left out")
                continue
            if _is_event(event):
                events.append(event)
            else:
                wrong.append(f"{number}: not an event, left out")
        return _Lines(self.content + content, (*self.events, *events), (*self.wrong, *wrong))


_LAST_READ = [_Lines()]
"""Of the journal that was read last: a run of a sweep reads its own a dozen times, and only what
was added since is parsed.
"""


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Every whole event in the order written, not to be changed; lines cut by a crash are left out
    with a warning.

    Every event has its `event` and `time`, one of a trial its `trial`. No file: no events.
    """
    if not path.is_file():
        return []
    content, known = path.read_bytes(), _LAST_READ[0]
    if not content.startswith(known.content):
        known = _Lines()
    whole = content.rfind(b"\n") + 1
    known = _LAST_READ[0] = known.and_those_of(content[len(known.content) : whole])
    read = known.and_those_of(content[whole:])
    wrong = [f"{path}:{text}" for text in read.wrong]
    if len(wrong) > MOST_SAID:  # another file has taken its place, or the disk is damaged
        wrong = [
            f"{path}: {len(wrong)} lines are no events and are left out; the first: {wrong[0]}"
        ]
    for each in wrong:
        warn_once(log, each)
    return list(read.events)


def _is_event(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and isinstance(event.get("event"), str)
        and isinstance(event.get("time"), int | float)
        and (not event["event"].startswith("trial_") or isinstance(event.get("trial"), str))
    )


def running_seconds(events: Iterable[Mapping[str, Any]]) -> float:
    """How long the sweep's runs took together, as far as their events tell: pauses, and whatever
    was done after a run's end, do not count.
    """
    return max(running_times(events), default=0.0)


def running_times(events: Iterable[Mapping[str, Any]]) -> Iterator[float]:
    """The same up to each of the events."""
    total = span = 0.0
    start: Mapping[str, Any] | None = None
    for event in events:
        if event["event"] in ("sweep_started", "sweep_resumed"):
            total, span, start = total + span, 0.0, event
        elif start is None:
            pass
        elif "elapsed" in start:
            span = max(span, event.get("elapsed", 0.0))
        elif event["event"].startswith(("trial_", "sweep_")):  # written by version 0.2
            span = max(span, event["time"] - start["time"])
        if event["event"] in ("sweep_finished", "sweep_interrupted"):
            total, span, start = total + span, 0.0, None
        yield total + span
