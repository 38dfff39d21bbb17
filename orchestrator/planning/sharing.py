"""What trials save that share their first epochs, and when those that wait for them can start."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.planning.expected import TrialTime
from orchestrator.planning.schedule import wall_time
from orchestrator.trials.beginnings import Beginning, trained_once, trainer


@dataclass(frozen=True)
class SharedPlan:
    """What is trained once for several trials."""

    beginnings: int
    epochs: tuple[int, ...]  # how long they are, each length once
    trials: int  # that have not ended and start from one
    epochs_saved: int  # of all trials, ended ones among them
    hours_saved: float  # of those that have not ended


class Sharing:
    """The beginnings of a sweep's trials, as they stand before it runs."""

    def __init__(
        self,
        shared: Sequence[Beginning],
        ended: Collection[str],
        begun: Mapping[str, float],
        run: Path,
    ) -> None:
        """begun: of trials that go on from a checkpoint, the epochs done there; run: the sweep's
        folder.
        """
        self._shared = shared
        self._there = {each.digest for each in shared if each.file(run).is_file()}
        self._ended, self._begun = ended, begun
        self.starts = trained_once(shared, ended, begun, lambda each: each.digest in self._there)

    def own(self, name: str, time: TrialTime) -> TrialTime:
        """What a trial takes itself."""
        start = self.starts.get(name)
        return time if start is None else replace(time, epochs=time.epochs - start.epochs)

    def plan(self, times: Mapping[str, TrialTime], hours: Mapping[str, float]) -> SharedPlan | None:
        """None where nothing is shared. times: of whole trials; hours: what each takes itself."""
        if not self._shared:
            return None
        saved = sum(
            hours[name] * start.epochs * times[name].epoch / self.own(name, times[name]).seconds
            for name, start in self.starts.items()
        )
        once = [(each, each.trials[0] in each.branching) for each in self._shared]
        return SharedPlan(
            beginnings=len(self._shared),
            epochs=tuple(sorted({each.epochs for each in self._shared})),
            trials=len(self.starts),
            epochs_saved=sum(each.epochs * (len(each.branching) - one) for each, one in once),
            hours_saved=saved,
        )

    def wall_hours(
        self,
        hours: Mapping[str, float],
        times: Mapping[str, TrialTime],
        after: Mapping[str, Sequence[str]],
        at_once: int,
    ) -> float:
        """How long all take together. hours: of the trials that have not ended, what each takes
        itself; after: those that each starts from.
        """
        cuts: dict[str, list[Beginning]] = {}
        for each in sorted(self._shared, key=lambda each: each.epochs):
            first = trainer(each, self._ended, self._begun)
            if first is not None and each.digest not in self._there and first in hours:
                cuts.setdefault(first, []).append(each)
        parts: dict[str, float] = {}
        waits: dict[str, Sequence[str]] = {}
        goes_on: dict[str, str] = {}
        for name, whole in hours.items():
            start = self.starts.get(name)
            waits[name] = (*after.get(name, ()), *([start.digest] if start else []))
            own, done, rest = self.own(name, times[name]), 0, whole
            for number, each in enumerate(cuts.get(name, ())):
                part = whole * (each.epochs - done) * own.epoch / own.seconds
                parts[each.digest], done, rest = part, each.epochs, rest - part
                if number == 0:
                    waits[each.digest], waits[name] = waits[name], ()
                else:
                    goes_on[cuts[name][number - 1].digest] = each.digest
                goes_on[each.digest] = name
            parts[name] = rest
        return wall_time(parts, waits, at_once, goes_on)
