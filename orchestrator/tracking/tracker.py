"""What a sweep tells whoever records it, and the listener that records nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from orchestrator.ensembling.results import FinalEvaluation
from trainables.contract.artifacts import Latency, TrialDir
from trainables.contract.config import TrialConfig

Status = Literal["finished", "failed", "interrupted", "pruned", "discarded"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Files of a finished trial that any machine may bring to the tracker; holds no password."""

    uri: str  # of the tracker, variables of the environment still in it
    run: str  # id of the trial's run
    files: Mapping[str, str]  # name among the run's artifacts -> where it lies, a path or address


class Sending(Protocol):
    """A parcel on its way."""

    def sent(self) -> Collection[str] | None:
        """The files that have arrived for certain; None while some are under way, which ends at the
        latest with the run of the trials. Asked often, by any thread.
        """
        ...


Send = Callable[[Parcel], Sending]
"""Has a parcel sent from the node that has its files; returns at once."""


class Tracker(Protocol):
    """Listener to one sweep. Order of calls: start_sweep, any trial calls, log_evaluation,
    finish_sweep. A second finish_sweep does nothing.

    Only start_sweep may raise; it and the first knows_end wait for the tracker, the other calls
    return at once.
    """

    def start_sweep(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the sweep. One of the same name and the same `tags` that is already there is
        continued.
        """
        ...

    def start_trial(
        self,
        trial: str,
        cell: str,
        config: TrialConfig,
        axes: Mapping[str, Any],
        searched: Mapping[str, Any],
    ) -> None:
        """A trial starts or goes on; one of the same id in this sweep is continued. axes: the
        values of its cell; searched: those that tell it from the others of its cell.
        """
        ...

    def log_epoch(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """What the trial reported after `epoch` (0-based)."""
        ...

    def finish_trial(
        self,
        trial: str,
        folder: TrialDir,
        status: Status,
        reason: str = "",
        stopped_at: int | None = None,
        *,
        send: Send | None = None,
    ) -> None:
        """The trial ended; numbers and files are read from its folder. reason: why it failed.
        stopped_at: the epochs that a pruned trial was trained. send: of one that finished on
        another node, which can send the files itself; what it does not send goes from here.
        """
        ...

    def knows_end(self, trial: str, status: Status) -> bool:
        """Whether the end of a trial of an earlier run of the sweep was delivered as the one that
        it is (one that failed may have finished since); if not, its start and its end have to be
        told again.
        """
        ...

    def delivered(self, trial: str) -> bool:
        """Whether the end of a trial is known to be delivered, in this run of the sweep or in an
        earlier one; nobody is asked.
        """
        ...

    def log_latency(self, trial: str, latency: Latency) -> None:
        """The network of a trial that has ended was timed; a trial that the tracker lacks is
        skipped.
        """
        ...

    def expect_evaluation(self) -> None:
        """The final evaluation comes within seconds: what it needs may be loaded meanwhile."""
        ...

    def log_evaluation(self, run: Path, evaluation: FinalEvaluation, bundle: Path | None) -> None:
        """The final evaluation of the sweep in the folder `run`: its networks and ensembles, in
        numbers. `bundle`: register the headline as a model that predicts.
        """
        ...

    def link(self) -> str:
        """Where the open sweep's trials are compared, relative to the address of the tracker's
        pages; empty if it has none.
        """
        ...

    def finish_sweep(
        self, status: Status, metrics: Mapping[str, float], report: Path | None
    ) -> tuple[str, ...]:
        """Close the sweep; `report` is a folder to keep with it: without one, a sweep that failed
        before its first trial was refused, and is as it was. Returns what could not be
        delivered, nothing when all is well.
        """
        ...


class NullTracker:
    """Listens to nothing."""

    def start_sweep(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None: ...
    def start_trial(
        self,
        trial: str,
        cell: str,
        config: TrialConfig,
        axes: Mapping[str, Any],
        searched: Mapping[str, Any],
    ) -> None: ...
    def log_epoch(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None: ...
    def finish_trial(
        self,
        trial: str,
        folder: TrialDir,
        status: Status,
        reason: str = "",
        stopped_at: int | None = None,
        *,
        send: Send | None = None,
    ) -> None: ...
    def knows_end(self, trial: str, status: Status) -> bool:
        return True

    def delivered(self, trial: str) -> bool:
        return True

    def log_latency(self, trial: str, latency: Latency) -> None: ...
    def expect_evaluation(self) -> None: ...
    def log_evaluation(
        self, run: Path, evaluation: FinalEvaluation, bundle: Path | None
    ) -> None: ...
    def link(self) -> str:
        return ""

    def finish_sweep(
        self, status: Status, metrics: Mapping[str, float], report: Path | None
    ) -> tuple[str, ...]:
        return ()
