"""What masks cost while a network trains: an epoch of every way to remove weights over an epoch of
the same dense network. And what they save where steps compute with kept weights alone.

    python benchmarks/sparse_training.py [--backbone hpi_gcn_rp] [--backbone st_gcn] [--batch 4]
    [--device cuda] [--json]
    python benchmarks/sparse_training.py --kernels [--level 0.95] [--batch 16] [--json]
    python benchmarks/sparse_training.py --store STORE [--level 0.95] [--epochs 18] [--seeds 0,1,2]

--kernels: a step under fixed masks (HPI-GCN-RP with sharing `fused`, ST-GCN with a mask on every
convolution) with `train.sparse_kernels` off and auto, and one of the network without masks. A ratio
is that of steps under the same masks. --store: whole narrow trials on the clips of a store, off and
auto in turns: processor time, accuracies, and the median over seeds of (time of off / time of
auto).

NTU size: 64 frames, 25 joints, 2 persons, 120 classes, full width, clips of noise already on the
device. The ways take turns in one run; a ratio is the median over rounds of (time of the one / time
of the dense network) in the same round. RigL exchanges weights once per epoch, and epochs are
short, so it is shown at a disadvantage; so is everything at a small batch, as masks cost the same
at any.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from fast_trial import test_accuracy
from torch import Tensor

from trainables.contract.artifacts import TrialDir
from trainables.contract.config import (
    ModelConfig,
    SparsityConfig,
    StreamConfig,
    TrainConfig,
    TrialConfig,
)
from trainables.cost.measured import device_name
from trainables.data.batches.batches import Batch
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.network import train_merged
from trainables.reparam.kept import train_by_kept_weights
from trainables.run import Setup, run_trial
from trainables.sparsity.build import Subject, attach_sparsity
from trainables.training.loop import Fit

FRAMES, PERSONS, CLASSES, LEVEL, GOAL = 64, 2, 120, 0.8, 1.15
KERNEL_GOALS = {0.8: 0.6, 0.95: 0.35}
"""At most so much of a dense step, by level."""
EPOCHS, EPOCH = 10, 6
"""Epochs of the recipe, and the one that is timed."""

WAYS: dict[str, dict[str, Any]] = {
    "dense": {"level": 0.0},
    "fixed masks": {"generator": "fixed_random", "warmup": 0.5},
    "fixed masks, warm-up with penalty": {"generator": "fixed_random", "warmup": 0.9},
    "trained scores": {"generator": "score_trainable", "warmup": 0.5},
    "trained scores, global": {"generator": "score_trainable", "warmup": 0.5, "scope": "global"},
    "trained scores, warm-up with penalty": {"generator": "score_trainable", "warmup": 0.9},
    "supermask": {"generator": "supermask"},
    "rewinding": {"generator": "rewinding"},
    "rigl": {"generator": "rigl"},
    "set": {"generator": "set"},
}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--backbone", action="append", help="may be repeated (hpi_gcn_rp and st_gcn)"
    )
    options.add_argument("--batch", type=int, default=4, help="clips per step")
    options.add_argument("--steps", type=int, default=2, help="steps per epoch")
    options.add_argument("--rounds", type=int, default=5, help="turns of every way")
    options.add_argument("--threads", type=int, default=1, help="CPU threads")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument(
        "--kernels", action="store_true", help="steps by kept weights against dense ones"
    )
    options.add_argument("--level", type=float, action="append", help="of --kernels and --store")
    options.add_argument("--store", help="a store on whose clips whole trials are trained")
    options.add_argument("--epochs", type=int, default=18, help="of the trials of --store")
    options.add_argument("--seeds", default="0", help="of the trials of --store, comma-separated")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    if chosen.kernels or chosen.store:
        levels = chosen.level or [0.8, 0.95]
        found = trials(chosen, levels) if chosen.store else kernels(chosen, levels)
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    results = {
        "device": device_name(device),
        "threads": chosen.threads,
        "torch": torch.__version__,
        "batch": chosen.batch,
        "steps": chosen.steps,
        "level": LEVEL,
        "backbones": {
            name: run(name, device, batch=chosen.batch, steps=chosen.steps, rounds=chosen.rounds)
            for name in chosen.backbone or ["hpi_gcn_rp", "st_gcn"]
        },
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def run(
    backbone: str, device: torch.device, *, batch: int, steps: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a step of every way, and its ratio to the dense network."""
    batches = [noise(batch, step, device) for step in range(steps)]
    fits = {way: fit_of(backbone, settings, device, steps) for way, settings in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in fits}
    for turn in range(rounds + 1):  # the first warms up
        print(f"{backbone}: round {turn} of {rounds}", file=sys.stderr)
        for way, fit in fits.items():
            taken = epoch_seconds(fit, batches)
            seconds[way] += [taken] if turn else []
    ratios = {
        way: [own / dense for own, dense in zip(times, seconds["dense"], strict=True)]
        for way, times in seconds.items()
    }
    return {
        way: {"ms": 1e3 * statistics.median(times) / steps, "ratio": statistics.median(ratios[way])}
        for way, times in seconds.items()
    }


def kernels(chosen: argparse.Namespace, levels: Sequence[float]) -> dict[str, Any]:
    """Median milliseconds of a step with `train.sparse_kernels` off and auto and without masks, in
    turns, and the ratio of auto to each.
    """
    found: dict[str, Any] = {
        "device": device_name(torch.device("cpu")),
        "threads": chosen.threads,
        "torch": torch.__version__,
        "batch": chosen.batch,
        "goals": KERNEL_GOALS,
    }
    batches = [noise(chosen.batch, 0, torch.device("cpu"))]
    for backbone in chosen.backbone or ["hpi_gcn_rp", "st_gcn"]:
        sharing = "fused" if backbone.startswith("hpi") else "none"
        for level in levels:
            masks = {"level": level, "sharing": sharing, "warmup": 0.5}
            fits = {
                "off": fit_of(backbone, masks, torch.device("cpu"), 1),
                "auto": fit_of(backbone, masks, torch.device("cpu"), 1),
                "no masks": fit_of(backbone, {"level": 0.0}, torch.device("cpu"), 1),
            }
            train_by_kept_weights(fits["auto"].model)
            train_merged(fits["no masks"].model)
            times: dict[str, list[float]] = {way: [] for way in fits}
            for turn in range(chosen.rounds + 1):  # the first warms up
                for way, fit in fits.items():
                    taken = epoch_seconds(fit, batches)
                    times[way] += [taken] if turn else []
            found[f"{backbone} at {level:g}"] = {
                "ms": {way: 1e3 * statistics.median(own) for way, own in times.items()},
                "ratio": {
                    way: statistics.median(
                        own / other for own, other in zip(times["auto"], times[way], strict=True)
                    )
                    for way in ("off", "no masks")
                },
            }
    return found


def trials(chosen: argparse.Namespace, levels: Sequence[float]) -> dict[str, Any]:
    """Seconds of processor time and of training, and accuracies, of a narrow HPI-GCN-RP (sharing
    `fused`, masks after a tenth of the epochs) with `train.sparse_kernels` off and auto.
    """
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    trial(chosen.store, levels[0], "auto", 2, seeds[0])  # loads modules and compiled kernels
    found: dict[str, Any] = {}
    for level in levels:
        taken: dict[str, list[float]] = {"off": [], "auto": []}
        for number, seed in enumerate(seeds):
            for way in list(taken)[:: 1 if number % 2 == 0 else -1]:
                print(f"level {level:g}, seed {seed}, {way}", file=sys.stderr)
                one = trial(chosen.store, level, way, chosen.epochs, seed)
                found[f"{level:g} {way} seed {seed}"] = one
                taken[way].append(one["processor_s"])
        found[f"{level:g}, times as fast"] = statistics.median(
            slow / fast for slow, fast in zip(taken["off"], taken["auto"], strict=True)
        )
    return found


def trial(store: str, level: float, way: str, epochs: int, seed: int) -> dict[str, float]:
    config = TrialConfig.model_validate(
        {
            "data": {"store": store, "protocol": "xview", "frames": 52},
            "model": {"backbone": "hpi_gcn_rp", "channels": 16, "stages": [1, 1, 1]},
            "sparsity": {"level": level, "sharing": "fused", "warmup": 0.1},
            "train": {"epochs": epochs, "batch_size": 16, "sparse_kernels": way},
            "seed": seed,
        }
    )
    with TemporaryDirectory() as folder:
        out, began = TrialDir(Path(folder)), time.process_time()
        result = run_trial(config, out, Setup(torch.device("cpu")))
        taken = time.process_time() - began
        test_top1 = test_accuracy(out, Path(store))
    return {
        "processor_s": taken,
        "training_s": result.seconds,
        "selection_top1": result.selection_top1,
        "test_top1": test_top1,
    }


def fit_of(backbone: str, settings: dict[str, Any], device: torch.device, steps: int) -> Fit:
    """A run that stands before epoch EPOCH: its network, its masks and its optimiser, as a trial
    sets them up.
    """
    model = build_backbone(
        ModelConfig(backbone=backbone),
        load_layout("ntu25"),
        classes=CLASSES,
        persons=PERSONS,
        stream=StreamConfig(),
        seed=0,
    ).to(device)
    sparsity = SparsityConfig.model_validate({"level": LEVEL, "update_every": steps, **settings})
    schedule = attach_sparsity(
        Subject(
            model,
            list(model.blocks),
            model.head,
            EPOCHS,
            steps,
            seed=1,
            clips=torch.ones(1, 3, FRAMES, 25, PERSONS),
        ),
        sparsity,
    )
    train = TrainConfig(epochs=EPOCHS, lr=1e-3)
    return Fit(model, train, seed=2, objective=model.objective, schedule=schedule)


def noise(clips: int, seed: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, 3, FRAMES, 25, PERSONS, generator=generator)
    return Batch(
        x.to(device),
        torch.randint(CLASSES, (clips,), generator=generator).to(device),
        torch.arange(clips),
    )


def epoch_seconds(fit: Fit, batches: list[Batch]) -> float:
    """One epoch as `Fit` trains it; its sums are read once, at the end, which drains the device.

    On a CPU it is the process's own time: whatever else runs there does not count.
    """
    clock = time.process_time if fit.device.type == "cpu" else time.perf_counter
    sums: list[Tensor] = []
    started = clock()
    fit.schedule.begin_epoch(EPOCH, fit.optimizer)
    fit.model.train()
    for step, batch in enumerate(batches):
        sums.append(fit._step(batch, EPOCH, step))
    torch.stack(sums).sum(dim=0).tolist()
    return clock() - started


def table(results: dict[str, Any]) -> str:
    lines = [f"{results['device']}, {results['threads']} thread(s), torch {results['torch']}"]
    lines += [
        f"batch {results['batch']}, {results['steps']} steps per epoch, level {results['level']}"
    ]
    for backbone, ways in results["backbones"].items():
        lines += ["", backbone]
        for way, found in ways.items():
            verdict = (
                ""
                if way == "dense"
                else f"{found['ratio']:8.2f}x  {'reached' if found['ratio'] <= GOAL else 'missed'}"
            )
            lines.append(f"  {way:<38}{found['ms']:10.1f} ms a step{verdict}")
    return "\n".join([*lines, "", f"goal: at most {GOAL}x"]) + "\n"


if __name__ == "__main__":
    main()
