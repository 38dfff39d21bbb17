"""The folder of a sweep that never ran: many finished networks whose score tables are made up."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.contract.artifacts import Cost, TrialDir, TrialResult
from trainables.contract.config import DataConfig, SelectionConfig, SparsityConfig, TrialConfig
from trainables.contract.disk import write_json
from trainables.contract.scores import Scores
from trainables.data.store.reading import Clip, Description, ProtocolRule, write_store

Floats = npt.NDArray[np.float32]

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
COST = Cost(
    params=1000,
    nonzero_params=500,
    maskable_params=1000,
    removed_params=500,
    released_params=450,
    released_leaf_params=400,
    released_gmacs=0.25,
    released_leaf_gmacs=0.2,
    deploy_params=500,
    deploy_leaf_params=450,
    deploy_nonzero_params=250,
    deploy_gmacs=0.25,
    deploy_leaf_gmacs=0.2,
    deploy_peak_mb=3.0,
    deploy_latency_ms=1.5,
    deploy_batch64_latency_ms=30.0,
    deploy_folded="BatchNorm 20 -> 0",
    deploy_max_abs_diff=1e-6,
    latency_device="a cpu",
    latency_threads=1,
)


def write_sweep(
    run: Path,
    members: int,
    tables: Sequence[npt.NDArray[np.float32]],
    labels: npt.NDArray[np.int64],
) -> None:
    """A sweep of so many networks, a cell for each; network i says tables[i % len(tables)], (N, K)
    logits, of the selection clips and of as many test clips of the same labels. Equal tables are
    one file under several names.
    """
    clips = range(len(labels))
    ids = {part: [f"{part}{clip:06d}" for clip in clips] for part in ("selection", "test")}
    _write_store(run.parent / "store", ids, labels, tables[0].shape[1])
    proposals, folders = [], list[TrialDir]()
    for number, (step, stream) in enumerate(
        itertools.islice(itertools.product(range(1, members + 1), STREAMS), members)
    ):
        level = step / (members + 1)
        config = TrialConfig(
            data=DataConfig(
                store=str(run.parent / "store"),
                protocol="xsub",
                selection=SelectionConfig(kind="protocol"),
                stream=stream,
            ),
            sparsity=SparsityConfig(level=level),
        )
        cell = f"{stream}-{level:.6f}"
        folder = TrialDir(run / "trials" / f"{cell}-{config.digest()}")
        axes = {"data.stream": stream, "sparsity.level": level}
        name = folder.path.name
        proposals.append({"trial": name, "cell": cell, "axes": axes, "assignment": {}, "seed": 0})
        folder.path.mkdir(parents=True)
        folder.config_file.write_text(config.model_dump_json())
        if number < len(tables):
            logits = tables[number]
            Scores.of(ids["selection"], logits, labels).save(folder.selection_scores)
            Scores.of(ids["test"], logits).save(folder.test_scores)
            top1 = float((logits.argmax(axis=1) == labels).mean())
            folders.append(folder)
        else:
            first = folders[number % len(tables)]
            os.link(first.selection_scores, folder.selection_scores)
            os.link(first.test_scores, folder.test_scores)
            top1 = first.load().selection_top1 or 0.0
        folder.deploy_file.write_bytes(b"deploy form")
        folder.result_file.write_text(result_of(name, len(labels), top1).model_dump_json())
    data = {"protocol": "xsub", "store": str(run.parent / "store")}
    sweep = {"version": 1, "name": run.name, "data": data}
    write_json(run / "resolved.json", {"sweep": sweep, "trials": proposals})


def result_of(trial: str, clips: int, top1: float) -> TrialResult:
    return TrialResult(
        trial=trial,
        epochs=3,
        kept_epoch=2,
        selection_clips=clips,
        selection_top1=top1,
        selection_top5=1.0,
        selection_loss=0.5,
        selection_top1_last=top1,
        train_loss=0.4,
        seconds=60.0,
        clips_per_s=100.0,
        cost=COST,
    )


def _write_store(
    path: Path, ids: dict[str, list[str]], labels: npt.NDArray[np.int64], classes: int
) -> None:
    """One subject for each part: 1 trains, 2 is held out, 3 is tested."""
    joints = np.random.default_rng(0).normal(size=(1, 1, 2, 3)).astype(np.float32)
    clips = [Clip(id=f"a{k:06d}", label=k, joints=joints, subject=1) for k in range(classes)]
    for number, part in enumerate(("selection", "test")):
        clips += [
            Clip(id=name, label=int(label), joints=joints + i + 1, subject=2 + number)
            for i, (name, label) in enumerate(zip(ids[part], labels, strict=True))
        ]
    rule = ProtocolRule(column="subject", train=(1,), selection=(2,), test=(3,))
    layout = {"name": "pair", "joints": ("hip", "head"), "parents": (0, 0), "origin": 0}
    description = Description(
        name="invented",
        layout=layout,
        classes=tuple(f"class {k}" for k in range(classes)),
        pipeline="ctr",
        protocols={"xsub": rule},
    )
    write_store(path, clips, description)
