"""`orchestrate data import` and `data synth`: turning recordings into a store.

A few lines per command; imports inside keep --help light.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.commands.options import checked, progress
from trainables.contract.names import printable

if TYPE_CHECKING:
    from trainables.data.readers.units import Unit
    from trainables.data.store.description import Clip, Recordings

import_app = typer.Typer(
    help="Turn recordings into a store: checked once, then memory-mapped by every trial.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Out = Annotated[Path, typer.Argument(help="Make this folder.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a store that is there already.")]
Storage = Annotated[
    Literal["float32", "int16"],
    typer.Option(
        "--storage",
        help="Store so; int16 halves the size and rounds to 0.1 mm (in images 0.05 pixels).",
    ),
]

Name = Annotated[
    str | None,
    typer.Option(
        "--name", help="Call the data set so in tables and reports.", show_default="by its source"
    ),
]
SpaceUnit = Annotated[
    Literal["m", "cm", "mm", "px"] | None,
    typer.Option(
        "--unit",
        help="Say what the coordinates are; they are stored in metres, in images in pixels.",
        show_default="m or px, refused where no body has that size",
    ),
]
LabelsFrom = Annotated[
    int | None,
    typer.Option(
        "--labels-from",
        min=0,
        max=1,
        help="Count the numbers of classes from 0 or from 1.",
        show_default="0, refused where no label is 0",
    ),
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a store is written, how, and from what."""

    out: Path
    storage: Literal["float32", "int16"]
    force: bool
    name: str | None
    source: Path | None = None  # None: it is made, not read


@import_app.command("other")
def import_other(
    reader: Annotated[
        str,
        typer.Argument(
            metavar="READER", help="Read with this reader: its name, or package.module:NAME."
        ),
    ],
    src: Annotated[Path, typer.Argument(help="Read this file or folder.")],
    out: Out,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import a format that another package reads."""
    from trainables.contract.errors import UserError
    from trainables.contract.readers import READERS

    try:
        card = READERS.find(reader)
    except UserError as error:
        raise UserError(f"READER: {error}") from error
    _write(lambda: card.load()(src), Target(out, storage, force, name, src))


@import_app.command("nw-ucla")
def import_nw_ucla(
    src: Annotated[
        Path,
        typer.Argument(
            help="Read all_sqe/ (or all_sqe.tar.gz), ucla_train.json and ucla_valid.json here."
        ),
    ],
    out: Out,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import Northwestern-UCLA (Wang et al., CVPR 2014) as CTR-GCN's lists have it: 1484 clips, 10
    actions, protocol xview.
    """
    from trainables.data.readers.nw_ucla import read_nw_ucla

    _write(lambda: read_nw_ucla(src), Target(out, storage, force, name, src))


@import_app.command("msr-action3d")
def import_msr_action3d(
    src: Annotated[
        Path,
        typer.Argument(help="Read the MSRAction3D folder, with real_world_coordinates/ in it."),
    ],
    out: Out,
    all_clips: Annotated[
        bool,
        typer.Option(
            "--all-clips", help="Take every clip there is, not only those that papers use."
        ),
    ] = False,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import MSR-Action3D (Li et al., CVPR Workshops 2010): the 557 clips that papers use,
    20 actions, protocol xsub.
    """
    from trainables.data.readers.msr_action3d import read_msr_action3d

    _write(
        lambda: read_msr_action3d(src, all_clips=all_clips), Target(out, storage, force, name, src)
    )


@import_app.command("ntu")
def import_ntu(
    src: Annotated[
        Path,
        typer.Argument(
            help=(
                "Read the SsssCcccPpppRrrrAaaa.skeleton files of this folder and all below it, or"
                " of a .zip."
            )
        ),
    ],
    out: Out,
    release: Annotated[
        Literal["auto", "60", "120"],
        typer.Option(help="Take this one's samples and protocols; auto is as the files are."),
    ] = "auto",
    single_actor: Annotated[
        Literal["auto", "zero", "duplicate"],
        typer.Option(
            help="Fill the second actor so, where there is one; auto: zero in 60, duplicate in 120."
        ),
    ] = "auto",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End at a damaged file instead of naming and skipping it."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Read with so many processes; one per core unless given."),
    ] = None,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import NTU RGB+D 60 or 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2020) from raw
    skeletons: protocols xsub and xview or xset.
    """
    from trainables.data.readers.ntu import read_ntu
    from trainables.data.readers.parallel import cores

    number: Literal[60, 120] | None = {"60": 60, "120": 120, "auto": None}[release]
    alone = None if single_actor == "auto" else single_actor
    _write(
        lambda: read_ntu(
            src, release=number, single_actor=alone, strict=strict, jobs=jobs or cores()
        ),
        Target(out, storage, force, name, src),
    )


@import_app.command("ntu-npz")
def import_ntu_npz(
    src: Annotated[
        Path,
        typer.Argument(
            help="Read this .npz with x_train, y_train, x_test and y_test, such as NTU60_CS.npz."
        ),
    ],
    out: Out,
    protocol: Annotated[
        Literal["xsub", "xview", "xset", "split"] | None,
        typer.Option(help="Say its split; as the file's name says unless given."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Read names, subjects, cameras and setups of rows from skes_available_name.txt."
        ),
    ] = None,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import NTU RGB+D as CTR-GCN's and HPI-GCN's preparation saves it, (N, 300, 150) arrays;
    compressed or not, in little memory.
    """
    from trainables.data.readers.ntu_npz import read_ntu_npz

    _write(
        lambda: read_ntu_npz(src, protocol=protocol, names=names),
        Target(out, storage, force, name, src),
    )


@import_app.command("pyskl")
def import_pyskl(
    annotations: Annotated[
        Path,
        typer.Argument(
            help="Read PYSKL's pickle: splits and annotations, or annotations only, which train."
        ),
    ],
    out: Out,
    test: Annotated[
        Path | None,
        typer.Option(help="Test on these annotations, where ANNOTATIONS has no splits."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Take this built-in layout, or a YAML file.",
            show_default="by joints: ntu25, coco17 or openpose18",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Read the name of a class per line from this text file.", show_default="numbers"
        ),
    ] = None,
    max_persons: Annotated[
        int,
        typer.Option(
            help="Keep so many persons per clip, with the highest confidence or the largest motion."
        ),
    ] = 2,
    drop_confidence: Annotated[
        bool, typer.Option("--drop-confidence", help="Store pixels only, without confidence.")
    ] = False,
    box_threshold: Annotated[
        float | None,
        typer.Option(help="Count boxes from this score on (Kinetics-400).", show_default="0.5"),
    ] = None,
    valid_ratio: Annotated[
        float | None,
        typer.Option(
            help="Keep training clips with a box in this share of their frames (Kinetics-400)."
        ),
    ] = None,
    raw_root: Annotated[
        Path | None,
        typer.Option(
            help="Find the files of joints here (Kinetics-400).", show_default="beside ANNOTATIONS"
        ),
    ] = None,
    labels_from: LabelsFrom = None,
    unit: SpaceUnit = None,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import PYSKL's annotations: NTU RGB+D in 3-D and 2-D, Kinetics-400, FineGYM, UCF101, HMDB51,
    Diving48, and one's own.
    """
    from trainables.data.readers.layout_file import find_layout
    from trainables.data.readers.pyskl import PysklOptions, read_pyskl

    options = checked(
        PysklOptions,
        max_persons=max_persons,
        drop_confidence=drop_confidence,
        box_threshold=box_threshold,
        valid_ratio=valid_ratio,
        labels_from=labels_from,
    )
    known = None if layout is None else find_layout(layout)
    _write(
        lambda: read_pyskl(
            annotations,
            options,
            test=test,
            layout=known,
            classes=classes,
            raw_root=raw_root,
        ),
        Target(out, storage, force, name, annotations),
        unit,
        ask=True,
    )


@import_app.command("kinetics-skeleton")
def import_kinetics_skeleton(
    src: Annotated[
        Path,
        typer.Argument(
            help="Read this folder with kinetics_train/, kinetics_val/ and kinetics_*_label.json."
        ),
    ],
    out: Out,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import Kinetics-Skeleton (Yan et al., AAAI 2018): OpenPose's 18
    joints in the image, protocol split.
    """
    from trainables.data.readers.kinetics_skeleton import read_kinetics_skeleton

    _write(lambda: read_kinetics_skeleton(src), Target(out, storage, force, name, src))


@import_app.command("arrays")
def import_arrays(
    src: Annotated[
        Path,
        typer.Argument(
            help="Read a folder with a .npy or .npz per clip id, or one .npz with an array per id."
        ),
    ],
    out: Out,
    table: Annotated[
        Path,
        typer.Option(
            help=(
                "Read a CSV: id, label, split or split_NAME (train, val, test); optional subject,"
                " camera, take."
            )
        ),
    ],
    layout: Annotated[
        str,
        typer.Option(
            help="Take this built-in layout, or a YAML file with name, joints, parents and origin."
        ),
    ],
    channels: Annotated[
        Literal["xyz", "xy", "xyc"],
        typer.Option(
            help="Say what joints are: metres (2 numbers: z is 0), pixels, pixels and confidence."
        ),
    ] = "xyz",
    pipeline: Annotated[
        Literal["ctr", "pyskl", "ucla"] | None,
        typer.Option(
            help="Let trials use these transforms by default.", show_default="ctr, for pixels pyskl"
        ),
    ] = None,
    labels_from: LabelsFrom = None,
    unit: SpaceUnit = None,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import any data set as arrays (frames, joints, 2 or 3), persons before them or not."""
    from trainables.data.readers.arrays import read_arrays
    from trainables.data.readers.layout_file import find_layout

    _write(
        lambda: read_arrays(src, table, find_layout(layout), pipeline, channels, labels_from),
        Target(out, storage, force, name, src),
        unit,
        ask=True,
    )


@import_app.command("nctvm")
def import_nctvm(
    src: Annotated[
        Path,
        typer.Argument(
            help="Read train_data_joint.npy or train_data.npy, train_label.pkl, val_... here."
        ),
    ],
    out: Out,
    layout: Annotated[
        str,
        typer.Option(help="Take this built-in layout, or a YAML file."),
    ] = "ntu25",
    channels: Annotated[
        Literal["xyz", "xy", "xyc"],
        typer.Option(
            help="Say what joints are: metres (2 numbers: z is 0), pixels, pixels and confidence."
        ),
    ] = "xyz",
    protocol: Annotated[
        str, typer.Option(help="Call the split so: train trains, val tests.")
    ] = "split",
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Read a text file with the name of a class per line.", show_default="numbers"
        ),
    ] = None,
    labels_from: LabelsFrom = None,
    unit: SpaceUnit = None,
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Import the arrays (clips, channels, frames, joints, persons) of ST-GCN and 2s-AGCN with their
    pickles of names and labels, in little memory.
    """
    from trainables.data.readers.layout_file import find_layout
    from trainables.data.readers.nctvm import read_nctvm

    _write(
        lambda: read_nctvm(
            src,
            find_layout(layout),
            protocol=protocol,
            channels=channels,
            classes=classes,
            labels_from=labels_from,
        ),
        Target(out, storage, force, name, src),
        unit,
        ask=True,
    )


def synth(
    out: Out,
    classes: Annotated[int, typer.Option(help="Make so many movements to tell apart.")] = 10,
    clips_per_class: Annotated[
        int, typer.Option(help="Make so many clips of each movement, at least subjects * views.")
    ] = 60,
    subjects: Annotated[
        int, typer.Option(help="Make so many subjects; odd ones train in protocol xsub.")
    ] = 10,
    views: Annotated[
        int, typer.Option(help="Make so many cameras; the last one tests in protocol xview.")
    ] = 3,
    frames: Annotated[int, typer.Option(help="Make clips of so many frames in the mean.")] = 48,
    persons: Annotated[int, typer.Option(help="Put at most so many persons into a clip.")] = 1,
    noise: Annotated[
        float, typer.Option(help="Add sensor noise of this standard deviation, in metres.")
    ] = 0.04,
    seed: Annotated[
        int, typer.Option(help="Draw with this seed; the same seed gives the same bytes.")
    ] = 0,
    layout: Annotated[
        str, typer.Option(help="Take this built-in layout, or a YAML file.")
    ] = "ucla20",
    name: Name = None,
    storage: Storage = "float32",
    force: Force = False,
) -> None:
    """Make a synthetic data set of moving bodies: learnable, not trivial, and there at once."""
    from trainables.data.readers.layout_file import find_layout
    from trainables.data.synthetic import SyntheticConfig, synthetic_recordings

    amounts = {
        "classes": classes,
        "clips_per_class": clips_per_class,
        "subjects": subjects,
        "views": views,
    }
    config = checked(
        SyntheticConfig, **amounts, frames=frames, persons=persons, noise=noise, seed=seed
    )
    _write(
        lambda: synthetic_recordings(config, find_layout(layout)), Target(out, storage, force, name)
    )


def _write(
    read: Callable[[], Recordings], target: Target, unit: Unit | None = None, *, ask: bool = False
) -> None:
    """Read and write one store; the last line names the next command.

    ask: whether the unit is not fixed by the format and can be said with --unit.
    """
    from trainables.data.readers.units import in_store_units
    from trainables.data.store.writing import check_target, write_store

    out = target.out
    check_target(out.absolute(), force=target.force)
    recordings = in_store_units(read(), unit, target.storage, ask=ask, place=target.source)
    description = recordings.description
    if target.name is not None:
        description = description.model_copy(update={"name": target.name})
    with progress("importing", recordings.count) as advance:
        info = write_store(
            out,
            _counted(recordings.clips, advance),
            description,
            storage=target.storage,
            force=target.force,
        )
    for note in recordings.notes:
        typer.echo(f"note: {printable(note)}", err=True)
    typer.echo(
        f"{out}: {info.name}, {info.clips} clips, {len(info.classes)} classes, {info.rows} frames,"
        f" protocols {', '.join(info.protocols)}"
    )
    typer.echo(f"next: orchestrate data audit {shlex.quote(str(out))}")


def _counted(clips: Iterable[Clip], advance: Callable[[], None]) -> Iterator[Clip]:
    for clip in clips:
        yield clip
        advance()
