"""What `clean` prints. Knows how to print, not what can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import console, table
from orchestrator.planning.space import amount

if TYPE_CHECKING:
    from orchestrator.record.cleaning import Cleaning


def print_cleaning(name: str, cleaning: Cleaning, freed: int | None) -> None:
    """What went, or can go where `freed`, in bytes, is None."""
    out = console()
    if cleaning.wastes:
        title = f"{name}: {'can go' if freed is None else 'removed'}"
        rows = table("what", "files", "size", title=title)
        for waste in cleaning.wastes:
            rows.add_row(waste.what, f"{len(waste.files):,}", amount(waste.size))
        out.print(rows)
    for note in cleaning.notes:
        out.print(f"note: {note}", soft_wrap=True)
    if not cleaning.wastes:
        out.print(f"{name}: there is nothing to give back")
    elif freed is not None:
        out.print(f"{amount(freed)} were given back")
