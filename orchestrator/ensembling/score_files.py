"""Score and label files of any origin, and their ensemble.

Knows what scores are good for; how files are read is in `readers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.combine import weighted_sum
from orchestrator.ensembling.evaluate import (
    Accuracy,
    IntArray,
    Paired,
    accuracy,
    paired,
    ranks,
)
from orchestrator.ensembling.readers.alignment import align
from orchestrator.ensembling.readers.files import read_labels, read_scores
from orchestrator.ensembling.readers.tables import LabelTable, ScoreTable
from orchestrator.ensembling.row_order import check_order
from orchestrator.sweep.presets import Combine
from trainables.contract.errors import UserError

ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True)
class FilesRequest:
    """Which files are evaluated, and what the person says of them."""

    scores: tuple[Path, ...]
    labels: Path
    weights: tuple[float, ...] = ()  # one per score file; none: all equal
    # None: logits, or probabilities where the files hold them
    combine: Combine | None = None
    labels_from: int | None = None  # the first class's number; None: the labels must say
    by_position: bool = False  # rows without names stand in the order of those with names
    split: str | None = None  # the part of a PYSKL annotation file that was scored


@dataclass(frozen=True, eq=False, slots=True)
class FilesEvaluation:
    """What score files give alone and together."""

    aligned: str  # "by id" or "by position"
    notes: tuple[str, ...]  # what the reader should know about how the files were understood
    members: dict[str, Accuracy]
    weights: dict[str, float]
    combine: Combine
    ensemble: Accuracy
    # the ensemble against the best single file, or against each of those that are equally good
    against_best: dict[str, Paired]
    predictions: Predictions  # of every file and of the ensemble

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions."""
        return {
            "clips": self.ensemble.clips,
            "aligned": self.aligned,
            "notes": list(self.notes),
            "combine": self.combine,
            "weights": self.weights,
            "members": {name: found.model_dump() for name, found in self.members.items()},
            "ensemble": self.ensemble.model_dump(),
            "against_best": {name: found.model_dump() for name, found in self.against_best.items()},
        }


def evaluate_files(request: FilesRequest) -> FilesEvaluation:
    """Evaluate the weighted sum of score files against a label file.

    The best single file is found with the labels of the evaluation itself, so the comparison leans
    towards that file.
    """
    paths, weights = request.scores, request.weights
    if not paths:
        raise UserError("--scores: must name at least one file, got none")
    if weights and len(weights) != len(paths):
        raise UserError(
            f"--weights: must be one per score file, got {len(weights)} for {len(paths)} files"
        )
    files = [read_scores(path) for path in paths]
    labels = read_labels(request.labels, request.split)
    combine, notes = _combine(files, request.combine)
    table = align(files, labels, by_position=request.by_position)
    classes = files[0].values.shape[1]
    first = _first_class(labels, classes, request.labels_from)
    truth = _class_numbers(labels, table.labels, classes, first)
    names = _short_names(paths)
    factors = weights or (1.0,) * len(paths)
    together = weighted_sum(table.logits, factors, combine)
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
        notes=(*notes, *table.notes, *order),
        members=members,
        weights=dict(zip(names, factors, strict=True)),
        combine=combine,
        ensemble=accuracy(together, truth, logits=combine == "probabilities"),
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
    )


def _combine(files: Sequence[ScoreTable], asked: Combine | None) -> tuple[Combine, tuple[str, ...]]:
    """What is summed; UserError where that would mix probabilities with logits in silence."""
    soft = [each.path.name for each in files if each.probabilities]
    hard = [each.path.name for each in files if not each.probabilities]
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
