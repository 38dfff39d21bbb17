"""What was expected of a sweep when it began, and what it has used: from its journal and folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.record.journal import Journal, running_seconds
from orchestrator.record.states import TrialState


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of a whole sweep; ranges where early stopping leaves it open."""

    trials: int
    epochs: tuple[int, int]
    hours: tuple[float, float]  # that it runs; as an event: from then on
    disk_gb: float
    basis: str  # what the hours rest on, in words


@dataclass(frozen=True, slots=True)
class Used:
    """What a sweep has used so far."""

    trials: int  # that have an ending
    epochs: int  # that were trained: those that several trials share once
    hours: float
    disk_gb: float
    # of the trials' time, the part in which a processor worked for them; None: not known
    core_share: float | None


def note_forecast(journal: Journal, forecast: Forecast) -> None:
    """Write down what is expected of the run that begins."""
    journal.append("sweep_forecast", **asdict(forecast))


def load_forecast(events: Sequence[Mapping[str, Any]]) -> Forecast | None:
    """The first one of the sweep as large as it is now, with the hours that it had run before; None
    where there is none that can be read.
    """
    found: Forecast | None = None
    for place, event in enumerate(events):
        if event["event"] != "sweep_forecast":
            continue
        before = running_seconds(events[:place]) / 3600
        try:
            low, high = (before + float(hours) for hours in event["hours"])
            least, most = map(int, event["epochs"])
            size, disk = int(event["trials"]), float(event["disk_gb"])
            later = Forecast(size, (least, most), (low, high), disk, str(event["basis"]))
        except (KeyError, TypeError, ValueError):
            continue
        if found is None or later.trials > found.trials:
            found = later
    return found


def used_by(run: Path, states: Sequence[TrialState], events: Sequence[Mapping[str, Any]]) -> Used:
    """What the sweep in `run` has used so far."""
    counted = [state for state in states if state.ending != "discarded"]
    took = [event for event in events if "wall_s" in event and "cpu_s" in event]
    wall = sum(float(event["wall_s"]) for event in took)
    shared = {
        str(event["trial"]): int(event["epochs"])
        for event in events
        if event["event"] == "beginning_used"
    }
    return Used(
        trials=sum(state.ended for state in counted),
        epochs=sum(
            max(
                (state.result.epochs if state.result is not None else state.stopped_at or 0)
                - shared.get(state.proposal.trial, 0),
                0,
            )
            for state in counted
        ),
        hours=running_seconds(events) / 3600,
        disk_gb=_bytes_in(run) / 1e9,
        core_share=sum(float(event["cpu_s"]) for event in took) / wall if wall else None,
    )


def _bytes_in(folder: Path) -> int:
    """Of all files; those that vanish meanwhile do not count."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total
