"""What a person sees while a sweep runs: a live table on a terminal, one line per event elsewhere.

Knows no Ray.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from trainables.contract.artifacts import TrialResult


@dataclass
class CellState:
    """How one cell stands."""

    total: int
    done: int = 0
    failed: int = 0
    running: dict[str, str] = field(default_factory=dict)  # trial -> last epoch in words
    best: float | None = None  # selection top-1, as a fraction


class Progress(AbstractContextManager["Progress"]):
    """The state of all cells, shown on stderr until the context ends."""

    def __init__(
        self, totals: Mapping[str, int], epochs: int | None, console: Console | None = None
    ) -> None:
        """totals: trials per cell; epochs: of one trial where all
        have the same, for "epoch 3/65".
        """
        self.console = console or Console(file=sys.stderr)
        self._cells = {cell: CellState(total) for cell, total in totals.items()}
        self._epochs = epochs
        self._started = time.monotonic()
        self._finished_here = 0
        self._lock = threading.Lock()
        self._live = (
            Live(console=self.console, get_renderable=self._table, refresh_per_second=2)
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
            self._cells[cell].done += 1
            self._better(cell, result.selection_top1)

    def failed_before(self, cell: str) -> None:
        """A trial that an earlier run of the sweep gave up."""
        with self._lock:
            self._cells[cell].failed += 1

    def started(self, cell: str, trial: str) -> None:
        with self._lock:
            self._cells[cell].running[trial] = "starting"
        self._event(f"started   {trial}")

    def epoch(self, cell: str, trial: str, metrics: Mapping[str, float]) -> None:
        """metrics: what the trial reported, `epoch` among them."""
        total = f"/{self._epochs}" if self._epochs else ""
        words = f"epoch {int(metrics['epoch']) + 1}{total} loss {metrics['train_loss']:.3f}"
        if "selection_top1" in metrics:
            words += f" selection {100 * metrics['selection_top1']:.1f} %"
        with self._lock:
            self._cells[cell].running[trial] = words

    def finished(self, cell: str, trial: str, result: TrialResult) -> None:
        with self._lock:
            state = self._cells[cell]
            state.running.pop(trial, None)
            state.done += 1
            self._finished_here += 1
            self._better(cell, result.selection_top1)
        top1 = (
            ""
            if result.selection_top1 is None
            else f"  selection {100 * result.selection_top1:.1f} %"
        )
        self._event(f"finished  {trial}{top1}  ({self._count()})")

    def failed(self, cell: str, trial: str, reason: str) -> None:
        with self._lock:
            self._cells[cell].running.pop(trial, None)
            self._cells[cell].failed += 1
        self.note(f"FAILED    {trial}: {reason}")

    def interrupted(self, cell: str, trial: str) -> None:
        with self._lock:
            words = self._cells[cell].running.pop(trial, "")
        self._event(f"stopped   {trial} ({words})")

    def _better(self, cell: str, top1: float | None) -> None:
        state = self._cells[cell]
        if top1 is not None and (state.best is None or top1 > state.best):
            state.best = top1

    def _event(self, text: str) -> None:
        """Events are lines only where no live table shows them."""
        if self._live is None:
            self.note(text)

    def _count(self) -> str:
        done = sum(state.done + state.failed for state in self._cells.values())
        return f"{done}/{sum(state.total for state in self._cells.values())} trials"

    def _time_left(self) -> str:
        """From the trials finished since this run began; empty before the first."""
        left = sum(state.total - state.done - state.failed for state in self._cells.values())
        if not self._finished_here or not left:
            return ""
        seconds = (time.monotonic() - self._started) / self._finished_here * left
        return (
            f", about {seconds / 60:.0f} min left"
            if seconds >= 90
            else f", about {seconds:.0f} s left"
        )

    def _table(self) -> Table:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        table = Table(
            title=f"{self._count()}, {minutes}:{seconds:02d} elapsed{self._time_left()}",
            title_justify="left",
        )
        for name in ("cell", "done", "failed", "best selection top-1", "running"):
            table.add_column(name, justify="left" if name in ("cell", "running") else "right")
        with self._lock:
            for cell, state in self._cells.items():
                best = "" if state.best is None else f"{100 * state.best:.1f} %"
                running = "\n".join(state.running.values())
                table.add_row(
                    cell, f"{state.done}/{state.total}", str(state.failed or ""), best, running
                )
        return table
