"""The commands about ensembles: of a sweep's networks, and of score files of any origin."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.commands.ensemble_options import (
    ByPosition,
    Called,
    CrossFit,
    Details,
    FoldSeed,
    LabelFile,
    LabelsFrom,
    Limits,
    Method,
    MethodForNetworks,
    MethodOptions,
    Out,
    Over,
    PaperStyle,
    Partial,
    Per,
    ScoreFiles,
    Split,
    Store,
)
from orchestrator.cli.commands.options import Json, Storage
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.ensembling.results import FinalEvaluation
    from orchestrator.sweep.asked import Asked
    from trainables.contract.artifacts import TrialDir

RUN = "mlflow:"
"""Before the id of an MLflow run, in place of a sweep's name."""


def ensemble(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
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
    scores: ScoreFiles = None,
    labels: LabelFile = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            help="Give one weight per score file, separated by commas, and repeat it to compare"
            " several; for a sweep a preset's name or VALUE=WEIGHT,VALUE=WEIGHT.",
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
    labels_from: LabelsFrom = None,
    by_position: ByPosition = False,
    split: Split = None,
    cross_fit: CrossFit = None,
    seed: FoldSeed = None,
    details: Details = False,
    as_json: Json = False,
    partial: Partial = False,
    paper_style: PaperStyle = False,
    called: Called = None,
    out: Out = None,
    uri: Store = "sqlite:///mlflow.db",
    storage: Storage = "runs",
) -> None:
    """Build a sweep's ensembles again, another one of the networks of one or several sweeps, or one
    of score files of any origin.
    """
    from orchestrator.sweep.asked import Asked

    if bool(names) == bool(scores):
        raise UserError("ensemble: give the name of a sweep, or --scores and --labels")
    first, others = (weights[0], weights[1:]) if weights else (None, [])
    files = _Files(labels, labels_from, by_position, split, cross_fit, seed, tuple(others) or None)
    asked = Asked(method, option or (), budget or (), over or (), per or (), combine, first)
    place = _Place(called, out, storage, uri, partial)
    shown = _Shown(details, as_json)
    if names:
        if others:
            raise UserError("--weights: must be given once for a sweep's networks")
        if files.any_given:
            raise UserError(
                "ensemble: --labels, --labels-from, --by-position, --split, --cross-fit and --seed"
                " go with --scores; a sweep's networks are known, and have clips to choose on"
            )
        _of_networks(names, asked, place, shown, paper_style=paper_style)
    else:
        _refuse_paper_style(paper_style)
        _of_files(scores or (), files, asked, place, shown)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where sweeps are looked for, and where what is built of them goes."""

    called: str | None
    out: Path | None
    storage: str
    uri: str
    partial: bool


@dataclass(frozen=True, slots=True)
class _Files:
    """What goes with score files alone; None or False where it is not given."""

    labels: Path | None
    labels_from: int | None
    by_position: bool
    split: str | None
    cross_fit: int | None
    seed: int | None
    weights: tuple[str, ...] | None  # to compare with the first ones

    @property
    def any_given(self) -> bool:
        return any(given is not None and given is not False for given in astuple(self))


@dataclass(frozen=True, slots=True)
class _Shown:
    """How results are shown."""

    details: bool
    as_json: bool


def _of_networks(
    names: Sequence[str], asked: Asked, place: _Place, shown: _Shown, *, paper_style: bool
) -> None:
    """The ensembles of one sweep again, or the one that is asked for."""
    one = len(names) == 1 and not _is_run(names[0])
    if one and asked.is_empty and place.called is None and place.out is None:
        _conclude(names[0], place, shown, paper_style=paper_style)
    else:
        _refuse_paper_style(paper_style)
        _combine([*names], asked, place, shown)


def _of_files(
    scores: Sequence[Path], files: _Files, asked: Asked, place: _Place, shown: _Shown
) -> None:
    """The ensemble of score files; UserError for what goes with sweeps."""
    if asked.budget or asked.over or asked.per or place.called or place.out:
        raise UserError(
            "ensemble: --budget, --over, --per, --called and --out go with the name of a sweep"
        )
    if place.partial or place.storage != "runs":
        raise UserError("ensemble: --partial and --storage go with the name of a sweep")
    if files.labels is None:
        raise UserError("--labels: must name a label file where --scores is given")
    chosen = bool(asked.options) or files.cross_fit is not None or files.seed is not None
    if asked.method is None and chosen:
        raise UserError("ensemble: --option, --cross-fit and --seed go with --method")
    from orchestrator.cli.printing.score_files import print_files_evaluation
    from orchestrator.ensembling.score_files import FilesRequest, evaluate_files
    from orchestrator.sweep.asked import settings_of

    request = FilesRequest(
        scores=tuple(scores),
        labels=files.labels,
        weights=_numbers(asked.weights),
        others=tuple(map(_numbers, files.weights or ())),
        combine=asked.combine,
        labels_from=files.labels_from,
        by_position=files.by_position,
        split=files.split,
        method=asked.method,
        options=settings_of(asked.options, "--option"),
        folds=2 if files.cross_fit is None else files.cross_fit,
        seed=files.seed or 0,
    )
    print_files_evaluation(evaluate_files(request), details=shown.details, as_json=shown.as_json)


def _combine(names: Sequence[str], asked: Asked, place: _Place, shown: _Shown) -> None:
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
    _print(evaluation, out, shown, figures=str(out / FILE))
    _say_unended(runs)
    if not shown.as_json:
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
            metavar="NAME",
            help="Take the networks of these sweeps, or of MLflow runs (mlflow:RUN).",
        ),
    ],
    method: MethodForNetworks = None,
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
        Literal["nonzero_params", "latency_ms", "sparse_latency_ms", "members", "bytes"] | None,
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


def _conclude(name: str, place: _Place, shown: _Shown, *, paper_style: bool) -> None:
    from orchestrator.conduct import conclude
    from orchestrator.record.folder import find_folder

    run = find_folder(name, place.storage)
    evaluation, report = conclude(run, partial=place.partial, paper_style=paper_style)
    show_evaluation(evaluation, report, run, shown.as_json, details=shown.details)
    _say_unended([run])


def show_evaluation(
    evaluation: FinalEvaluation, report: Path, run: Path, as_json: bool, *, details: bool = False
) -> None:
    """Print what a final evaluation found, and where its report is."""
    from orchestrator.cli.printing.evaluation import print_report
    from orchestrator.record.commands import command

    _print(evaluation, run, _Shown(details, as_json))
    if not as_json:
        print_report(report, command("ui", run))


def _print(
    evaluation: FinalEvaluation,
    folder: Path,
    shown: _Shown,
    figures: str = "report/tables/results.csv",
) -> None:
    from orchestrator.cli.printing.evaluation import print_evaluation
    from orchestrator.cli.printing.score_files import print_details

    best = evaluation.headline if shown.details else None
    predictions = evaluation.predictions(folder, best) if best is not None else None
    if shown.as_json:
        content = evaluation.model_dump(mode="json")
        if best is not None and predictions is not None:
            content["details"] = {"name": best.name, **predictions.to_json(best.name)}
        print(json.dumps(content, indent=2))
        return
    print_evaluation(evaluation, figures)
    if best is not None and predictions is not None:
        print_details(predictions, best.name)
