"""`orchestrate data import` and `data synth`: a function per format that says how it is read.

Imports inside keep --help light.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.commands.options import checked
from orchestrator.cli.commands.storing import stores

if TYPE_CHECKING:
    from trainables.data.store.description import Recordings

import_app = typer.Typer(
    help="Turn recordings into a store: checked once, then memory-mapped by every trial.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Channels = Annotated[
    Literal["xyz", "xy", "xyc"],
    typer.Option(
        help="Say what joints are: metres (2 numbers: z is 0), pixels, pixels and confidence."
    ),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(
        help="Read the name of a class per line from this text file.", show_default="numbers"
    ),
]
LabelsFrom = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1,
        help="Count the numbers of classes from 0 or from 1.",
        show_default="0, refused where no label is 0",
    ),
]
BuiltInLayout = Annotated[str, typer.Option(help="Take this built-in layout, or a YAML file.")]


@import_app.command("other")
@stores("src")
def import_other(
    reader: Annotated[
        str,
        typer.Argument(
            metavar="READER", help="Read with this reader: its name, or package.module:NAME."
        ),
    ],
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Read this file or folder.")],
) -> Recordings:
    """Import a format that another package reads."""
    from trainables.contract.errors import UserError
    from trainables.contract.readers import READERS

    try:
        card = READERS.find(reader)
    except UserError as error:
        raise UserError(f"READER: {error}") from error
    recordings: Recordings = card.load()(src)
    return recordings


@import_app.command("nw-ucla")
@stores("src")
def import_nw_ucla(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Read all_sqe/ (or all_sqe.tar.gz), ucla_train.json and ucla_valid.json here.",
        ),
    ],
) -> Recordings:
    """Import Northwestern-UCLA (Wang et al., CVPR 2014) as CTR-GCN's lists have it: 1484 clips, 10
    actions, protocol xview.
    """
    from trainables.data.readers.nw_ucla import read_nw_ucla

    return read_nw_ucla(src)


@import_app.command("msr-action3d")
@stores("src")
def import_msr_action3d(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="Read the MSRAction3D folder, with real_world_coordinates/ in it."
        ),
    ],
    all_clips: Annotated[
        bool,
        typer.Option(
            "--all-clips", help="Take every clip there is, not only those that papers use."
        ),
    ] = False,
) -> Recordings:
    """Import MSR-Action3D (Li et al., CVPR Workshops 2010): the 557 clips that papers use,
    20 actions, protocol xsub.
    """
    from trainables.data.readers.msr_action3d import read_msr_action3d

    return read_msr_action3d(src, all_clips=all_clips)


@import_app.command("ntu")
@stores("src")
def import_ntu(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help=(
                "Read the SsssCcccPpppRrrrAaaa.skeleton files of this folder and all below it, or"
                " of a .zip."
            ),
        ),
    ],
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
) -> Recordings:
    """Import NTU RGB+D 60 or 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2020) from raw
    skeletons: protocols xsub and xview or xset.
    """
    from trainables.data.readers.ntu import read_ntu
    from trainables.data.readers.parallel import cores

    number: Literal[60, 120] | None = {"60": 60, "120": 120, "auto": None}[release]
    alone = None if single_actor == "auto" else single_actor
    return read_ntu(src, release=number, single_actor=alone, strict=strict, jobs=jobs or cores())


@import_app.command("ntu-npz")
@stores("src")
def import_ntu_npz(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Read this .npz with x_train, y_train, x_test and y_test, such as NTU60_CS.npz.",
        ),
    ],
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
) -> Recordings:
    """Import NTU RGB+D as CTR-GCN's and HPI-GCN's preparation saves it, (N, 300, 150) arrays;
    compressed or not, in little memory.
    """
    from trainables.data.readers.ntu_npz import read_ntu_npz

    return read_ntu_npz(src, protocol=protocol, names=names)


@import_app.command("pyskl")
@stores("annotations", ask_unit=True)
def import_pyskl(
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="ANNOTATIONS",
            help="Read PYSKL's pickle: splits and annotations, or annotations only, which train.",
        ),
    ],
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
    classes: ClassNames = None,
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
) -> Recordings:
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
    return read_pyskl(
        annotations, options, test=test, layout=known, classes=classes, raw_root=raw_root
    )


@import_app.command("kinetics-skeleton")
@stores("src")
def import_kinetics_skeleton(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Read this folder with kinetics_train/, kinetics_val/ and kinetics_*_label.json.",
        ),
    ],
) -> Recordings:
    """Import Kinetics-Skeleton (Yan et al., AAAI 2018): OpenPose's 18
    joints in the image, protocol split.
    """
    from trainables.data.readers.kinetics_skeleton import read_kinetics_skeleton

    return read_kinetics_skeleton(src)


@import_app.command("arrays")
@stores("src", ask_unit=True)
def import_arrays(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Read a folder with a .npy or .npz per clip id, or one .npz with an array per id.",
        ),
    ],
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
    channels: Channels = "xyz",
    pipeline: Annotated[
        Literal["ctr", "pyskl", "ucla"] | None,
        typer.Option(
            help="Let trials use these transforms by default.", show_default="ctr, for pixels pyskl"
        ),
    ] = None,
    labels_from: LabelsFrom = None,
) -> Recordings:
    """Import any data set as arrays (frames, joints, 2 or 3), persons before them or not."""
    from trainables.data.readers.arrays import read_arrays
    from trainables.data.readers.layout_file import find_layout

    return read_arrays(src, table, find_layout(layout), pipeline, channels, labels_from)


@import_app.command("nctvm")
@stores("src", ask_unit=True)
def import_nctvm(
    src: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Read train_data_joint.npy or train_data.npy, train_label.pkl, val_... here.",
        ),
    ],
    layout: BuiltInLayout = "ntu25",
    channels: Channels = "xyz",
    protocol: Annotated[
        str, typer.Option(help="Call the split so: train trains, val tests.")
    ] = "split",
    classes: ClassNames = None,
    labels_from: LabelsFrom = None,
) -> Recordings:
    """Import the arrays (clips, channels, frames, joints, persons) of ST-GCN and 2s-AGCN with their
    pickles of names and labels, in little memory.
    """
    from trainables.data.readers.layout_file import find_layout
    from trainables.data.readers.nctvm import read_nctvm

    return read_nctvm(
        src,
        find_layout(layout),
        protocol=protocol,
        channels=channels,
        classes=classes,
        labels_from=labels_from,
    )


@stores(None)
def synth(
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
    layout: BuiltInLayout = "ucla20",
) -> Recordings:
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
    return synthetic_recordings(config, find_layout(layout))
