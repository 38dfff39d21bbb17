"""What the sweep was expected to use, beside what it has used, and what its trials were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.record.decisions import resource_decisions
from orchestrator.record.forecasts import load_forecast, used_by
from orchestrator.record.states import TrialState
from orchestrator.report.content import Block, Bullets, Heading, Table

BUSY = 0.85
"""Trials of one thread that had less of their core are worth a word."""


def forecast(
    run: Path, trials: Sequence[TrialState], events: Sequence[Mapping[str, Any]]
) -> list[Block]:
    """A table of both; nothing for a sweep that noted no forecast."""
    expected = load_forecast(events)
    if expected is None:
        return []
    used = used_by(run, trials, events)
    rows = [
        ("trials", _span(expected.trials, expected.trials, ",.0f"), f"{used.trials:,}"),
        ("epochs", _span(*expected.epochs, ",.0f"), f"{used.epochs:,}"),
        ("hours", _span(*expected.hours, ",.3g"), f"{used.hours:,.3g}"),
        ("disk GB", _span(expected.disk_gb, expected.disk_gb, ",.3g"), f"{used.disk_gb:,.3g}"),
    ]
    text = (
        f"The forecast of when the sweep began ({expected.basis}) beside what it has used. Hours"
        " are those in which it ran."
    )
    if used.core_share is not None and used.core_share < BUSY:
        text += (
            f" Its trials had {100 * used.core_share:.0f} % of a processor core each: other work on"
            " the machine, or waiting, took the rest."
        )
    lines = [{"": name, "forecast": told, "used": found} for name, told, found in rows]
    return [Heading("Forecast"), text, Table(lines)]


def resources(events: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What trials got where the file says `auto`, and why; nothing where nothing was decided."""
    decided = resource_decisions(events)
    lines = [f"{kind}: {words}" for kind, words in decided.items()]
    text = "What the last trial of each kind got, by what was measured on those before it."
    return [Heading("Resources"), text, Bullets(lines)] if lines else []


def _span(low: float, high: float, form: str) -> str:
    """`4.2 to 5.1`, or one number where both look alike."""
    first, last = f"{low:{form}}", f"{high:{form}}"
    return first if first == last else f"{first} to {last}"
