"""`orchestrate report`: the report of a sweep, of two beside each other, or of one that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.commands.options import Storage
from trainables.contract.errors import UserError


def report(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Write the report of this sweep again.")
    ],
    other: Annotated[
        str | None,
        typer.Argument(metavar="NAME2", help="Hold it against this sweep, on a page of its own."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--open", help="Show the page in the browser of this machine.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Follow a running sweep: write its page again and again, which loads itself again;"
            " ends with the sweep, or with Ctrl-C.",
        ),
    ] = False,
    every: Annotated[
        int, typer.Option("--every", min=2, help="With --watch, write it after so many seconds.")
    ] = 20,
    confidence: Annotated[
        float,
        typer.Option(
            "--confidence",
            min=0.0,
            max=1.0,
            help="Show apart, in the violins, test clips whose highest probability is below this.",
        ),
    ] = 0.5,
    storage: Storage = "runs",
) -> None:
    """Write a sweep's report again from its files: a page, Markdown and tables."""
    from orchestrator.record.folder import find_folder

    if other is not None and watch:
        raise UserError("--watch: must be of one sweep, got two")
    run = find_folder(name, storage)
    if other is not None:
        page = _compared(run, find_folder(other, storage))
    elif watch:
        page = _watched(run, every, show=show)
        show = False  # already
    else:
        page = _written(run, confidence)
    print(page)
    if show:
        _open(page)


def _written(run: Path, confidence: float) -> Path:
    from orchestrator.record.copies import send
    from orchestrator.record.folder import page_of
    from orchestrator.report.writing import write_report

    print(write_report(run, confidence))
    page = page_of(run)
    send(page.parent)
    return page


def _compared(run: Path, other: Path) -> Path:
    from orchestrator.report.findings import read_findings
    from orchestrator.report.page.comparison import write_comparison

    if run.resolve() == other.resolve():
        raise UserError(f"{other}: must be another sweep than the first, got the same folder")
    return write_comparison(read_findings(run), read_findings(other))


def _watched(run: Path, every: int, *, show: bool) -> Path:
    from orchestrator.report.page.watching import watch

    return watch(run, every, _open if show else lambda page: None)


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("no browser could be opened; open the page by hand", err=True)
