"""Score and label files of any origin, and their ensemble: aligned by sample id where the files
have ids, by position only where none has.
"""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import combine_rows
from orchestrator.ensembling.evaluate import Accuracy, IntArray, Paired, accuracy, paired, ranks
from orchestrator.sweep.presets import Combine
from trainables.contract.errors import UserError
from trainables.contract.pickles import load_pickle
from trainables.contract.scores import Scores

Ids = tuple[str, ...]
MOST_COPIES = 10  # of a test set in one file


@dataclass(frozen=True, eq=False, slots=True)
class ScoreFile:
    """Logits (N, K) in file order, with the sample ids if the file names them."""

    path: Path
    logits: npt.NDArray[np.float32]
    ids: Ids | None


@dataclass(frozen=True, eq=False, slots=True)
class LabelFile:
    """Class numbers (N,) in file order, with the sample ids if the file names them."""

    path: Path
    labels: IntArray
    ids: Ids | None


@dataclass(frozen=True, slots=True)
class FilesEvaluation:
    """What score files give alone and together."""

    aligned: str  # "by id" or "by position"
    notes: tuple[str, ...]  # what the reader should know about how the files were understood
    members: dict[str, Accuracy]
    weights: dict[str, float]
    combine: Combine
    ensemble: Accuracy
    against_best: Paired  # the ensemble against the best single file
    best: str


def evaluate_files(
    scores: Sequence[Path], labels: Path, weights: Sequence[float] = (), combine: Combine = "logits"
) -> FilesEvaluation:
    """Evaluate the weighted sum of score files against a label file; no weights: all equal.

    The best single file is found with the labels of the evaluation itself, so the comparison leans
    towards that file.
    """
    if weights and len(weights) != len(scores):
        raise UserError(
            f"--weights: must be one per score file, got {len(weights)} for {len(scores)} files"
        )
    if not scores:
        raise UserError("--scores: must name at least one file, got none")
    rows, truth, aligned = _align([read_scores(path) for path in scores], read_labels(labels))
    truth, notes = _zero_based(truth, rows[0].shape[1])
    copies = _tiling(rows, truth)
    if copies > 1:
        clips = len(truth) // copies
        rows, truth = [each[:clips] for each in rows], truth[:clips]
        notes += (
            (
                f"rows repeat {copies} times: only the first {clips} are used, so that the standard"
                " error is of distinct clips"
            ),
        )
    names = _short_names(scores)
    factors = [float(weight) for weight in weights] or [1.0] * len(scores)
    together = combine_rows(rows, factors, combine)
    members = {
        name: accuracy(each, truth, logits=True) for name, each in zip(names, rows, strict=True)
    }
    best = max(range(len(names)), key=lambda i: members[names[i]].top1)
    return FilesEvaluation(
        aligned=aligned,
        notes=notes,
        members=members,
        weights=dict(zip(names, factors, strict=True)),
        combine=combine,
        ensemble=accuracy(together, truth, logits=combine == "probabilities"),
        against_best=paired(ranks(together, truth) == 0, ranks(rows[best], truth) == 0),
        best=names[best],
    )


def read_scores(path: Path) -> ScoreFile:
    """Scores from a Parquet table of ours, a .npy array (N, K), or a pickle: {sample: vector} or a
    list of vectors.
    """
    rows, ids = _read(path, SCORE_READERS, "scores")
    try:
        logits = np.asarray(rows, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: every score vector must hold the same number of classes: {error}"
        ) from error
    if logits.ndim != 2 or not logits.size:
        raise UserError(
            f"{path}: scores must be a table (samples, classes), got shape {logits.shape}"
        )
    return ScoreFile(path, logits, _unique(path, ids))


def read_labels(path: Path) -> LabelFile:
    """Labels from Parquet or CSV (columns id, label), .npy (classes or one-hot), .npz (y_test),
    JSON {"labels": [...]} or a pickle.

    A pickle is {sample: class}, (names, classes), a list of classes or a list of records with
    `label` and `file_name` or `id`.
    """
    values, ids = _read(path, LABEL_READERS, "labels")
    try:
        labels = np.asarray(values)
        labels = labels.argmax(axis=1) if labels.ndim == 2 else labels
        whole = labels.astype(np.int64)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: labels must be whole numbers: {error}") from error
    if whole.ndim != 1 or not whole.size or (whole != labels.astype(np.float64)).any():
        raise UserError(
            f"{path}: labels must be a list of whole numbers, got shape {labels.shape}, type"
            f" {labels.dtype}"
        )
    return LabelFile(path, whole, _unique(path, ids))


def _align(
    files: Sequence[ScoreFile], labels: LabelFile
) -> tuple[list[npt.NDArray[np.float32]], IntArray, str]:
    """Rows of all files in one order, and how that order was found."""
    everything: list[ScoreFile | LabelFile] = [*files, labels]
    nameless = [each.path.name for each in everything if each.ids is None]
    if len(nameless) == len(everything):
        counts = {each.path.name: len(each.logits) for each in files} | {
            labels.path.name: len(labels.labels)
        }
        if len(set(counts.values())) > 1:
            raise UserError(f"files without ids must have the same number of rows, got {counts}")
        return [each.logits for each in files], labels.labels, "by position"
    if nameless:
        raise UserError(
            f"either all files or none must name their samples, got none in {', '.join(nameless)}"
        )
    order = sorted(files[0].ids or ())
    for each in files[1:]:
        missing, extra = (
            sorted(set(order) - set(each.ids or ())),
            sorted(set(each.ids or ()) - set(order)),
        )
        if missing or extra:
            difference = f"lacks {len(missing)} {missing[:3]}, adds {len(extra)} {extra[:3]}"
            raise UserError(
                f"{each.path}: must hold the samples of {files[0].path.name}, {difference}"
            )
    # labels of further samples, such as a whole data set's, do no harm
    unlabelled = sorted(set(order) - set(labels.ids or ()))
    if unlabelled:
        raise UserError(
            f"{labels.path}: must hold a label of every scored sample, lacks {len(unlabelled)}"
            f" {unlabelled[:3]}"
        )
    return (
        [each.logits[_positions(each.ids, order)] for each in files],
        labels.labels[_positions(labels.ids, order)],
        "by id",
    )


def _positions(ids: Ids | None, order: Sequence[str]) -> IntArray:
    where = {name: row for row, name in enumerate(ids or ())}
    return np.array([where[name] for name in order], dtype=np.int64)


def _zero_based(labels: IntArray, classes: int) -> tuple[IntArray, tuple[str, ...]]:
    """Labels 1..K can only be meant 1-based: they are shifted, and it is said."""
    if labels.min() >= 1 and labels.max() == classes:
        return labels - 1, (f"labels run from {labels.min()} to {classes}: read as 1-based",)
    return labels, ()


def _tiling(rows: Sequence[npt.NDArray[np.float32]], labels: IntArray) -> int:
    """How often the same block of rows stands one after the other in every file (a loader that
    repeats its test set); 1 if it does not.
    """
    for copies in range(MOST_COPIES, 1, -1):
        if (
            len(labels) % copies == 0
            and _repeats(labels, copies)
            and all(_repeats(each, copies) for each in rows)
        ):
            return copies
    return 1


def _repeats(values: npt.NDArray[np.float32] | IntArray, copies: int) -> bool:
    blocks = values.reshape(copies, -1)
    return len(blocks[0]) > 1 and np.allclose(blocks[1:], blocks[:1], rtol=1e-4, atol=1e-4)


def _short_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """File names without ending, or whole paths where those
    repeat; a file given twice is numbered.
    """
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    return tuple(
        name if names.count(name) == 1 else f"{name}#{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    )


def _unique(path: Path, ids: Sequence[Any] | None) -> Ids | None:
    if ids is None:
        return None
    found = tuple(str(name) for name in ids)
    if len(set(found)) != len(found):
        raise UserError(
            f"{path}: every sample must occur once, got {len(found) - len(set(found))} repeated ids"
        )
    return found


Read = tuple[Any, Sequence[Any] | None]  # values and, if the file has them, ids


def _read(path: Path, readers: dict[str, Callable[[Path], Read]], what: str) -> Read:
    if path.suffix not in readers:
        raise UserError(
            f"{path}: {what} must be a file of type {', '.join(readers)}, got '{path.suffix}'"
        )
    try:
        return readers[path.suffix](path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        pickle.UnpicklingError,
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: not readable as {what}: {type(error).__name__}: {error}"
        ) from error


def _parquet_scores(path: Path) -> Read:
    table = Scores.load(path)
    return table.logits, table.ids


def _parquet_labels(path: Path) -> Read:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    ids = table["id"].to_pylist() if "id" in table.column_names else None
    return table["label"].to_pylist(), ids


def _csv_labels(path: Path) -> Read:
    with path.open(newline="") as stream:
        records = list(csv.DictReader(stream))
    ids = [record["id"] for record in records] if records and "id" in records[0] else None
    words = sorted(
        {record["label"] for record in records if not record["label"].lstrip("-").isdigit()}
    )
    if words:
        raise UserError(
            f"{path}: labels must be class numbers, got '{words[0]}'; a store's clips.parquet has"
            " them"
        )
    return [int(record["label"]) for record in records], ids


def _npy(path: Path) -> Read:
    return np.load(path, allow_pickle=False), None


def _npz_labels(path: Path) -> Read:
    with np.load(path, allow_pickle=False) as archive:
        return archive["y_test"], None


def _json_labels(path: Path) -> Read:
    content = json.loads(path.read_text())
    return (
        (content["labels"], content.get("ids")) if isinstance(content, dict) else _records(content)
    )


def _pickle_scores(path: Path) -> Read:
    content = load_pickle(path)
    return (list(content.values()), list(content)) if isinstance(content, dict) else (content, None)


def _pickle_labels(path: Path) -> Read:
    content = load_pickle(path)
    if isinstance(content, dict):
        return list(content.values()), list(content)
    if (
        isinstance(content, tuple | list)
        and len(content) == 2
        and isinstance(content[0], list | tuple)
    ):
        return content[1], content[0]
    return _records(content)


def _records(content: Any) -> Read:
    """A list of classes, or of records that each hold a label and perhaps a name."""
    if not (isinstance(content, list) and content and isinstance(content[0], dict)):
        return content, None
    key = next((name for name in ("id", "file_name") if name in content[0]), None)
    return [record["label"] for record in content], (
        None if key is None else [record[key] for record in content]
    )


SCORE_READERS: dict[str, Callable[[Path], Read]] = {
    ".parquet": _parquet_scores,
    ".npy": _npy,
    ".pkl": _pickle_scores,
    ".pickle": _pickle_scores,
}
LABEL_READERS: dict[str, Callable[[Path], Read]] = {
    ".parquet": _parquet_labels,
    ".csv": _csv_labels,
    ".npy": _npy,
    ".npz": _npz_labels,
    ".json": _json_labels,
    ".pkl": _pickle_labels,
    ".pickle": _pickle_labels,
}
