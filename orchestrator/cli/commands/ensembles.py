"""The commands about ensembles: of a sweep's networks, and of score files of any origin."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.commands.options import Json, Storage
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.ensembling.results import FinalEvaluation
    from orchestrator.sweep.asked import Asked
    from trainables.contract.artifacts import TrialDir

Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Find the weights by this strategy, or package.module:NAME.  [default: greedy; for"
        " score files none]",
    ),
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
        help="Limit nonzero_params, latency_ms, members or bytes of all networks together, to a"
        " number or to 0.66x of the dense network's; may be repeated.",
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
RUN = "mlflow:"
"""Before the id of an MLflow run, in place of a sweep's name."""
Store = Annotated[
    str, typer.Option("--uri", help="Look for MLflow runs (mlflow:RUN) in this tracking store.")
]
Per = Annotated[
    list[str] | None,
    typer.Option("--per", metavar="AXIS", help="Make an ensemble for each value; may be repeated."),
]


def ensemble(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Build the ensembles and the report of this sweep again; or, with options that"
            " describe an ensemble, build that one of the networks of these sweeps, or of MLflow"
            " runs (mlflow:RUN).",
        ),
    ] = None,
    method: Method = None,
    option: MethodOptions = None,
    budget: Limits = None,
    over: Over = None,
    per: Per = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            help="Read a member's score file (docs/scores.md has the formats); repeat it for each.",
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
        typer.Option(
            "--weights",
            help="Give one weight per score file, separated by commas; for a sweep a preset's name"
            " or VALUE=WEIGHT,VALUE=WEIGHT.",
        ),
    ] = None,
    combine: Annotated[
        Literal["logits", "probabilities", "normalised"] | None,
        typer.Option(
            "--combine",
            help="Sum logits, probabilities, or logits over their standard deviation (normalised)."
            "  [default: probabilities; of score files that hold logits, logits]",
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
    cross_fit: Annotated[
        int | None,
        typer.Option(
            "--cross-fit",
            metavar="FOLDS",
            help="Divide the clips of the score files into so many folds; the method chooses on all"
            " but one for that one.  [default: 2]",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Draw these folds by it.  [default: 0]")
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
    paper_style: Annotated[
        bool,
        typer.Option(
            "--paper-style",
            help="Say, too, what choosing trials and weights on the test clips would have given.",
        ),
    ] = False,
    called: Annotated[
        str | None,
        typer.Option(
            "--called",
            help="Give the ensemble that the options describe this name."
            "  [default: by its method and what is asked]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write that ensemble here.  [default: asked/NAME in the first sweep]"
        ),
    ] = None,
    uri: Store = "sqlite:///mlflow.db",
    storage: Storage = "runs",
) -> None:
    """Build a sweep's ensembles again, another one of the networks of one or several sweeps, or one
    of score files of any origin.
    """
    if bool(names) == bool(scores):
        raise UserError("ensemble: give the name of a sweep, or --scores and --labels")
    if names:
        from orchestrator.sweep.asked import Asked

        of_files = (labels, labels_from, split, by_position or None, cross_fit, seed)
        if any(each is not None for each in of_files):
            raise UserError(
                "ensemble: --labels, --labels-from, --by-position, --split, --cross-fit and --seed"
                " go with --scores; a sweep's networks are known, and have clips to choose on"
            )
        asked = Asked(method, option or (), budget or (), over or (), per or (), combine, weights)
        shown = {"details": details, "as_json": as_json}
        own = len(names) == 1 and not _is_run(names[0])
        if own and asked.is_empty and called is None and out is None:
            _conclude(names[0], storage, partial=partial, paper_style=paper_style, **shown)
        else:
            _refuse_paper_style(paper_style)
            _combine([*names], asked, _Place(called, out, storage, uri, partial), **shown)
        return
    _refuse_paper_style(paper_style)
    if budget or over or per or called or out:
        raise UserError(
            "ensemble: --budget, --over, --per, --called and --out go with the name of a sweep"
        )
    if partial or storage != "runs":
        raise UserError("ensemble: --partial and --storage go with the name of a sweep")
    if labels is None:
        raise UserError("--labels: must name a label file where --scores is given")
    if method is None and (option or cross_fit is not None or seed is not None):
        raise UserError("ensemble: --option, --cross-fit and --seed go with --method")
    from orchestrator.cli.printing.score_files import print_files_evaluation
    from orchestrator.ensembling.score_files import FilesRequest, evaluate_files
    from orchestrator.sweep.asked import settings_of

    request = FilesRequest(
        scores=tuple(scores or ()),
        labels=labels,
        weights=_numbers(weights),
        combine=combine,
        labels_from=labels_from,
        by_position=by_position,
        split=split,
        method=method,
        options=settings_of(option or (), "--option"),
        folds=2 if cross_fit is None else cross_fit,
        seed=seed or 0,
    )
    print_files_evaluation(evaluate_files(request), details=details, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where sweeps are looked for, and where what is built of them goes."""

    called: str | None
    out: Path | None
    storage: str
    uri: str
    partial: bool


def _combine(
    names: Sequence[str], asked: Asked, place: _Place, *, details: bool, as_json: bool
) -> None:
    """Build and evaluate the ensemble that is asked for."""
    from orchestrator.cli.printing.evaluation import print_weights
    from orchestrator.ensembling.asked import evaluate_asked
    from orchestrator.ensembling.pools import check_ended, pool_of
    from orchestrator.ensembling.results import FILE
    from orchestrator.record.folder import find_folder, held

    runs = [find_folder(name, place.storage) for name in names if not _is_run(name)]
    with ExitStack() as stack:
        for run in sorted({run.resolve(): run for run in runs}.values()):
            stack.enter_context(held(run))
            if not place.partial:
                check_ended(run)
        pool = pool_of(runs, _trials(names, place.uri, stack))
        evaluation, out = evaluate_asked(pool, asked, place.called, place.out)
    _print(evaluation, out, details=details, as_json=as_json, figures=str(out / FILE))
    _say_unended(runs)
    if not as_json:
        print_weights(evaluation)
        _say_reads(runs)
        print(f"files   {out}")


def _say_unended(runs: Sequence[Path]) -> None:
    from orchestrator.ensembling.pools import unended

    for text in filter(None, map(unended, runs)):
        print(text, file=sys.stderr)


def _say_reads(runs: Sequence[Path]) -> None:
    """How often the test labels were read, where it was more than once."""
    from orchestrator.record.journal import read_journal

    for run in runs:
        events = read_journal(run / "journal.jsonl")
        reads = sum(event["event"] == "test_read" for event in events)
        if reads > 1:
            print(
                f"{run.name}: the test labels were read {reads} times; choosing by these figures is"
                " choosing on the test split"
            )


def what_if(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Take the networks of these sweeps, or of MLflow runs (mlflow:RUN).",
        ),
    ],
    method: Method = None,
    option: MethodOptions = None,
    budget: Limits = None,
    over: Over = None,
    per: Per = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Take a preset's weights, or VALUE=WEIGHT,VALUE=WEIGHT."),
    ] = None,
    combine: Annotated[
        Literal["logits", "probabilities", "normalised"] | None,
        typer.Option("--combine", help="Sum these.  [default: probabilities]"),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="CELL", help="Leave this cell out; may be repeated."),
    ] = None,
    front: Annotated[
        Literal["nonzero_params", "latency_ms", "members", "bytes"] | None,
        typer.Option(
            "--front",
            help="Say instead which greedy ensembles no cheaper one is as good as, by this measure"
            " of cost.",
        ),
    ] = None,
    uri: Store = "sqlite:///mlflow.db",
    as_json: Json = False,
    storage: Storage = "runs",
) -> None:
    """Say which networks an ensemble would be made of, and how good it is on the held-out clips it
    is chosen on. The test split stays closed.
    """
    from orchestrator.cli.printing.what_if import print_answer, print_front
    from orchestrator.ensembling.pools import pool_of
    from orchestrator.ensembling.what_if import front_of
    from orchestrator.ensembling.what_if import what_if as answer
    from orchestrator.record.folder import find_folder
    from orchestrator.sweep.asked import Asked, asked_ensemble

    runs = [find_folder(name, storage) for name in names if not _is_run(name)]
    with ExitStack() as stack:
        pool = pool_of(runs, _trials(names, uri, stack)).without(without or ())
        asked = Asked(method, option or (), budget or (), over or (), per or (), combine, weights)
        for cell, why in pool.missing.items():
            print(f"without {cell}: {why}", file=sys.stderr)
        _say_unended(runs)
        if front is not None:
            if not asked.is_empty:
                raise UserError(
                    "--front: is of all cells and chosen by greedy; use --without alone"
                )
            print_front(front_of(pool, front), as_json=as_json)
            return
        axes = pool.axes()
        recipe = asked_ensemble(asked.fields("what-if", axes), axes, held_out=pool.held_out)
        print_answer(answer(pool, recipe), as_json=as_json)


def _is_run(name: str) -> bool:
    return name.startswith(RUN)


def _trials(names: Sequence[str], uri: str, stack: ExitStack) -> dict[str, TrialDir]:
    """The trials that MLflow runs among the names record, by the runs; what has to be downloaded is
    there until the stack is closed.
    """
    runs = [name.removeprefix(RUN) for name in names if _is_run(name)]
    if not runs:
        return {}
    from orchestrator.tracking.find import fetch_scores

    keep = Path(stack.enter_context(TemporaryDirectory()))
    return {run: fetch_scores(uri, run, keep) for run in dict.fromkeys(runs)}


def _numbers(weights: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(weight) for weight in weights.split(",")) if weights else ()
    except ValueError:
        raise UserError(
            f"--weights: must be numbers separated by commas, got '{weights}'"
        ) from None


def _refuse_paper_style(asked: bool) -> None:
    if asked:
        raise UserError(
            "ensemble: --paper-style goes with the name of one sweep and the ensembles of its file"
        )


def _conclude(
    name: str, storage: str, *, partial: bool, paper_style: bool, details: bool, as_json: bool
) -> None:
    from orchestrator.conduct import conclude
    from orchestrator.record.folder import find_folder

    run = find_folder(name, storage)
    evaluation, report = conclude(run, partial=partial, paper_style=paper_style)
    show_evaluation(evaluation, report, run, as_json, details=details)
    _say_unended([run])


def show_evaluation(
    evaluation: FinalEvaluation, report: Path, run: Path, as_json: bool, *, details: bool = False
) -> None:
    """Print what a final evaluation found, and where its report is."""
    from orchestrator.cli.printing.evaluation import print_report
    from orchestrator.record.commands import command

    _print(evaluation, run, details=details, as_json=as_json)
    if not as_json:
        print_report(report, command("ui", run))


def _print(
    evaluation: FinalEvaluation,
    folder: Path,
    *,
    details: bool,
    as_json: bool,
    figures: str = "report/tables/results.csv",
) -> None:
    from orchestrator.cli.printing.evaluation import print_evaluation
    from orchestrator.cli.printing.score_files import print_details

    best = evaluation.headline if details else None
    predictions = evaluation.predictions(folder, best) if best is not None else None
    if as_json:
        content = evaluation.model_dump(mode="json")
        if best is not None and predictions is not None:
            content["details"] = {"name": best.name, **predictions.to_json(best.name)}
        print(json.dumps(content, indent=2))
        return
    print_evaluation(evaluation, figures)
    if best is not None and predictions is not None:
        print_details(predictions, best.name)
