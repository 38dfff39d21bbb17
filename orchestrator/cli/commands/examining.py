"""`orchestrate doctor`: what there is, and what would fail. Imports inside keep --help light."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer

from orchestrator.cli.commands.options import Json
from trainables.contract.errors import GateFailed


def doctor(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="Look at the store, storage and tracking of this sweep file, too.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=V", help="Override a value of the file; may be repeated."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ask every node of the Ray cluster at HOST:PORT."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine or a cluster has, and what would fail there; exit code 4 if it would.

    It asks a worker on every node, runs no trial and leaves nothing behind.
    """
    from orchestrator.planning.check import checked_sweep

    sweep = None if file is None else checked_sweep(file, overrides or (), data=False)
    from orchestrator.doctor import examine

    findings = examine(sweep, address, lambda text: print(text, file=sys.stderr, flush=True))
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in findings], indent=2))
    else:
        from orchestrator.cli.printing.findings import print_findings

        print_findings(findings)
    failing = sum(each.state == "fails" for each in findings)
    if failing:
        raise typer.Exit(GateFailed.exit_code)
