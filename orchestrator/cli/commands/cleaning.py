"""The command `clean`: space of a sweep that does not run is given back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.commands.options import Json, Storage
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.record.cleaning import Cleaning


def clean(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name a sweep in the storage folder, or its folder."),
    ] = None,
    checkpoints: Annotated[
        Literal["all", "best_per_cell", "none"] | None,
        typer.Option(
            help="Keep these checkpoints of finished trials.", show_default="as its file says"
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove the whole sweep, its results too.")
    ] = False,
    copies: Annotated[
        bool,
        typer.Option(
            "--copies", help="Remove this machine's copies of sweeps at addresses, of all of them."
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove a whole sweep without asking.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Give space back: checkpoints that nobody needs, and what dead processes left.

    Trials that go on keep their checkpoint; scores, deploy forms and results stay.
    """
    if copies:
        if name is not None or everything or yes or checkpoints is not None or storage != "runs":
            raise UserError("--copies: is of all sweeps, and takes --dry-run and --json alone")
        _clean_copies(dry_run, as_json)
        return
    if name is None:
        raise UserError("NAME: must be a sweep, or give --copies")
    from orchestrator.record.cleaning import clean as remove
    from orchestrator.record.cleaning import find_everything, find_waste
    from orchestrator.record.folder import find_folder, held, journal_of, load_folder

    run = find_folder(name, storage)
    if everything and checkpoints is not None:
        raise UserError("--checkpoints: has no effect with --all, which removes every file")

    def found() -> Cleaning:
        if everything:
            return find_everything(run)
        sweep = load_folder(run)
        return find_waste(run, sweep, checkpoints or sweep.retain.checkpoints)

    if dry_run:
        _refuse_running(run)
        _show(run.name, found(), None, as_json)
        return
    if everything and not yes:
        _refuse_running(run)
        _ask(run, found())
    with held(run):
        cleaning = found()
        freed = remove(run, cleaning)
        if freed and not everything:
            journal_of(run).append("space_freed", bytes=freed)
    _show(run.name, cleaning, freed, as_json)


def _clean_copies(dry_run: bool, as_json: bool) -> None:
    from orchestrator.record.tidying import tidy_copies

    found = tidy_copies(dry_run=dry_run)
    if as_json:
        print(json.dumps([asdict(copy) for copy in found], indent=2))
        return
    from orchestrator.cli.printing.cleaning import print_copies

    print_copies(found, dry_run=dry_run)


def _refuse_running(run: Path) -> None:
    from orchestrator.record.folder import is_running
    from orchestrator.record.lease import busy

    if is_running(run):
        raise UserError(busy(run))


def _ask(run: Path, cleaning: Cleaning) -> None:
    """UserError unless a person at a terminal agrees."""
    from orchestrator.planning.space import amount
    from orchestrator.record.copies import place_of

    if not sys.stdin.isatty():
        raise UserError("--all: removes a whole sweep, so it must be confirmed with --yes")
    question = f"Remove {place_of(run)} with all its results, {amount(cleaning.size)}?"
    if not typer.confirm(question, err=True):
        raise UserError(f"{place_of(run)}: nothing was removed")


def _show(name: str, cleaning: Cleaning, freed: int | None, as_json: bool) -> None:
    if as_json:
        rows = [
            {"what": waste.what, "files": len(waste.files), "bytes": waste.size}
            for waste in cleaning.wastes
        ]
        content = {"sweep": name, "found": rows, "freed": freed, "notes": cleaning.notes}
        print(json.dumps(content, indent=2))
        return
    from orchestrator.cli.printing.cleaning import print_cleaning

    print_cleaning(name, cleaning, freed)
