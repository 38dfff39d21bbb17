"""The command `status`: once, or again and again until the sweep ends."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.commands.options import Json, Storage
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.record.status import Status

WATCH_S = 5.0


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Show this sweep; without a name all of them, a line each."
        ),
    ] = None,
    storage: Storage = "runs",
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Print it again every few seconds until the sweep ends."),
    ] = False,
    optuna: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write its trials to this file (SQLite), an Optuna study for each cell:"
            " optuna-dashboard sqlite:///FILE shows them.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how far a sweep is: cells, running trials, best so far, failures, time left."""
    from orchestrator.record.commands import STORAGE
    from orchestrator.record.folder import check_place, find_folder
    from orchestrator.record.status import load_status, load_statuses

    if name is not None:
        run = find_folder(name, storage)
        if optuna is not None:
            from orchestrator.record.optuna_file import write_optuna

            print(f"{optuna}: {write_optuna(run, optuna)}", file=sys.stderr)
        if watch:
            _watch(run, as_json)
        else:
            _show(load_status(run), as_json)
        return
    if watch or optuna is not None:
        raise UserError(f"--{'watch' if watch else 'optuna'}: needs the name of a sweep")
    if storage != str(STORAGE):  # which there is not before the first sweep
        check_place(storage)
    everything = load_statuses(storage)
    if as_json:
        print(json.dumps([sweep_status.to_json() for sweep_status in everything], indent=2))
        return
    from orchestrator.cli.printing.status import print_statuses

    print_statuses(everything, storage)


def _watch(run: Path, as_json: bool) -> None:
    """Until the sweep does not run any more, or Ctrl-C, which is no error here."""
    from orchestrator.record.copies import refresh
    from orchestrator.record.status import load_status

    try:
        while True:
            refresh(run)
            status = load_status(run)
            if not as_json:
                print(time.strftime("%H:%M:%S"))
            _show(status, as_json)
            if status.state != "running":
                return
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return


def _show(status: Status, as_json: bool) -> None:
    if as_json:
        print(json.dumps(status.to_json(), indent=2), flush=True)
        return
    from orchestrator.cli.printing.status import print_status

    print_status(status)
