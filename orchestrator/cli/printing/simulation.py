"""What `orchestrate simulate` prints. Knows how to print outcomes, not how they come about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.printing.costs import duration
from orchestrator.cli.printing.tables import Column, console, print_fitted

if TYPE_CHECKING:
    from orchestrator.simulation.compare import Tally
    from orchestrator.sweep import Sweep

ELSEWHERE = "--json has every figure"


def print_outcomes(
    sweep: Sweep, outcomes: Sequence[Tally], workers: int, repeat: int, note: str
) -> None:
    """One line per way, the best of every cell, and what the figures mean."""
    out, metric = console(), sweep.objectives[0].metric
    names = [outcome.name for outcome in outcomes]
    columns = [
        Column("trials", [f"{each.trials:,}" for each in outcomes], 3),
        Column("stopped", [f"{each.stopped:,}" for each in outcomes], 4),
        Column("epochs", [f"{each.epochs:,}" for each in outcomes], 0),
        Column("time", [duration(each.seconds / 3600) for each in outcomes], 2),
        Column("regret", [_figure(each.regret) for each in outcomes], 0),
        Column("worst cell", [_figure(each.worst_regret) for each in outcomes], 5),
        Column("at a quarter", [_figure(each.early_regret) for each in outcomes], 1),
    ]
    title = f"{sweep.name}, simulated with {workers} trial{'s' * (workers != 1)} at a time"
    print_fitted(out, ("method", names), columns, title, ELSEWHERE)
    cells = list(outcomes[0].best)
    columns = [
        Column(each.name, [_figure(each.best[cell]) for cell in cells], rank)
        for rank, each in enumerate(outcomes)
    ]
    print_fitted(out, ("cell", cells), columns, f"Best {metric} by cell", ELSEWHERE)
    print(
        f"regret: how far the best {metric} of a cell is from that of all recorded trials, on"
        " average over the cells; at a quarter: of the epochs of random search to the end"
        + (f"; medians over {repeat} repetitions" if repeat > 1 else "")
    )
    own = min(each.own_curves for each in outcomes)
    if own < 1:
        print(f"{100 * own:.0f} % of the trials have a curve of their own, the others the nearest")
    if note:
        print(note)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
