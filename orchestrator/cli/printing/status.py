"""What `status` prints: a sweep cell by cell, or all sweeps, a line each.

Knows how to print, not where the state comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table

from orchestrator.cli.printing.tables import console, table
from orchestrator.record.running import duration

if TYPE_CHECKING:
    from orchestrator.record.running import RunningTrial
    from orchestrator.record.status import CellStatus, Status

COUNTS = ("pruned", "failed", "discarded", "waiting", "restarts")
"""Shown where any cell has one."""


def print_status(status: Status) -> None:
    """Cells, failures with reasons, time left, and what to do next."""
    counts = [name for name in COUNTS if any(getattr(cell, name) for cell in status.cells)]
    runs = any(cell.now for cell in status.cells)
    of_running = ["epoch", "top-1", "left"] if runs else []
    rows = table(
        "cell", "done", *counts, *of_running, "best", title=f"{status.name}: {status.state}"
    )
    for cell in status.cells:
        numbers = [str(getattr(cell, name) or "") for name in counts]
        running = [_lines(cell, show) for show in (_epoch, _selection, _left)] if runs else []
        rows.add_row(
            cell.cell, f"{cell.done}/{cell.total}", *numbers, *running, _percent(cell.best)
        )
    out = console()
    print_whole(out, rows)
    for trial, reason in status.failures.items():
        out.print(f"failed  {trial}: {reason}", soft_wrap=True)
    for trial, words in status.stopped.items():
        out.print(f"stopped {trial}: {words}", soft_wrap=True)
    for kind, words in status.resources.items():
        out.print(f"resources {kind}: {words}", soft_wrap=True, highlight=False)
    for node, words in status.excluded.items():
        out.print(f"excluded node {node[:8]} on {words}", soft_wrap=True, highlight=False)
    if status.saved:
        out.print(status.saved, soft_wrap=True)
    if status.seconds_left is not None and not status.waits_for:
        out.print(f"about {duration(status.seconds_left)} left at the pace so far")
    if status.waits_for:
        out.print(f"waits for {status.waits_for}", soft_wrap=True)
    out.print(status.next_step, soft_wrap=True)


def print_whole(out: Console, rows: Table) -> None:
    """Print a table without losing a column: in a terminal that is too narrow its lines run on.

    Its first column folds, the others do not.
    """
    first, *numbers = rows.columns
    widest = (max(map(_width, (column.header, *column.cells))) for column in numbers)
    out.width = max(out.width, (first.min_width or 0) + 2 + sum(each + 2 for each in widest))
    out.print(rows)


def _width(cell: RenderableType) -> int:
    return max(map(cell_len, str(cell).splitlines()), default=0)


def print_statuses(everything: Sequence[Status], storage: str) -> None:
    """All sweeps, a line each."""
    if not everything:
        console().print(f"no sweep in {storage} yet", soft_wrap=True, highlight=False)
        return
    ends = ("failed", "pruned")  # the table has no other column for those that are not done
    rows = table("sweep", "trials done", *ends, text="state", title=f"Sweeps in {storage}")
    for status in everything:
        done, total, *others = (
            sum(getattr(cell, field) for cell in status.cells) for field in ("done", "total", *ends)
        )
        rows.add_row(
            status.name, f"{done}/{total}", *(str(each or "") for each in others), status.state
        )
    out = console()
    print_whole(out, rows)
    for status in everything:
        if status.state in ("damaged", "unreadable"):
            out.print(status.next_step, soft_wrap=True)


def _lines(cell: CellStatus, show: Callable[[RunningTrial], str]) -> str:
    """One line per trial that runs."""
    return "\n".join(map(show, cell.now))


def _epoch(trial: RunningTrial) -> str:
    return trial.position


def _selection(trial: RunningTrial) -> str:
    return _percent(trial.selection_top1)


def _left(trial: RunningTrial) -> str:
    return "" if trial.seconds_left is None else duration(trial.seconds_left)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
