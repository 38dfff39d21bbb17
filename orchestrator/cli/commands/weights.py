"""`orchestrate import-weights`: a checkpoint of released code as a network of ours.

Imports inside keep --help light.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.commands.options import Json, model_options
from trainables.contract.errors import UserError

Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="Read this file of the released code; nothing in it is executed.",
    ),
]
As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="BACKBONE",
        help="Say what the network is here (see 'orchestrate models').",
    ),
]
KnownLayout = Annotated[
    str | None,
    typer.Option(
        "--layout", help="Take this layout or YAML file.  [default: the store's, else ntu25]"
    ),
]
KnownPersons = Annotated[
    int | None,
    typer.Option(
        "--persons",
        min=1,
        help="Say how many persons the clips have.  [default: the file's, the store's, else 2]",
    ),
]
KnownFrames = Annotated[
    int | None,
    typer.Option(
        "--frames", min=2, help="Expect clips of so many frames.  [default for scores: 64]"
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="MODEL.OPTION=V", help="Say an option that the file does not show."
    ),
]
Level = Annotated[
    float | None,
    typer.Option(
        "--level",
        min=0.0,
        max=1.0,
        help="Make masks of this level from the scores of a Sparse-ST-GCN checkpoint.",
    ),
]
Weights = Annotated[Path | None, typer.Option("--out", help="Write the training form's weights.")]
DeployFile = Annotated[Path | None, typer.Option("--deploy", help="Write the deploy form.")]
ScoreFile = Annotated[
    Path | None,
    typer.Option("--scores", help="Write a score table (.parquet) of a store's clips."),
]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="STORE", help="Score this store, a folder or an address."),
]
Protocol = Annotated[
    str | None, typer.Option("--protocol", help="Take this one of the store's protocols.")
]
Stream = Annotated[
    str,
    typer.Option("--stream", help="Say what the network was trained on, as in a sweep file."),
]
Part = Annotated[
    Literal["test", "train"],
    typer.Option(
        "--split", help="Score this part of the protocol; train is all that is not tested on."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]


def import_weights(
    checkpoint: Checkpoint,
    backbone: As,
    layout: KnownLayout = None,
    persons: KnownPersons = None,
    frames: KnownFrames = None,
    settings: Settings = None,
    level: Level = None,
    out: Weights = None,
    deploy: DeployFile = None,
    scores: ScoreFile = None,
    store: Store = None,
    protocol: Protocol = None,
    stream: Stream = "joint",
    split: Part = "test",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read a checkpoint of released code as a network of ours: strict report, weights, deploy form,
    scores.
    """
    if (scores, store, protocol) != (None, None, None) and None in (scores, store, protocol):
        raise UserError("--scores, --store and --protocol: must be given together")
    if scores is not None and scores.suffix != ".parquet":
        raise UserError(f"--scores: must end in .parquet, got {scores}")
    if scores is None and (stream, split) != ("joint", "test"):
        raise UserError("--stream and --split: have no effect without --scores")
    if frames is not None and scores is None and deploy is None:
        raise UserError("--frames: has no effect without --deploy or --scores")
    options = model_options("--as", backbone, settings or ())
    from trainables.foreign.family import Said
    from trainables.foreign.importing import Outputs, Scoring, import_checkpoint

    scoring = (
        Scoring(scores, store, protocol, split, stream)
        if scores is not None and store is not None and protocol is not None
        else None
    )
    report = import_checkpoint(
        checkpoint,
        backbone,
        Said(layout, persons, level, options),
        outputs=Outputs(out, deploy, scoring, frames, force),
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return
    from orchestrator.cli.printing.networks import print_import

    print_import(report)
    if scoring is not None:
        from trainables.data.store.cache import local_store

        print(
            f"next: orchestrate ensemble --scores {scoring.file} --labels"
            f" {local_store(scoring.store) / 'clips.parquet'}"
        )
