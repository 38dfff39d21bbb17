"""What a person sees while a sweep runs: a live table on a terminal, lines elsewhere.

Knows no Ray.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from statistics import fmean
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.record.running import Running, RunningTrial, all_seconds_left, duration
from orchestrator.record.states import Ending
from orchestrator.tuning.remaining import Remaining
from trainables.contract.artifacts import TrialResult

LINE_EVERY_S = 180.0
"""Without a terminal, a running trial says how far it is this often; a short one more often."""

LINES_PER_TRIAL = 5
SHORTEST_LINE_S = 10.0


@dataclass
class CellState:
    """How one cell stands."""

    total: int
    done: int = 0
    failed: int = 0
    pruned: int = 0
    best: float | None = None  # selection top-1, as a fraction
    seconds: list[float] = field(default_factory=list)  # that its trials took in this run

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.pruned


@dataclass
class Attempt:
    """A trial that has a worker."""

    now: RunningTrial
    started: float
    said: float  # when a line last spoke of it
    first: tuple[float, int] | None = None  # time and epochs done of the first report

    def report(self, time: float, metrics: Mapping[str, float], *, shared: bool = False) -> None:
        """metrics: what the trial reported, `epoch` (0-based) among them; shared: another trial has
        trained that epoch.
        """
        done, top1 = int(metrics["epoch"]) + 1, metrics.get("selection_top1")
        self.first = (time, done) if shared else self.first or (time, done)
        passed = done - self.first[1]
        best = max((each for each in (top1, self.now.best_top1) if each is not None), default=None)
        self.now = replace(
            self.now,
            epoch=done,
            step=0,
            steps=0,
            train_loss=metrics.get("train_loss"),
            selection_top1=top1,
            best_top1=best,
            seconds_left=(
                (time - self.first[0]) / passed * (self.now.epochs - done) if passed else None
            ),
        )

    def line_is_due(self, time: float) -> bool:
        left = self.now.seconds_left
        if self.now.epoch >= self.now.epochs:
            return False  # the line of its end comes next
        if left is None:
            return time - self.said >= LINE_EVERY_S
        share = (time - self.started + left) / LINES_PER_TRIAL
        return time - self.said >= min(max(share, SHORTEST_LINE_S), LINE_EVERY_S)


class Display(AbstractContextManager["Display"]):
    """The state of all cells, shown on stderr until the context ends."""

    def __init__(self, totals: Mapping[str, int], console: Console | None = None) -> None:
        """totals: trials per cell."""
        self.console = console or Console(file=sys.stderr)
        self.at_once = 1  # trials that run at a time
        self.remaining: Remaining | None = None  # None: trials to come take what others took
        self._cells = {cell: CellState(total) for cell, total in totals.items()}
        self._running: dict[str, Attempt] = {}
        self._started = time.monotonic()
        self._nothing_started = True
        self._lock = threading.RLock()  # a signal may speak while its thread holds it
        self._live = (
            Live(console=self.console, get_renderable=self.render, refresh_per_second=2)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """One line for the person, above the table."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def complete_before(self, cell: str, result: TrialResult) -> None:
        """A trial that an earlier run of the sweep completed."""
        with self._lock:
            self._done(cell, result)

    def ended_before(self, cell: str, ending: Ending) -> None:
        """A trial that ended without a result in an earlier run of the sweep."""
        with self._lock:
            state = self._cells[cell]
            state.failed += ending == "failed"
            state.pruned += ending == "pruned"
            state.total -= ending == "discarded"

    def started(self, cell: str, trial: str, epochs: int) -> None:
        """A worker has taken the trial, to train it up to `epochs`."""
        now = time.monotonic()
        with self._lock:
            self._running[trial] = Attempt(RunningTrial(trial, cell, epochs), now, now)
            first, self._nothing_started = self._nothing_started, False
        after = f" (the first, after {duration(now - self._started)})" if first else ""
        self._event(f"started   {trial}{after}")

    def branched(self, trial: str, epochs: int) -> None:
        """Another trial has trained its first `epochs`."""
        self._event(f"branched  {trial} after the {epochs} epochs that it shares with others")

    def epoch(self, trial: str, metrics: Mapping[str, float], *, shared: bool = False) -> None:
        """metrics: what the trial reported, `epoch` (0-based) among them; shared: of an epoch that
        another trial has trained.
        """
        self._heard(trial, lambda attempt, now: attempt.report(now, metrics, shared=shared))

    def step(self, trial: str, epoch: int, step: int, steps: int) -> None:
        """An epoch (0-based) takes minutes, and so many of its steps are done."""

        def note(attempt: Attempt, now: float) -> None:
            attempt.now = replace(attempt.now, epoch=epoch, step=step, steps=steps)

        self._heard(trial, note)

    def _heard(self, trial: str, note: Callable[[Attempt, float], None]) -> None:
        """A trial that runs has reported: `note` it, and say a line where one is due."""
        now = time.monotonic()
        with self._lock:
            attempt = self._running.get(trial)
            if attempt is None:
                return
            note(attempt, now)
            due = attempt.line_is_due(now)
            if due:
                attempt.said = now
        if due:
            self._event(f"running   {trial}: {attempt.now.words}")

    def finished(self, cell: str, trial: str, result: TrialResult) -> None:
        with self._lock:
            attempt = self._running.pop(trial, None)
            if attempt is not None:
                self._cells[cell].seconds.append(time.monotonic() - attempt.started)
            self._done(cell, result)
            count = self._count()
        top1 = (
            ""
            if result.selection_top1 is None
            else f"  selection {100 * result.selection_top1:.1f} %"
        )
        self._event(f"finished  {trial}{top1}  ({count})")

    def failed(self, cell: str, trial: str, reason: str) -> None:
        with self._lock:
            self._running.pop(trial, None)
            self._cells[cell].failed += 1
        self.note(f"FAILED    {trial}: {reason}")

    def pruned(self, cell: str, trial: str, epochs: int) -> None:
        """A stopping rule has ended it after so many epochs."""
        with self._lock:
            self._running.pop(trial, None)
            self._cells[cell].pruned += 1
            count = self._count()
        self._event(f"pruned    {trial} after {epochs} epoch{'s' * (epochs != 1)}  ({count})")

    def discarded(self, cell: str) -> None:
        """A trial of the cell that is not needed."""
        with self._lock:
            self._cells[cell].total -= 1

    def interrupted(self, trial: str) -> None:
        with self._lock:
            attempt = self._running.pop(trial, None)
        self._event(f"stopped   {trial}{'' if attempt is None else f' ({attempt.now.words})'}")

    def restarted(self, trial: str, which: str, reason: str) -> None:
        """The trial goes on from its checkpoint as soon as a worker takes it. which: `restart 1 of
        3`.
        """
        with self._lock:
            self._running.pop(trial, None)
        self.note(f"RESTART   {trial}: {which}: {reason}")

    def snapshot(self) -> Running:
        """How far everything is."""
        with self._lock:
            trials = tuple(attempt.now for attempt in self._running.values())
            return Running(trials, self._seconds_left())

    def _done(self, cell: str, result: TrialResult) -> None:
        state = self._cells[cell]
        state.done += 1
        if result.selection_top1 is not None:
            state.best = max(result.selection_top1, state.best or 0.0)

    def _event(self, text: str) -> None:
        """Events are lines only where no live table shows them."""
        if self._live is None:
            self.note(text)

    def _count(self) -> str:
        ended = sum(state.ended for state in self._cells.values())
        return f"{ended}/{sum(state.total for state in self._cells.values())} trials"

    def _seconds_left(self) -> float | None:
        """None while no trial has shown how long it takes."""
        taken = [seconds for state in self._cells.values() for seconds in state.seconds] or [
            attempt.now.seconds_left * attempt.now.epochs / (attempt.now.epochs - attempt.now.epoch)
            for attempt in self._running.values()
            if attempt.now.seconds_left
        ]
        running = [self._with_time(attempt) for attempt in self._running.values()]
        waiting = sum(cell.total - cell.ended for cell in self._cells.values()) - len(running)
        each = fmean(taken) if taken else None
        if self.remaining is not None and waiting > 0:
            total = self.remaining.waiting_seconds(self._running, waiting)
            each = each if total is None else total / waiting
        return all_seconds_left(running, waiting, each, max(self.at_once, len(running)))

    def _with_time(self, attempt: Attempt) -> RunningTrial:
        """With the time it has left, as expected until it has shown its pace."""
        now = attempt.now
        if self.remaining is None or now.seconds_left is not None:
            return now
        whole = self.remaining.trial_seconds(now.trial)
        if whole is None:
            return now
        passed = time.monotonic() - attempt.started
        return replace(now, seconds_left=max(whole - passed, 0.0))

    def render(self) -> RenderableType:
        """The live table, no higher than the terminal: running trials first, then as many cells as
        fit, the others summed up.
        """
        with self._lock:
            minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
            left = self._seconds_left()
            title = f"{self._count()}, {minutes}:{seconds:02d} elapsed"
            title += f", about {duration(left)} left" if left else ""
            running = [attempt.now for attempt in self._running.values()]
            # the title, two heads, two lines for what does not fit, and the line below
            lines = max(self.console.size.height - 6, 2)
            trials = running[: max(lines - min(len(self._cells), lines // 3), 1)]
            cells = dict(list(self._cells.items())[: max(lines - len(trials), 1)])
            parts: list[RenderableType] = [Text(title)]
            if running:
                parts.append(_running_table(trials))
            parts += _rest(len(running) - len(trials), "running trials")
            parts.append(_cell_table(cells))
            hidden = [state for cell, state in self._cells.items() if cell not in cells]
            ended, total = sum(s.ended for s in hidden), sum(s.total for s in hidden)
            parts += _rest(len(hidden), "cells", f": {ended}/{total} trials")
            return Group(*parts)


def _rest(number: int, what: str, details: str = "") -> list[RenderableType]:
    return [Text(f"... and {number} more {what}{details}")] if number else []


def _table(first: str, *numbers: str) -> Table:
    """A table whose first column gives way where the terminal is narrow; numbers stay whole."""
    made = Table(box=None, pad_edge=False)
    made.add_column(first, overflow="ellipsis", min_width=16)
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def _running_table(trials: list[RunningTrial]) -> Table:
    table = _table("running", "epoch", "loss", "selection", "best", "left")
    for trial in trials:
        table.add_row(
            Text(trial.trial, no_wrap=True),
            trial.position,
            "" if trial.train_loss is None else f"{trial.train_loss:.3f}",
            percent(trial.selection_top1),
            percent(trial.best_top1),
            "" if trial.seconds_left is None else duration(trial.seconds_left),
        )
    return table


def _cell_table(cells: Mapping[str, CellState]) -> Table:
    table = _table("cell", "done", "pruned", "failed", "best selection")
    for cell, state in cells.items():
        numbers = [str(number or "") for number in (state.pruned, state.failed)]
        counts = (f"{state.done}/{state.total}", *numbers, percent(state.best))
        table.add_row(Text(cell, no_wrap=True), *counts)
    return table


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
