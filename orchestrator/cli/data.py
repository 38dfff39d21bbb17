"""`orchestrate data`: looking at a data set. A few lines per command; imports inside keep --help light."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.imports import import_app, synth
from orchestrator.cli.options import checked, progress

if TYPE_CHECKING:
    from trainables.contract.config import SelectionConfig
    from trainables.data.audit import Audit, Finding

data_app = typer.Typer(
    help="Get a data set in once, look at it, find damage and leaks, make a synthetic one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app.add_typer(import_app, name="import")
data_app.command("synth")(synth)

StorePath = Annotated[str, typer.Argument(metavar="STORE", help="Folder made by 'data import' or 'data synth', or a URI of a copy of it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

FINDINGS = {
    "nan": "coordinates that are NaN or infinite",
    "empty": "clips without a frame",
    "one_frame": "clips of a single frame",
    "all_zero": "clips in which everything is zero",
    "zero_frames": "clips with some frames in which everything is zero",
    "zero_joints": "clips with some joints at exactly (0, 0, 0)",
    "unknown_label": "labels outside the classes",
    "copies": "clips identical to an earlier one",
    "disagreeing_copies": "identical clips with different labels",
}


@data_app.command("info")
def info(store: StorePath, as_json: Json = False) -> None:
    """What a store holds: clips, classes, lengths, protocols, origin."""
    from trainables.data.cache import open_store
    from trainables.data.summary import summarise

    summary = summarise(open_store(store))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary)


@data_app.command("audit")
def audit(
    store: StorePath,
    protocol: Annotated[str | None, typer.Option(help="One protocol only; all of the store's without.")] = None,
    selection_kind: Annotated[str | None, typer.Option(help="Held out of training: subject, clip, protocol or none.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Of the training subjects or clips that is held out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which ones.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 when clips are damaged or in two parts of a split.")] = False,
    as_json: Json = False,
) -> None:
    """Find damaged clips, gaps, and identical clips inside and across training, selection and test."""
    from trainables.contract.errors import GateFailed
    from trainables.data.audit import audit_store
    from trainables.data.cache import open_store

    selection = _selection(selection_kind, fraction, seed)
    opened = open_store(store)
    chosen = [protocol] if protocol is not None else list(opened.info.protocols)
    with progress("reading", opened.info.clips) as advance:
        found = audit_store(opened, chosen, selection, clip_done=advance)
    if as_json:
        typer.echo(json.dumps(found.record(), indent=2))
    else:
        _print_audit(found)
    if strict and found.damage():
        raise GateFailed("\n".join(f"{store}: {reason}" for reason in found.damage()))


def _selection(kind: str | None, fraction: float | None, seed: int | None) -> SelectionConfig | None:
    """The contract's selection with the given options changed; None when none is given."""
    from trainables.contract.config import SelectionConfig

    given = {name: value for name, value in (("kind", kind), ("fraction", fraction), ("seed", seed)) if value is not None}
    return checked(SelectionConfig, **given) if given else None


def _print_summary(summary: dict[str, Any]) -> None:
    from orchestrator.cli.tables import console, table

    out = console()
    length = summary["length"]
    facts = table(str(summary["name"]), text="")
    for name, value in (
        ("clips", summary["clips"]),
        ("frames per clip", f"{length['min']} to {length['max']}, median {length['median']:g}"),
        ("persons", f"up to {summary['persons']}"),
        ("layout", f"{summary['layout']} ({summary['joints']} joints)"),
        ("pipeline", summary["pipeline"]),
        ("storage", summary["storage"]),
        ("subjects", _listed(summary["subjects"])),
        ("cameras", _listed(summary["cameras"])),
        ("on disk", f"{summary['bytes'] / 1e6:.1f} MB in {summary['path']}"),
        *(summary["provenance"].items()),
    ):
        facts.add_row(str(name), str(value))
    out.print(facts)
    classes = table("class", "clips")
    for name, count in summary["classes"].items():
        classes.add_row(name, str(count))
    out.print(classes)
    protocols = table("protocol", "train", "selection", "test")
    for name, sizes in summary["protocols"].items():
        protocols.add_row(name, *(str(sizes[part]) for part in ("train", "selection", "test")))
    out.print(protocols)


def _listed(values: list[Any]) -> str:
    return f"{len(values)}: {', '.join(map(str, values))}" if values else "unknown"


def _print_audit(found: Audit) -> None:
    from orchestrator.cli.tables import console, table

    out = console()
    clips = table(f"in {found.clips} clips", "clips", text="for example")
    for name, meaning in FINDINGS.items():
        finding = getattr(found, name)
        clips.add_row(meaning, str(finding.count), _examples(finding))
    if found.missing_classes:
        clips.add_row("classes without a clip", str(len(found.missing_classes)), ", ".join(found.missing_classes))
    out.print(clips)
    for name, audit in found.protocols.items():
        sizes = f"train {audit.train}, selection {audit.selection} ({audit.selection_kind}), test {audit.test}, clean test {audit.clean_test}"
        out.print(f"protocol {name}: {sizes}")
        rows = table("finding", "clips", text="for example")
        rows.add_row("in no part", str(audit.unused.count), _examples(audit.unused))
        rows.add_row("in two parts", str(audit.shared.count), _examples(audit.shared))
        for kind in type(audit.duplicates).model_fields:
            finding = getattr(audit.duplicates, kind)
            rows.add_row(f"identical: {kind.replace('_', ' ')}", str(finding.count), _examples(finding))
        for part, classes in audit.missing_classes.items():
            if classes:
                rows.add_row(f"classes missing in {part.replace('_', ' ')}", str(len(classes)), ", ".join(classes))
        out.print(rows)


def _examples(finding: Finding) -> str:
    more = ", ..." if finding.count > len(finding.examples) else ""
    return ", ".join(finding.examples) + more
