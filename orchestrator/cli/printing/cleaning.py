"""What `clean` prints. Knows how to print, not what can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import console, table
from orchestrator.planning.space import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.record.cleaning import Cleaning
    from orchestrator.record.tidying import Tidied


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


def print_copies(found: Sequence[Tidied], *, dry_run: bool) -> None:
    """Which copies went, or can go, and which stay."""
    out = console()
    gone = [copy for copy in found if not copy.stays]
    for copy in gone:
        out.print(f"{copy.place}: {amount(copy.size)}", soft_wrap=True)
    for copy in found:
        if copy.stays:
            out.print(f"{copy.place}: stays: {copy.stays}", soft_wrap=True)
    total = amount(sum(copy.size for copy in gone))
    out.print(f"{total} {'can go' if dry_run else 'were given back'}")
