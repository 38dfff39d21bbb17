"""Which running trials have gone silent: a decision on their reports and a clock. Knows no Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from orchestrator.record.running import duration
from orchestrator.sweep.schema import Failure

LOOK_EVERY_S = 1.0
COUNTED_S = 5.0
"""Of the time between two looks, at most so much counts as silence: where the driver itself was
held up, reports wait for it.
"""
START_FACTOR = 3.0
"""Before its first report a trial loads its data: it has so many times `failure.stall_seconds`."""


@dataclass
class _Heard:
    """What one attempt of a trial has reported; times are seconds watched."""

    started: float
    last: float  # report, or the start
    epoch_began: float
    reported: bool = False
    epochs: list[float] = field(default_factory=list)  # how long each took

    @property
    def usual_epoch(self) -> float:
        """Seconds; of a first epoch that is under way, as long as it has shown signs of life."""
        return median(self.epochs) if self.epochs else self.last - self.started


class Stalls:
    """Watches the trials that have a worker."""

    def __init__(self, failure: Failure) -> None:
        self._factor, self._floor = failure.stall_factor, failure.stall_seconds
        self._heard: dict[str, _Heard] = {}
        self._watched = 0.0  # seconds in which the driver has listened
        self._looked: float | None = None

    def started(self, trial: str) -> None:
        """A worker has it, for the first time or after a restart."""
        now = self._watched
        self._heard[trial] = _Heard(started=now, last=now, epoch_began=now)

    def heard(self, trial: str, *, epochs: int) -> None:
        """It has reported; epochs: so many are done since its last report, 0 where it is a sign of
        life within one.
        """
        heard = self._heard.get(trial)
        if heard is None:
            return
        heard.last, heard.reported = self._watched, True
        if epochs:
            heard.epochs += [(heard.last - heard.epoch_began) / epochs] * epochs
            heard.epoch_began = heard.last

    def ended(self, trial: str) -> None:
        """No worker has it any more."""
        self._heard.pop(trial, None)

    def silent(self, now: float) -> dict[str, str]:
        """Trials that have been silent for too long, with a reason in words; each is named again
        only after as long a silence. now: seconds of a clock that never goes back.
        """
        if self._looked is not None and now - self._looked < LOOK_EVERY_S:
            return {}
        self._watched += 0.0 if self._looked is None else min(now - self._looked, COUNTED_S)
        self._looked = now
        if self._factor == "never":
            return {}
        found: dict[str, str] = {}
        for trial, heard in self._heard.items():
            silence = self._watched - heard.last
            if silence > self._allowed(heard, float(self._factor)):
                found[trial] = _words(heard, silence)
                heard.last = self._watched
        return found

    def _allowed(self, heard: _Heard, factor: float) -> float:
        floor = self._floor if heard.reported else START_FACTOR * self._floor
        return max(floor, factor * heard.usual_epoch)


def _words(heard: _Heard, silence: float) -> str:
    """`it stalled: no report for 12 min (an epoch of it takes 40 s)`."""
    if not heard.reported:
        return f"it stalled: no report for {duration(silence)} since it started"
    usual = f" (an epoch of it takes {duration(heard.usual_epoch)})" if heard.epochs else ""
    return f"it stalled: no report for {duration(silence)}{usual}"
