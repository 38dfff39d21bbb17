"""The options of the commands about ensembles, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_STRATEGY = "Find the weights by this strategy, or package.module:NAME."
Method = Annotated[
    str | None,
    typer.Option("--method", help=f"{_STRATEGY}  [default: greedy; for score files none]"),
]
MethodForNetworks = Annotated[
    str | None, typer.Option("--method", help=f"{_STRATEGY}  [default: greedy]")
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="Set an option of the method; may be repeated."
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="MEASURE=LIMIT",
        help="Limit nonzero_params, latency_ms, sparse_latency_ms, members or bytes of all networks"
        " together, to a number or to 0.66x of the dense network's; may be repeated.",
    ),
]
Over = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="AXIS",
        help="Combine along this axis (sparsity.level, data.stream, seed, sweep, ...); may be"
        " repeated.  [default: all that --per leaves]",
    ),
]
Store = Annotated[
    str, typer.Option("--uri", help="Look for MLflow runs (mlflow:RUN) in this tracking store.")
]
Per = Annotated[
    list[str] | None,
    typer.Option("--per", metavar="AXIS", help="Make an ensemble for each value; may be repeated."),
]
ScoreFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--scores",
        help="Read a member's score file (docs/scores.md has the formats); repeat it for each.",
    ),
]
LabelFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        help="Read the labels from this file (.parquet, .csv, .tsv, .npy, .npz, .json, .pkl).",
    ),
]
LabelsFrom = Annotated[
    int | None,
    typer.Option(
        "--labels-from",
        min=0,
        max=1,
        help="Count the classes of the label file from 0 or from 1.",
    ),
]
ByPosition = Annotated[
    bool,
    typer.Option(
        "--by-position", help="Take rows without names in the order of the file with names."
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="Name the part of a PYSKL annotation file that was scored."),
]
CrossFit = Annotated[
    int | None,
    typer.Option(
        "--cross-fit",
        metavar="FOLDS",
        help="Divide the clips of the score files into so many folds; the method chooses on all"
        " but one for that one.  [default: 2]",
    ),
]
FoldSeed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Draw these folds by it.  [default: 0]")
]
Details = Annotated[
    bool,
    typer.Option(
        "--details", help="Show accuracy by class, confusions and misclassified clips, too."
    ),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Take a sweep whose trials have not all ended; this opens the test split.",
    ),
]
PaperStyle = Annotated[
    bool,
    typer.Option(
        "--paper-style",
        help="Say, too, what choosing trials and weights on the test clips would have given.",
    ),
]
Called = Annotated[
    str | None,
    typer.Option(
        "--called",
        help="Give the ensemble that the options describe this name."
        "  [default: by its method and what is asked]",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write that ensemble here.  [default: asked/NAME in the first sweep]"
    ),
]
