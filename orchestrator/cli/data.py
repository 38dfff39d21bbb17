"""`orchestrate data`: getting a data set in, looking at it, making one up. A few lines per command; imports inside keep --help light."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from trainables.contract.config import Frozen, SelectionConfig
    from trainables.data.audit import Audit, Finding
    from trainables.data.description import Recordings

data_app = typer.Typer(
    help="Get a data set in once, look at it, find damage and leaks, make a synthetic one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
import_app = typer.Typer(
    help="Turn recordings into a store: checked once, then memory-mapped by every trial.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app.add_typer(import_app, name="import")

Out = Annotated[Path, typer.Argument(help="Folder to make.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a store that is there already.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="Folder made by 'data import' or 'data synth'.")]
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


@import_app.command("nw-ucla")
def import_nw_ucla(
    src: Annotated[Path, typer.Argument(help="Folder with all_sqe/ (or all_sqe.tar.gz), ucla_train.json and ucla_valid.json.")],
    out: Out,
    force: Force = False,
) -> None:
    """Northwestern-UCLA (Wang et al., CVPR 2014) as CTR-GCN's lists have it: 1484 clips, 10 actions, protocol xview."""
    from trainables.data.readers.nw_ucla import read_nw_ucla

    _write(out, lambda: read_nw_ucla(src), force)


@import_app.command("msr-action3d")
def import_msr_action3d(
    src: Annotated[Path, typer.Argument(help="The MSRAction3D folder, with real_world_coordinates/ in it.")],
    out: Out,
    all_clips: Annotated[bool, typer.Option("--all-clips", help="Every clip there is, not only those that papers use.")] = False,
    force: Force = False,
) -> None:
    """MSR-Action3D (Li et al., CVPR Workshops 2010): the 557 clips that papers use, 20 actions, protocol xsub."""
    from trainables.data.readers.msr_action3d import read_msr_action3d

    _write(out, lambda: read_msr_action3d(src, all_clips=all_clips), force)


@import_app.command("arrays")
def import_arrays(
    src: Annotated[Path, typer.Argument(help="Folder with one .npy or .npz per clip id, or one .npz with an array per id.")],
    out: Out,
    table: Annotated[Path, typer.Option(help="CSV: id, label, split or split_NAME (train, val, test); optional subject, camera, take.")],
    layout: Annotated[str, typer.Option(help="Built-in layout, or a YAML file with name, joints, parents and origin.")],
    pipeline: Annotated[Literal["ntu", "ucla"], typer.Option(help="Transforms that trials use by default.")] = "ntu",
    force: Force = False,
) -> None:
    """Any data set as arrays (frames, joints, 2 or 3) or (persons, frames, joints, 2 or 3)."""
    from trainables.data.readers.arrays import read_arrays
    from trainables.data.readers.layout_file import find_layout

    _write(out, lambda: read_arrays(src, table, find_layout(layout), pipeline), force)


@data_app.command("synth")
def synth(
    out: Out,
    classes: Annotated[int, typer.Option(help="Number of movements to tell apart.")] = 10,
    clips_per_class: Annotated[int, typer.Option(help="At least subjects * views.")] = 60,
    subjects: Annotated[int, typer.Option(help="Subjects; odd ones train in protocol xsub.")] = 10,
    views: Annotated[int, typer.Option(help="Cameras; the last one tests in protocol xview.")] = 3,
    frames: Annotated[int, typer.Option(help="Mean length of a clip.")] = 48,
    persons: Annotated[int, typer.Option(help="Largest number of persons in a clip.")] = 1,
    noise: Annotated[float, typer.Option(help="Standard deviation of the sensor noise in metres.")] = 0.04,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    layout: Annotated[str, typer.Option(help="Built-in layout, or a YAML file.")] = "ucla20",
    force: Force = False,
) -> None:
    """A synthetic data set of moving bodies: learnable, not trivial, and there at once."""
    from trainables.data.readers.layout_file import find_layout
    from trainables.data.synthetic import SyntheticConfig, synthetic_recordings

    amounts = {"classes": classes, "clips_per_class": clips_per_class, "subjects": subjects, "views": views}
    config = _checked(SyntheticConfig, **amounts, frames=frames, persons=persons, noise=noise, seed=seed)
    _write(out, lambda: synthetic_recordings(config, find_layout(layout)), force)


@data_app.command("info")
def info(store: StorePath, as_json: Json = False) -> None:
    """What a store holds: clips, classes, lengths, protocols, origin."""
    from trainables.data.store import Store
    from trainables.data.summary import summarise

    summary = summarise(Store.open(store))
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
    from trainables.data.store import Store

    selection = _selection(selection_kind, fraction, seed)
    opened = Store.open(store)
    chosen = [protocol] if protocol is not None else list(opened.info.protocols)
    with _progress("reading", opened.info.clips) as advance:
        found = audit_store(opened, chosen, selection, clip_done=advance)
    if as_json:
        typer.echo(json.dumps(found.record(), indent=2))
    else:
        _print_audit(found)
    if strict and found.damage():
        raise GateFailed("\n".join(f"{store}: {reason}" for reason in found.damage()))


def _write(out: Path, read: Callable[[], Recordings], force: bool) -> None:
    """Read and write one store; the last line names the next command."""
    from trainables.data.writing import check_target, write_store

    check_target(out.absolute(), force=force)
    recordings = read()
    with _progress("importing", recordings.count) as advance:
        info = write_store(out, _counted(recordings.clips, advance), recordings.description, force=force)
    typer.echo(f"{out}: {info.clips} clips, {len(info.classes)} classes, {info.rows} frames, protocols {', '.join(info.protocols)}")
    typer.echo(f"next: orchestrate data audit {out}")


T = TypeVar("T")


def _counted(items: Iterable[T], advance: Callable[[], None]) -> Iterator[T]:
    for item in items:
        yield item
        advance()


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr when that is a terminal; gives the function to call after each clip."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


F = TypeVar("F", bound="Frozen")


def _checked(model: type[F], **values: Any) -> F:
    """The options as a checked record; UserError names every option that is wrong."""
    from pydantic import ValidationError

    from trainables.contract.errors import UserError

    try:
        return model(**values)
    except ValidationError as error:
        raise UserError.of(_option_problem(dict(item)) for item in error.errors()) from error


def _option_problem(item: dict[str, Any]) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = "selection-kind" if item["loc"] == ("kind",) else str(item["loc"][0]).replace("_", "-")
    return f"--{name}: {message}, got {item['input']}"


def _selection(kind: str | None, fraction: float | None, seed: int | None) -> SelectionConfig | None:
    """The contract's selection with the given options changed; None when none is given."""
    from trainables.contract.config import SelectionConfig

    given = {name: value for name, value in (("kind", kind), ("fraction", fraction), ("seed", seed)) if value is not None}
    return _checked(SelectionConfig, **given) if given else None


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
