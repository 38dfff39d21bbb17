"""`times.json`: how far the trials of a sweep took longer than was expected of them, by kind of
network. Later plans on the same machine are corrected by it; nothing else is built on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trainables.contract.disk import write_json

FILE = "times.json"
FORM = 1
"""Of what is expected: a factor says nothing of expectations that are computed otherwise."""
NEWEST = 20
"""Earlier sweeps that are read."""


@dataclass(frozen=True, slots=True)
class Factor:
    """Of trials of one kind: what they took, over what was expected of them."""

    trials: int
    factor: float  # the median


@dataclass(frozen=True, slots=True)
class Times:
    """What one sweep has shown."""

    machine: str  # what its trials ran on: those of another machine say nothing of this one
    kinds: Mapping[str, Factor]


def write_times(run: Path, times: Times) -> None:
    """Replace what the folder says."""
    write_json(run / FILE, {"form": FORM, **asdict(times)})


def load_times(run: Path) -> Times | None:
    """What the sweep has shown; None where that is not known, of another form, or damaged."""
    try:
        content = json.loads((run / FILE).read_text())
        if content["form"] != FORM:
            return None
        kinds = {str(kind): Factor(**each) for kind, each in content["kinds"].items()}
        times = Times(str(content["machine"]), kinds)
        return times if all(each.factor > 0 for each in kinds.values()) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def earlier_times(storage: Path, machine: str) -> tuple[Times, ...]:
    """What sweeps in the storage folder have shown of this machine, the newest first."""
    found: list[tuple[float, Path]] = []
    try:
        with os.scandir(storage) as entries:
            for entry in entries:
                file = Path(entry.path) / FILE
                if os.access(file, os.R_OK):
                    found.append((file.stat().st_mtime, file.parent))
    except OSError:
        return ()
    newest = [folder for _, folder in sorted(found, reverse=True)[:NEWEST]]
    known = [times for folder in newest if (times := load_times(folder)) is not None]
    return tuple(times for times in known if times.machine == machine)
