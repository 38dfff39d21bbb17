"""Copies of sweeps at addresses that this machine can do without, and their removal."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.record.copies import all_copies, copy_of, place_of
from trainables.contract import locks
from trainables.contract.errors import OrchestrateError


@dataclass(frozen=True, slots=True)
class Tidied:
    """The copy of one sweep."""

    place: str  # of the sweep
    size: int  # bytes on the disk
    stays: str = ""  # why; empty: it goes


def tidy_copies(*, dry_run: bool) -> list[Tidied]:
    """Remove all copies of this machine that no process works in, and whose content the addresses
    have. dry_run: say which, and remove none.
    """
    return [_tidied(run, dry_run=dry_run) for run in all_copies()]


def _tidied(run: Path, *, dry_run: bool) -> Tidied:
    copy, place, size = copy_of(run), place_of(run), _size(run)
    if copy is None:
        return Tidied(place, size, "whose copy it is is not known")
    try:
        with locks.held(run, patience=0.0, busy="a process works in it"):
            unsent = copy.unsent()
            if unsent:
                more = f" and {len(unsent) - 1:,} more" if len(unsent) > 1 else ""
                return Tidied(place, size, f"{unsent[0]}{more} is not at the address")
            if not dry_run:
                copy.drop()
    except (OrchestrateError, OSError) as error:
        return Tidied(place, size, str(error))
    return Tidied(place, size)


def _size(run: Path) -> int:
    """Stubs take no space."""
    size = 0
    for place, _, names in os.walk(run):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(place, name).lstat().st_blocks * 512
    return size
