"""`orchestrate data`: looking at a data set.

A few lines per command; imports inside keep --help light.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.commands.clips import show
from orchestrator.cli.commands.imports import import_app, synth
from orchestrator.cli.commands.options import Json, checked, progress

if TYPE_CHECKING:
    from trainables.contract.config import SelectionConfig

data_app = typer.Typer(
    help="Get a data set in once, look at it, find damage and leaks, make a synthetic one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app.add_typer(import_app, name="import")
data_app.command("synth")(synth)
data_app.command("show")(show)

StorePath = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        help="Read the store in this folder, or a copy of it at an address (s3://...).",
    ),
]


@data_app.command("info")
def info(store: StorePath, as_json: Json = False) -> None:
    """Say what a store holds: clips, lengths, protocols, origin, and how many clips of each class,
    subject and camera.
    """
    from orchestrator.cli.printing.stores import print_summary
    from trainables.data.inspection.summary import summarise
    from trainables.data.store.cache import open_store

    summary = summarise(open_store(store))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_summary(summary)


@data_app.command("audit")
def audit(
    store: StorePath,
    protocol: Annotated[
        str | None, typer.Option(help="Look at one protocol only; all of the store's without.")
    ] = None,
    selection_kind: Annotated[
        str | None, typer.Option(help="Hold this out of training: subject, clip, protocol or none.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Hold out this share of the training subjects or clips.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw with this seed which ones.")] = None,
    near: Annotated[
        float,
        typer.Option(
            help="Let near copies differ so far: mm, or pixels in images; root mean square."
        ),
    ] = 1.0,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 4 when clips are damaged or in two parts of a split."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find damaged clips, gaps, and identical or nearly identical clips inside and across training,
    selection and test.
    """
    from orchestrator.cli.printing.stores import print_audit
    from trainables.contract.errors import GateFailed
    from trainables.data.inspection.audit import audit_store
    from trainables.data.store.cache import open_store

    selection = _selection(selection_kind, fraction, seed)
    opened = open_store(store)
    chosen = None if protocol is None else [protocol]
    with progress("reading", opened.info.clips) as advance:
        findings = audit_store(opened, chosen, selection, near=near, clip_done=advance)
    if as_json:
        typer.echo(json.dumps(findings.record(), indent=2))
    else:
        print_audit(findings)
    if strict and findings.damage():
        raise GateFailed("\n".join(f"{store}: {reason}" for reason in findings.damage()))


@data_app.command("push")
def push(
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="Copy the store in this folder of this machine.")
    ],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Copy it there: s3://BUCKET/FOLDER.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace another store that is there already.")
    ] = False,
) -> None:
    """Copy a store to a bucket, whole or not at all, for sweeps whose machines share no folder.

    `data.store: ADDRESS` in a sweep file uses it.
    """
    from trainables.data.store.pushing import push_store

    info = push_store(store, address, force=force, note=lambda text: typer.echo(text, err=True))
    typer.echo(f"{address}: {info.name}, {info.clips} clips")


def _selection(
    kind: str | None, fraction: float | None, seed: int | None
) -> SelectionConfig | None:
    """The contract's selection with the given options changed; None when none is given."""
    from trainables.contract.config import SelectionConfig

    chosen = {
        name: value
        for name, value in (("kind", kind), ("fraction", fraction), ("seed", seed))
        if value is not None
    }
    return checked(SelectionConfig, **chosen) if chosen else None
