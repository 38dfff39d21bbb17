"""Score and label files of any origin, and their ensemble.

Knows what scores are good for; how files are read is in `readers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.combine import ranks_of_sums, weighted_sum
from orchestrator.ensembling.cross_fitting import cross_fitted
from orchestrator.ensembling.evaluate import (
    Accuracy,
    FloatArray,
    IntArray,
    Paired,
    accuracy,
    accuracy_of_ranks,
    paired,
    ranks,
)
from orchestrator.ensembling.readers.alignment import Aligned, align
from orchestrator.ensembling.readers.files import read_labels, read_scores
from orchestrator.ensembling.readers.tables import LabelTable, ScoreTable
from orchestrator.ensembling.row_order import check_order
from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.ensembling.sums import Weights
from orchestrator.sweep.presets import Combine
from orchestrator.sweep.strategies import STRATEGIES, StrategyCard
from trainables.contract.errors import UserError, in_words

ENSEMBLE = "ensemble"
TOO_NARROW = (
    "the 95 % interval of chosen weights is Wilson's, for independent clips; the folds share what"
    " weights are chosen on, so that it covers about 90 % of planted cases"
)

LEANS = (
    "the best of several weights looks better here than it is: the labels that it is picked by are"
    " those that it is judged by"
)


@dataclass(frozen=True, slots=True)
class FilesRequest:
    """Which files are evaluated, and what the person says of them."""

    scores: tuple[Path, ...]
    labels: Path
    weights: tuple[float, ...] = ()  # one per score file; none: all equal
    others: tuple[tuple[float, ...], ...] = ()  # further weights to compare with, one per file each
    # None: logits, or probabilities where the files hold them
    combine: Combine | None = None
    labels_from: int | None = None  # the first class's number; None: the labels must say
    by_position: bool = False  # rows without names stand in the order of those with names
    split: str | None = None  # the part of a PYSKL annotation file that was scored
    method: str | None = None  # the strategy that chooses the weights
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method
    folds: int = 2  # of the clips; a method chooses on all but one for that one
    seed: int = 0  # of the folds


@dataclass(frozen=True, slots=True)
class ChosenWeights:
    """How the weights were chosen: for each fold of the clips on all other folds."""

    method: str
    options: dict[str, Any]  # all of them, defaults too
    folds: int
    seed: int
    mean: Accuracy  # of all files with equal weights
    against_mean: Paired  # the ensemble against it


@dataclass(frozen=True, eq=False, slots=True)
class FilesEvaluation:
    """What score files give alone and together."""

    aligned: str  # "by id" or "by position"
    notes: tuple[str, ...]  # what the reader should know about how the files were understood
    members: dict[str, Accuracy]
    weights: dict[str, float]  # where a method chose them, their shares, the mean over the folds
    combine: Combine
    ensemble: Accuracy
    chosen: ChosenWeights | None  # None: the weights were given
    # the ensemble against the best single file, or against each of those that are equally good
    against_best: dict[str, Paired]
    predictions: Predictions  # of every file and of the ensemble
    others: tuple[tuple[dict[str, float], Accuracy], ...] = ()  # further weights, what they give

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions; the figures of the ensemble stand at the top."""
        content = {
            **figures(self.ensemble),
            "aligned": self.aligned,
            "notes": list(self.notes),
            "combine": self.combine,
            "weights": self.weights,
            "members": {name: figures(found) for name, found in self.members.items()},
            "against_best": {name: found.model_dump() for name, found in self.against_best.items()},
        }
        if self.others:
            content["others"] = [
                {"weights": given, **figures(found)} for given, found in self.others
            ]
        if self.chosen is not None:
            content |= {
                "method": self.chosen.method,
                "options": self.chosen.options,
                "folds": self.chosen.folds,
                "seed": self.chosen.seed,
                "mean": figures(self.chosen.mean),
                "against_mean": self.chosen.against_mean.model_dump(),
            }
        return content


def figures(found: Accuracy) -> dict[str, Any]:
    """An accuracy under the names that `--json` has for it."""
    return {
        "top1": found.top1,
        "top5": found.top5,
        "mean_class": found.mean_class,
        "correct": found.right,
        "samples": found.clips,
        "stderr": found.top1_error,
        "interval": found.interval,
        "cross_entropy": found.cross_entropy,
    }


def evaluate_files(request: FilesRequest) -> FilesEvaluation:
    """Evaluate the weighted sum of score files against a label file.

    The best single file is found with the labels of the evaluation itself, so the comparison leans
    towards that file.
    """
    paths, weights = request.scores, request.weights
    if not paths:
        raise UserError("--scores: must name at least one file, got none")
    for each in (weights, *request.others):
        if each and len(each) != len(paths):
            raise UserError(
                f"--weights: must be one per score file, got {len(each)} for {len(paths)} files"
            )
    card = _card(request)
    files = [read_scores(path) for path in paths]
    labels = read_labels(request.labels, request.split)
    combine, notes = _combine(files, request.combine, card)
    table = align(files, labels, by_position=request.by_position)
    classes = files[0].values.shape[1]
    first = _first_class(labels, classes, request.labels_from)
    truth = _class_numbers(labels, table.labels, classes, first)
    sources = _sources(_short_names(paths), table, truth, combine)
    names = sources.members
    given = dict(zip(names, weights or (1.0,) * len(paths), strict=True))
    try:
        together, chosen = weighted_sum(table.logits, list(given.values()), combine), None
        others = _compared(request.others, names, table, truth, combine)
    except UserError as error:
        raise UserError(f"--weights: {error}") if weights else error from error
    if card is not None:
        together, given, chosen = _cross_fitted(card, request, sources, together)
    members = {
        name: accuracy(rows, truth, logits=True)
        for name, rows in zip(names, table.logits, strict=True)
    }
    rows_of = dict(zip(names, table.values, strict=True))
    order = () if table.how == "by id" else check_order(rows_of, members, truth)
    firsts = {name: rows.argmax(axis=1) for name, rows in rows_of.items()}
    top = max(found.right for found in members.values())
    hits = ranks(together, truth) == 0
    return FilesEvaluation(
        aligned=table.how,
        notes=(*notes, *table.notes, *order, *_doubts(card), *([LEANS] if others else [])),
        members=members,
        weights=given,
        combine=combine,
        ensemble=accuracy(together, truth, logits=_means_probabilities(combine, card)),
        chosen=chosen,
        against_best={
            name: paired(hits, firsts[name] == truth)
            for name, found in members.items()
            if found.right == top and len(members) > 1  # one file is its own ensemble
        },
        predictions=Predictions(
            ids=table.ids or tuple(f"row {row}" for row in range(len(truth))),
            labels=truth,
            classes=tuple(map(str, range(together.shape[1]))),
            firsts={**firsts, ENSEMBLE: together.argmax(axis=1)},
        ),
        others=others,
    )


def _compared(
    others: Sequence[Sequence[float]],
    names: Sequence[str],
    table: Aligned,
    truth: IntArray,
    combine: Combine,
) -> tuple[tuple[dict[str, float], Accuracy], ...]:
    """What further weights of the same files give, all in one pass over them."""
    if not others:
        return ()
    found = ranks_of_sums(table.logits, [Weights(each, combine) for each in others], truth)
    return tuple(
        (dict(zip(names, each, strict=True)), accuracy_of_ranks(rank, truth))
        for each, rank in zip(others, found, strict=True)
    )


def _cross_fitted(
    card: StrategyCard, request: FilesRequest, sources: Sources, mean: FloatArray
) -> tuple[FloatArray, dict[str, float], ChosenWeights]:
    """The combined scores (N, K) of clips that had no part in choosing, and each source's mean
    share of the weight. mean: (N, K), of all sources with equal weights.
    """
    try:
        options = card.options.model_validate(dict(request.options))
    except ValidationError as error:
        raise UserError.of(
            f"--option {'.'.join(map(str, each['loc']))}: {in_words(each['msg'])}"
            for each in error.errors()
        ) from error
    choose, truth = card.load(), sources.labels
    if not 2 <= request.folds <= len(truth):
        raise UserError(
            f"--cross-fit: must be at least 2 and at most the {len(truth)} clips, got"
            f" {request.folds}: weights look better than they are on the clips they are chosen on"
        )
    found = cross_fitted(sources, lambda part: choose(part, options), request.folds, request.seed)
    chosen = ChosenWeights(
        method=card.name,
        options=options.model_dump(mode="json"),
        folds=request.folds,
        seed=request.seed,
        mean=accuracy(mean, truth, logits=sources.combine == "probabilities"),
        against_mean=paired(ranks(found.rows, truth) == 0, ranks(mean, truth) == 0),
    )
    return found.rows, found.mean_weights(sources.members), chosen


def _doubts(card: StrategyCard | None) -> tuple[str, ...]:
    return (TOO_NARROW,) if card is not None and card.needs_selection else ()


def _means_probabilities(combine: Combine, card: StrategyCard | None) -> bool:
    return combine == "probabilities" or (card is not None and card.fits_probabilities)


def _sources(names: Sequence[str], table: Aligned, truth: IntArray, combine: Combine) -> Sources:
    values = np.stack(table.logits).astype(np.float32, copy=False)
    ids = table.ids or tuple(f"row {row}" for row in range(len(truth)))
    for array in (values, truth):
        array.setflags(write=False)
    return Sources(tuple(names), values, truth, ids, {}, combine=combine)


def _card(request: FilesRequest) -> StrategyCard | None:
    """The strategy that is asked for; None for given weights."""
    if request.method is None:
        return None
    try:
        card = STRATEGIES.find(request.method)
    except UserError as error:
        raise UserError(f"--method: {error}") from error
    if not card.needs_selection and not card.takes_weights:
        raise UserError(
            f"--method: {card.name} chooses no weights: leave it out, or give --weights"
        )
    if card.takes_weights:
        raise UserError(f"--method: {card.name} takes weights: give them with --weights alone")
    if request.weights:
        raise UserError(f"--weights: must not be given where --method {card.name} finds them")
    return card


def _combine(
    files: Sequence[ScoreTable], asked: Combine | None, card: StrategyCard | None
) -> tuple[Combine, tuple[str, ...]]:
    """What is summed; UserError where that would mix probabilities with logits in silence."""
    soft = [each.path.name for each in files if each.probabilities]
    hard = [each.path.name for each in files if not each.probabilities]
    only = card.combine if card is not None else None
    if card is not None and only is not None:
        if asked not in (None, only):
            raise UserError(f"--combine: must be {only} for method {card.name}, got {asked}")
        return only, tuple(
            f"{name} holds probabilities (rows that sum to 1): their logarithms are summed"
            for name in soft
        )
    if asked == "probabilities":
        return asked, tuple(
            f"{name} holds probabilities (rows that sum to 1): no softmax is taken of them"
            for name in soft
        )
    if soft and (hard or asked is not None):
        others = f", {', '.join(hard)} logits" if hard else ""
        raise UserError(
            f"--combine: must be probabilities where files hold them, got {asked or 'none'}:"
            f" {', '.join(soft)} holds probabilities (rows that sum to 1){others}"
        )
    if soft:
        return "probabilities", ("every file holds probabilities: their weighted mean is taken",)
    return asked or "logits", ()


def _first_class(table: LabelTable, classes: int, asked: int | None) -> int:
    """The number of the first class, 0 or 1; UserError where the labels do not tell."""
    lowest, highest = int(table.labels.min()), int(table.labels.max())
    if table.one_hot and asked:
        raise UserError(f"--labels-from: one-hot labels have no numbers, got {asked}: {table.path}")
    if asked is None and lowest >= 1 and not table.one_hot:
        ask = (
            "which is how labels that count from 1 look: say --labels-from 1"
            if highest == classes
            else "so it is not known whether they count from 0 or from 1: say --labels-from 0 or"
            " --labels-from 1"
        )
        raise UserError(
            f"{table.path}: labels of {classes} classes run from {lowest} to {highest}, {ask}"
        )
    return asked or 0


def _class_numbers(table: LabelTable, labels: IntArray, classes: int, first: int) -> IntArray:
    """The labels of the scored clips, counted from 0; UserError where there is no such class."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < first or highest - first >= classes:
        raise UserError(
            f"{table.path}: labels must be class numbers {first} to {classes - 1 + first}, got"
            f" {lowest} to {highest}"
        )
    return labels - first


def _short_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """File names without ending, or whole paths where those repeat or one is `ensemble`; a file
    given twice is numbered.
    """
    stems = [path.stem for path in paths]
    unique = len(set(stems)) == len(stems) and ENSEMBLE not in stems
    names = stems if unique else [str(path) for path in paths]
    return tuple(
        name if names.count(name) == 1 else f"{name}#{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    )
