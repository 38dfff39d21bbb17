"""What a sweep's files say, in MLflow's terms: params, metrics, artifacts, pictures. Knows files,
imports no MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.copies import here
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import (
    EPOCH_METRICS,
    FUSED,
    LATENCIES,
    Latency,
    TrialDir,
    load_curve,
)
from trainables.contract.config import TrialConfig

FIRST_EPOCH = 1
"""What people call the epoch that files call 0: MLflow's steps and `best/epoch` count from it."""


DETAILS = "details/"
"""Begins the metrics that few people sort by; MLflow's pages have a section of such."""
WEIGHTS = "checkpoint"
"""Folder of the artifacts with the weights of a dense trial, from which others can start: as large
again as its deploy form. Sparse ones keep theirs in their folders alone.
"""

FOREMOST = (
    "test_top1",
    "test_top1_low",
    "test_top1_high",
    "best/selection_top1",
    "best/epoch",
    "deploy_nonzero_params",
    "deploy_bytes",
    "deploy_gmacs",
    "deploy_latency_ms",
    "sparse_latency_ms",
    "members",
)
"""The others, the same of networks and ensembles; a network of several levels has its own too."""


def keyed(figures: Mapping[str, float]) -> dict[str, float]:
    """Final figures under the names that MLflow has for them."""
    return {
        key
        if key in FOREMOST or key.startswith(LEVEL)
        else DETAILS + key.removeprefix("best/"): value
        for key, value in figures.items()
    }


LEVEL = "level/"


def run_name(cell: str, config: TrialConfig, searched: Mapping[str, Any]) -> str:
    """What a trial is, as reports call it: its cell, what was searched in it, and its seed where it
    is not the first.
    """
    sparsity = config.sparsity
    kind = "dense" if sparsity.dense else sparsity.described
    cell = cell or f"{config.model.backbone} {config.data.stream_name} {kind}"
    values = [f"{leaf.rpartition('.')[2]} {label(value)}" for leaf, value in searched.items()]
    seed = [f"seed {config.seed}"] if config.seed else []
    return ", ".join([cell, *values, *seed])


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"lr": 0.1}} -> {"train.lr": 0.1}."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat


def described_by(cell: str, config: TrialConfig, axes: Mapping[str, Any]) -> dict[str, str]:
    """Tags that a trial is searched and grouped by."""
    return {
        "cell": cell,
        "backbone": config.model.backbone,
        "stream": config.data.stream_name,
        "sparsity": config.sparsity.described,
        "stage": "train",
        **{f"axis.{axis}": str(value) for axis, value in axes.items()},
    }


def described_by_members(run: Path, row: Row) -> dict[str, str]:
    """The same tags of an ensemble: each value that its networks have, once."""
    configs = [TrialDir(run / "trials" / trial).load_config() for trial in row.trials]
    values = {
        "backbone": [config.model.backbone for config in configs],
        "stream": [config.data.stream_name for config in configs],
        "sparsity": [config.sparsity.described for config in configs],
    }
    return {
        "stage": "ensemble",
        "members": " ".join(row.trials),
        **{tag: " + ".join(dict.fromkeys(found)) for tag, found in values.items()},
    }


def final_metrics(folder: TrialDir) -> dict[str, float]:
    """What a finished trial is compared by: the kept epoch under `best/`, each level's top-1 under
    `level/`, the deploy form under `deploy_`; what few people sort by under `details/`.
    """
    result = folder.load()
    known = result.metrics()
    best = {
        f"best/{name}": known[name]
        for name in ("selection_top1", "selection_top5", "selection_loss")
        if name in known
    }
    deploy = (
        "params",
        "nonzero_params",
        "bytes",
        "gmacs",
        "peak_mb",
        "latency_ms",
        "batch64_latency_ms",
        "max_abs_diff",
    )
    sparse = ("sparse_latency_ms", "sparse_batch64_latency_ms")
    sizes = ("nonzero_params", *(f"deploy_{name}" for name in deploy), *sparse, "seconds")
    levels = {
        f"{LEVEL}{level_result.level}": level_result.selection_top1
        for level_result in result.levels
        if level_result.selection_top1 is not None and level_result.level != FUSED
    }
    return keyed(
        {
            **best,
            "best/epoch": known["kept_epoch"] + FIRST_EPOCH,
            **levels,
            **{name: known[name] for name in sizes if name in known},
        }
    )


def latency_metrics(latency: Latency) -> dict[str, float]:
    """How long a network takes that was timed later, as far as it is known."""
    found = {name: getattr(latency, name) for name in LATENCIES}
    return keyed({name: value for name, value in found.items() if value is not None})


def network_metrics(row: Row) -> dict[str, float]:
    """What the final evaluation adds to a network's own metrics."""
    found, spread, sure = {"test_top1": row.test.top1}, row.seeds, row.calibration
    if row.test.interval is not None:
        found["test_top1_low"], found["test_top1_high"] = row.test.interval
    if spread is not None:
        found |= {"test_top1_mean": spread.test_mean, "test_top1_std": spread.test_std}
    if row.test.cross_entropy is not None:
        found["test_log_loss"] = row.test.cross_entropy
    return keyed(found | ({"test_ece": sure.ece} if sure else {}))


def ensemble_metrics(run: Path, row: Row) -> dict[str, float]:
    """Accuracy and size of an ensemble of the sweep in the folder `run`, under the names that a
    single network has.
    """
    members = [TrialDir(run / "trials" / trial).load().metrics() for trial in set(row.trials)]
    shipped = [each["deploy_bytes"] for each in members if "deploy_bytes" in each]
    size = row.size.model_dump(exclude={"params", "nonzero_params"})
    sizes = {
        name if name.startswith(("deploy_", "sparse_")) else f"deploy_{name}": value
        for name, value in size.items()
        if isinstance(value, int | float) and name != "latency_threads"
    }
    best = {"best/selection_top1": row.selection.top1} if row.selection else {}
    lucky = {"best/selection_top1_corrected": row.luck.corrected} if row.luck else {}
    return network_metrics(row) | keyed(
        {
            **best,
            **lucky,
            "nonzero_params": row.size.nonzero_params,
            **sizes,
            **({"deploy_bytes": sum(shipped)} if len(shipped) == len(members) else {}),
            "members": len(row.trials),
        }
    )


def ensemble_params(row: Row) -> dict[str, Any]:
    """How an ensemble was built."""
    return {
        "method": row.method,
        "combine": row.combine,
        "sources": " ".join(row.weights),
        "weights": json.dumps(row.weights),
        "missing": " ".join(row.missing),
        **{f"axis.{axis}": value for axis, value in row.axes.items()},
    }


def history_of(folder: TrialDir) -> list[tuple[int, dict[str, float]]]:
    """(epoch, metrics) of a finished trial; nothing for one that never finished."""
    columns = load_curve(folder.metrics_file)
    names = [name for name in EPOCH_METRICS if name in columns]
    return [
        (int(epoch), {name: columns[name][row] for name in names if columns[name][row] is not None})
        for row, epoch in enumerate(columns.get("epoch", ()))
    ]


def artifacts_of(folder: TrialDir, *, finished: bool) -> dict[str, Path]:
    """The files of a trial that are worth keeping with its run and are there, by the names that
    they have there: of checkpoints, the weights of a dense one that has finished.
    """
    files = (
        folder.config_file,
        folder.metrics_file,
        folder.deploy_file,
        folder.selection_scores,
        folder.test_scores,
        folder.cost_file,
        folder.sparsity_file,
        folder.levels_file,
        folder.result_file,
        folder.failure_file,
    )
    found = {path.name: path for path in files if path.is_file()}
    if finished and folder.load_config().sparsity.dense and folder.kept_file.is_file():
        found[f"{WEIGHTS}/{folder.kept_file.name}"] = folder.kept_file
    return found


def draw_matrix(run: Path, row: Row, evaluation: FinalEvaluation, out: Path) -> list[Path]:
    """The confusion matrix of an ensemble on the test clips; none where evaluations lack it."""
    from orchestrator.report.figures import draw_confusion

    found = evaluation.predictions(run, row)
    if found is None or row.name not in found.firsts:
        return []
    title, path = f"{row.name}, test split", out / "confusion.png"
    return [draw_confusion(found.confusion(row.name), title, path, found.classes)]


def draw(folder: TrialDir, out: Path) -> list[Path]:
    """Training curves, confusion matrix and kept weights of a trial, as far as its files allow."""
    from orchestrator.ensembling.classes import confusion
    from orchestrator.report.figures import draw_confusion, draw_curves, draw_kept
    from trainables.contract.scores import Scores

    drawn: list[Path] = []
    if folder.metrics_file.is_file():
        drawn.append(draw_curves({folder.path.name: folder.metrics_file}, out / "curves.png"))
    if folder.sparsity_file.is_file():
        drawn.append(draw_kept(folder.sparsity_file, out / "kept.png"))
    if folder.selection_scores.is_file():
        scores = Scores.load(here(folder.selection_scores))
        if scores.labels is not None:
            drawn.append(
                draw_confusion(
                    confusion(scores.logits.argmax(axis=1), scores.labels, scores.logits.shape[1]),
                    f"{folder.path.name}, selection split",
                    out / "confusion.png",
                )
            )
    return drawn
