"""The commands about ensembles: of a sweep's networks, and of score files of any origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.commands.options import Json, Storage
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.ensembling.results import FinalEvaluation


def ensemble(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Build the ensembles and the report of this sweep again."
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            help="Read a member's score file (.parquet, .npy, .pkl, .json); repeat it for each.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Read the labels from this file (.parquet, .csv, .tsv, .npy, .npz, .json, .pkl).",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Give one weight per score file, separated by commas."),
    ] = None,
    combine: Annotated[
        Literal["logits", "probabilities", "normalised"] | None,
        typer.Option(
            "--combine",
            help="Sum logits, probabilities, or logits over their standard deviation (normalised)."
            "  [default: probabilities where the files hold them, else logits]",
        ),
    ] = None,
    labels_from: Annotated[
        int | None,
        typer.Option(
            "--labels-from",
            min=0,
            max=1,
            help="Count the classes of the label file from 0 or from 1.",
        ),
    ] = None,
    by_position: Annotated[
        bool,
        typer.Option(
            "--by-position", help="Take rows without names in the order of the file with names."
        ),
    ] = False,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Name the part of a PYSKL annotation file that was scored."),
    ] = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Show accuracy by class, confusions and misclassified clips, too."
        ),
    ] = False,
    as_json: Json = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Take a sweep whose trials have not all ended; this opens the test split.",
        ),
    ] = False,
    storage: Storage = "runs",
) -> None:
    """Build a sweep's ensembles again, or evaluate an ensemble of score files of any origin."""
    if (name is None) == (not scores):
        raise UserError("ensemble: give the name of a sweep, or --scores and --labels")
    if name is not None:
        given = (labels, weights, combine, labels_from, split, by_position or None)
        if any(each is not None for each in given):
            raise UserError(
                "ensemble: --labels, --weights, --combine, --labels-from, --by-position and --split"
                " go with --scores; a sweep's ensembles are described in its file"
            )
        _conclude(name, storage, partial=partial, details=details, as_json=as_json)
        return
    if labels is None:
        raise UserError("--labels: must name a label file where --scores is given")
    from orchestrator.cli.printing.score_files import print_files_evaluation
    from orchestrator.ensembling.score_files import FilesRequest, evaluate_files

    request = FilesRequest(
        scores=tuple(scores or ()),
        labels=labels,
        weights=_numbers(weights),
        combine=combine,
        labels_from=labels_from,
        by_position=by_position,
        split=split,
    )
    print_files_evaluation(evaluate_files(request), details=details, as_json=as_json)


def _numbers(weights: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(weight) for weight in weights.split(",")) if weights else ()
    except ValueError:
        raise UserError(
            f"--weights: must be numbers separated by commas, got '{weights}'"
        ) from None


def _conclude(name: str, storage: str, *, partial: bool, details: bool, as_json: bool) -> None:
    from orchestrator.conduct import conclude
    from orchestrator.record.folder import find_folder

    run = find_folder(name, storage)
    evaluation, report = conclude(run, partial=partial)
    show_evaluation(evaluation, report, run, as_json, details=details)


def show_evaluation(
    evaluation: FinalEvaluation, report: Path, run: Path, as_json: bool, *, details: bool = False
) -> None:
    """Print what a final evaluation found, and where its report is."""
    from orchestrator.cli.printing.evaluation import print_evaluation, print_report
    from orchestrator.cli.printing.score_files import print_details
    from orchestrator.record.commands import command

    best = evaluation.headline if details else None
    predictions = evaluation.predictions(run, best) if best is not None else None
    if as_json:
        content = evaluation.model_dump(mode="json")
        if best is not None and predictions is not None:
            content["details"] = {"name": best.name, **predictions.to_json(best.name)}
        print(json.dumps(content, indent=2))
        return
    print_evaluation(evaluation)
    if best is not None and predictions is not None:
        print_details(predictions, best.name)
    print_report(report, command("ui", run))
