"""The folder of a sweep without any training: a small store, trials whose scores are made up, and
the list of what was planned.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.sweep import EnsembleConfig, MetricLimit, Objective
from trainables.contract.artifacts import Cost, TrialDir, TrialResult
from trainables.contract.config import (
    DataConfig,
    SelectionConfig,
    SparsityConfig,
    TrainConfig,
    TrialConfig,
)
from trainables.contract.disk import write_json
from trainables.contract.scores import Scores
from trainables.data.store.reading import Clip, Description, ProtocolRule, write_store
from trainables.layouts import Layout

CLASSES = 3
SELECTION, TEST = 12, 30
PAIR = Layout("pair", ("hip", "head"), (0, 0), origin=0)


def make_store(path, copies: int = 0) -> None:
    """One training subject, one for selection, one for testing; the first `copies` test clips are
    copies of a training clip.
    """
    generator = np.random.default_rng(0)
    parts = {"a": (1, 6), "b": (2, SELECTION), "c": (3, TEST)}
    joints = {
        f"{part}{i:02d}": generator.normal(size=(1, 4, 2, 3)).astype(np.float32)
        for part, (_, n) in parts.items()
        for i in range(n)
    }
    joints |= {f"c{i:02d}": joints["a00"] for i in range(copies)}
    clips = [
        Clip(id=name, label=int(name[1:]) % CLASSES, joints=each, subject=parts[name[0]][0])
        for name, each in sorted(joints.items())
    ]
    rule = ProtocolRule(column="subject", train=(1,), test=(3,), selection=(2,))
    description = Description(
        name="pairs",
        layout={"name": "pair", "joints": PAIR.joints, "parents": PAIR.parents, "origin": 0},
        classes=("sit", "stand", "wave"),
        pipeline="ctr",
        protocols={"xsub": rule},
    )
    write_store(path, clips, description)


def scores(part: str, count: int, wrong, labelled: bool, sharpness: float = 2.0) -> Scores:
    """Scores of the clips of one part; those numbered in `wrong` are taken for the next class,
    weakly.
    """
    labels = np.arange(count) % CLASSES
    logits = np.zeros((count, CLASSES), dtype=np.float32)
    logits[np.arange(count), labels] = sharpness
    for i in wrong:
        logits[i] = 0.0
        logits[i, (labels[i] + 1) % CLASSES] = 0.5
    return Scores.of([f"{part}{i:02d}" for i in range(count)], logits, labels if labelled else None)


@dataclass
class Trial:
    """One trial to make up."""

    stream: str
    level: float
    lr: float = 0.1
    seed: int = 0
    wrong_selection: tuple[int, ...] = ()
    wrong_test: tuple[int, ...] = ()
    state: str = "complete"  # or "failed", "unfinished"
    latency: float = 1.5
    test_count: int = TEST
    in_one_cell: bool = False  # whatever the level, which is then searched
    name: str = field(default="", init=False)

    @property
    def cell(self) -> str:
        return self.stream if self.in_one_cell else f"{self.stream}-{self.level:g}"


def make_run(
    path, trials: list[Trial], store="store", kind: str = "protocol", copies: int = 0
) -> Any:
    """Write `path`/run with these trials; returns the folder."""
    if not (path / store).exists():
        make_store(path / store, copies)
    run, planned = path / "run", []
    for trial in trials:
        data = DataConfig(
            store=str(path / store),
            protocol="xsub",
            selection=SelectionConfig(kind=kind),
            stream=trial.stream,
        )
        sparsity, train = (
            SparsityConfig(level=trial.level),
            TrainConfig(epochs=3, milestones=(2,), lr=trial.lr),
        )
        config = TrialConfig(data=data, sparsity=sparsity, train=train, seed=trial.seed)
        trial.name = f"{trial.cell}-{config.digest()}"
        axes, assignment = {"data.stream": trial.stream}, {"train.lr": trial.lr}
        (assignment if trial.in_one_cell else axes)["sparsity.level"] = trial.level
        planned.append(
            {
                "trial": trial.name,
                "cell": trial.cell,
                "axes": axes,
                "assignment": assignment,
                "seed": trial.seed,
            }
        )
        _write_trial(TrialDir(run / "trials" / trial.name), config, trial, held_out=kind != "none")
    write_json(
        run / "resolved.json",
        {"sweep": {"name": "made-up", "data": {"protocol": "xsub"}}, "trials": planned},
    )
    return run


def _write_trial(folder: TrialDir, config: TrialConfig, trial: Trial, held_out: bool) -> None:
    folder.path.mkdir(parents=True)
    folder.config_file.write_text(config.model_dump_json())
    if trial.state == "failed":
        write_json(folder.failure_file, {"reason": "loss is nan in epoch 1"})
    if trial.state != "complete":
        return
    epochs = range(3)
    sink = io.BytesIO()
    top1 = [0.3, 0.5, 0.6] if held_out else [None] * 3
    columns = {
        "epoch": list(epochs),
        "train_loss": [1.0 / (e + 1) for e in epochs],
        "selection_top1": pa.array(top1, pa.float64()),
    }
    pq.write_table(pa.table(columns), sink)
    folder.metrics_file.write_bytes(sink.getvalue())
    if held_out:
        scores("b", SELECTION, trial.wrong_selection, labelled=True).save(folder.selection_scores)
    scores("c", trial.test_count, trial.wrong_test, labelled=False).save(folder.test_scores)
    folder.deploy_file.write_bytes(b"deploy form")
    if trial.level:
        tensors = [
            {
                "name": f"blocks.{i}.conv",
                "shape": [25, 20, 1, 1],
                "kept": round(500 * (1 - trial.level)),
            }
            for i in range(2)
        ]
        write_json(folder.sparsity_file, {"level": trial.level, "tensors": tensors})
    write_json(folder.result_file, json.loads(result_of(trial, held_out).model_dump_json()))
    note_digests(folder)


def note_digests(folder: TrialDir) -> None:
    """Let the result speak of the trial's files as they are now, as at the end of a trial."""
    result = folder.load().model_copy(update={"digests": folder.digests()})
    folder.result_file.write_text(result.model_dump_json())


def result_of(trial: Trial, held_out: bool = True) -> TrialResult:
    nonzero = round(1000 * (1 - trial.level))
    top1 = 1 - len(trial.wrong_selection) / SELECTION if held_out else None
    cost = Cost(
        params=1000,
        nonzero_params=nonzero,
        maskable_params=1000,
        removed_params=1000 - nonzero,
        released_params=450,
        released_leaf_params=400,
        released_gmacs=0.25,
        released_leaf_gmacs=0.2,
        deploy_params=500,
        deploy_leaf_params=450,
        deploy_nonzero_params=max(nonzero // 2, 200),  # branches fill each other's holes
        deploy_gmacs=0.25,
        deploy_leaf_gmacs=0.2,
        deploy_peak_mb=3.0 + trial.level,
        deploy_latency_ms=trial.latency,
        deploy_batch64_latency_ms=20 * trial.latency,
        deploy_folded="BatchNorm 20 -> 0",
        deploy_max_abs_diff=1e-6,
        latency_device="a cpu",
        latency_threads=1,
    )
    return TrialResult(
        trial=trial.name,
        epochs=3,
        kept_epoch=2,
        selection_clips=SELECTION if held_out else 0,
        selection_top1=top1,
        selection_top5=1.0 if held_out else None,
        selection_loss=0.5 if held_out else None,
        selection_top1_last=top1,
        train_loss=0.4,
        seconds=60.0,
        clips_per_s=100.0,
        cost=cost,
    )


def make_sweep(
    *ensembles: dict[str, Any],
    objectives=(("selection_top1", "maximize"),),
    limits: tuple[dict[str, Any], ...] = (),
    final_seeds: int = 1,
) -> SimpleNamespace:
    """As much of a sweep as collecting and ensembling look at."""
    return SimpleNamespace(
        seed=0,
        method=SimpleNamespace(final_seeds=final_seeds),
        ensembles=tuple(EnsembleConfig.model_validate(each) for each in ensembles),
        objectives=tuple(Objective(metric=metric, goal=goal) for metric, goal in objectives),
        metric_limits=tuple(MetricLimit.model_validate(each) for each in limits),
        chooses_by_latency=any("_ms" in metric for metric, _ in objectives)
        or any("_ms" in limit["metric"] for limit in limits),
    )


def without_ray(patch: Any, run_trials: Callable[[Any], Any] = lambda context: None) -> None:
    """`run_trials` in the place of the real one, and no cluster is started."""
    modules = {"run": {"run_trials": run_trials}, "cluster": {"cluster_ahead": no_cluster}}
    for name, contents in modules.items():
        patch.setitem(sys.modules, f"orchestrator.tuning.{name}", SimpleNamespace(**contents))


def no_cluster(address: str | None, note: Any, end: Any) -> Any:
    """In the place of `cluster_ahead`: nothing is started."""
    return nullcontext()
