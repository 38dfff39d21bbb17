"""Sweeps whose page is opened: a small one that was evaluated, and one of thousands of trials that
never ran.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.evaluate import Accuracy, paired
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import (
    Comparison,
    FinalEvaluation,
    Row,
    Size,
    TestSplit,
    predictions_file,
)
from orchestrator.ensembling.statistics.intervals import interval
from tests.orchestrator.fake_run import Trial, result_of
from tests.orchestrator.report.evaluated import FINAL, LEVELS, evaluated
from trainables.contract.config import (
    DataConfig,
    SelectionConfig,
    SparsityConfig,
    TrialConfig,
)

CONFIG = TrialConfig(
    data=DataConfig(store="data/large", protocol="xsub"), sparsity=SparsityConfig(level=0.8)
).model_dump_json()
STREAMS, SHARES = ("joint", "bone"), (0.0, 0.6, 0.8)


def small_sweep(folder: Path) -> Path:
    """Two streams at three levels, three learning rates each, one trial pruned and one failed, with
    a journal; evaluated.
    """
    trials = [
        Trial(
            stream,
            level,
            lr=lr,
            wrong_selection=tuple(range(i + j)),
            wrong_test=tuple(range(4 * i, 4 * i + 6 + j)),
            latency=3.0 - level,
        )
        for i, (stream, level) in enumerate((s, v) for s in STREAMS for v in SHARES)
        for j, lr in enumerate((0.1, 0.05, 0.2))
    ]
    trials.append(Trial("joint", 0.8, lr=0.4, state="failed"))
    trials.append(Trial("joint", 0.8, lr=0.5, state="unfinished"))
    run = evaluated(folder, trials, LEVELS, FINAL)
    pruned = next(trial for trial in trials if trial.state == "unfinished")
    _write_curve(run / "trials" / pruned.name, [0.2, 0.25])
    events = [{"event": "sweep_started", "elapsed": 0.0, "versions": {"torch": "2.11"}}]
    events += [
        {"event": "trial_finished", "trial": trial.name, "elapsed": 60.0 * number}
        for number, trial in enumerate(trials)
        if trial.state == "complete"
    ]
    told = {"epochs": 2, "of": 3, "values": {"selection_top1": 0.25}}
    events += [{"event": "trial_pruned", "trial": pruned.name, "elapsed": 900.0, **told}]
    note(run, events)
    return run


def note(run: Path, events: list[dict[str, object]]) -> None:
    """Add to the journal."""
    with (run / "journal.jsonl").open("a") as stream:
        for number, event in enumerate(events):
            stream.write(json.dumps({"time": 1e9 + number, **event}) + "\n")


def _write_curve(folder: Path, top1: list[float]) -> None:
    columns = {
        "epoch": list(range(len(top1))),
        "train_loss": [1.0 / (epoch + 1) for epoch in range(len(top1))],
        "selection_top1": top1,
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    (folder / "metrics.parquet").write_bytes(sink.getvalue())


def large_sweep(run: Path, trials: int, cells: int = 100, classes: int = 60) -> Path:
    """A sweep of so many trials that never ran: 4 of 5 pruned, 65 epochs, 5 hyperparameters; an
    evaluation of a network for each cell, ensembles, and confusion matrices. No scores of clips.
    """
    chance = random.Random(0)
    (run / "trials").mkdir(parents=True)
    planned, events, best = [], [{"event": "sweep_started", "elapsed": 0.0}], {}
    for number in range(trials):
        cell = f"net{number % 4}-stream{number % cells:03d}"
        name = f"{cell}-{number:08x}"
        lr, level = 10 ** chance.uniform(-3, -0.5), chance.choice((0.6, 0.8, 0.95))
        assignment = {
            "train.lr": lr,
            "train.weight_decay": 10 ** chance.uniform(-6, -2),
            "train.momentum": chance.uniform(0.5, 0.98),
            "train.batch_size": chance.choice((16, 32, 64)),
            "train.schedule": chance.choice(("step", "cosine")),
        }
        axes = {"model.backbone": f"net{number % 4}", "sparsity.level": level}
        planned.append(
            {"trial": name, "cell": cell, "axes": axes, "assignment": assignment, "seed": 0}
        )
        top1 = 0.9 - 0.15 * abs(np.log10(lr) + 1.5) + chance.gauss(0, 0.02)
        folder = run / "trials" / name
        folder.mkdir()
        pruned = number % 5 != 0
        epochs = chance.choice((7, 21)) if pruned else 65
        _write_curve(folder, [top1 * (1 - 0.9 ** (epoch + 1)) for epoch in range(epochs)])
        if pruned:
            told = {"epochs": epochs, "of": 65, "values": {"selection_top1": top1}}
            events.append({"event": "trial_pruned", "trial": name, "elapsed": number, **told})
            continue
        (folder / "config.json").write_text(CONFIG)
        trial = Trial("joint", level)
        trial.name = name
        result = result_of(trial)
        cost = result.cost.model_copy(
            update={"deploy_nonzero_params": int(2e5 * (1.05 - level)) + number}
        )
        result = result.model_copy(
            update={"selection_top1": min(top1, 1.0), "epochs": epochs, "cost": cost}
        )
        (folder / "result.json").write_text(result.model_dump_json())
        events.append({"event": "trial_finished", "trial": name, "elapsed": number})
        best.setdefault(cell, (name, axes, result))
    sweep = {"name": run.name, "data": {"store": "data/large", "protocol": "xsub"}}
    (run / "resolved.json").write_text(json.dumps({"sweep": sweep, "trials": planned}))
    note(run, events)
    _evaluate(run, best, classes)
    return run


def _evaluate(run: Path, best, classes: int) -> None:
    division = Division(store="data/large", protocol="xsub", selection=SelectionConfig())
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 20)
    firsts = {}
    for name in [*best, "final"]:
        guesses = generator.integers(0, classes, len(labels))
        firsts[name] = np.where(generator.random(len(labels)) < 0.8, labels, guesses)
    rows = tuple(
        _row(cell, "member", axes, (trial,), division, firsts[cell] == labels, result.cost)
        for cell, (trial, axes, result) in best.items()
    )
    few = list(best.items())[:4]
    cost = few[0][1][2].cost.model_copy(update={"deploy_nonzero_params": 500_000})
    trials = tuple(trial for _, (trial, _, _) in few)
    final = _row("final", "ensemble", {}, trials, division, firsts["final"] == labels, cost)
    hits = [firsts["final"] == labels, firsts[few[0][0]] == labels]
    FinalEvaluation(
        version=6,
        inputs="made up",
        splits=(
            TestSplit(
                division=division,
                dataset="large",
                classes=classes,
                selection_clips=500,
                test_clips=len(labels),
                clean_clips=len(labels),
            ),
        ),
        rows=(*rows, final),
        comparisons=(
            Comparison(
                ensemble="final",
                against=few[0][0],
                role="best member",
                chosen_on="selection",
                test=paired(*hits),
            ),
        ),
        missing={},
        skipped={},
    ).save(run)
    ids = tuple(f"clip{number:05d}" for number in range(len(labels)))
    names = tuple(f"class {number}" for number in range(classes))
    path = predictions_file(run, 0)
    path.parent.mkdir()
    Predictions(ids, labels, names, firsts).save(path)


def _row(name, kind, axes, trials, division, hits, cost) -> Row:
    right, clips = int(hits.sum()), len(hits)
    top1 = right / clips
    test = Accuracy(
        clips=clips,
        right=right,
        top1=top1,
        top1_error=(top1 * (1 - top1) / clips) ** 0.5,
        interval=interval(right, clips),
        top5=1.0,
        mean_class=top1,
        cross_entropy=1.0,
    )
    return Row(
        name=name,
        kind=kind,
        axes=axes,
        division=division,
        trials=trials,
        dense=False,
        weights=dict.fromkeys(trials, 1.0) if kind == "ensemble" else {},
        method="mean" if kind == "ensemble" else None,
        combine="logits" if kind == "ensemble" else None,
        selection=test.model_copy(update={"interval": None}),
        test=test,
        clean=test,
        size=Size(
            params=cost.params,
            nonzero_params=cost.nonzero_params,
            deploy_params=cost.deploy_params,
            deploy_nonzero_params=cost.deploy_nonzero_params,
            deploy_gmacs=cost.deploy_gmacs,
            latency_ms=1.5 * len(trials),
            latency_device="a cpu",
            latency_threads=1,
        ),
        share_of_dense=None,
    )
