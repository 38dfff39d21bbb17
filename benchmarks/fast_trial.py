"""Whole trials with `train.fast` auto and off on a store of clips: accuracy and time.

    python benchmarks/fast_trial.py --store runs/data/nw-ucla [--protocol xview] [--seeds 0,1,2]
                                    [--epochs 10] [--channels 16] [--frames 32] [--json]

Narrow HPI-GCN-RP of four blocks, as a sweep trains it: selection on held-out clips after every
epoch, deploy form, proof, scores. The two ways take turns seed by seed. Seconds are CPU seconds of
the process, so that whatever else runs there does not count; the ratio is the median over the
seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.scores import Scores
from trainables.cost.measured import device_name
from trainables.data.store.reading import Store
from trainables.run import Setup, run_trial

CPU = torch.device("cpu")
WAYS = ("auto", "off")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--store", type=Path, required=True)
    options.add_argument("--protocol", default="xview")
    options.add_argument("--seeds", default="0,1,2", help="comma-separated")
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--channels", type=int, default=16, help="width of the first stage")
    options.add_argument("--frames", type=int, default=32)
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    # the first trial of a process also loads modules
    trial(argparse.Namespace(**{**vars(chosen), "epochs": 1}), seeds[0], "auto")
    trials = [trial(chosen, seed, way) for number, seed in enumerate(seeds) for way in turn(number)]
    results = {
        "device": device_name(CPU),
        "trials": trials,
        "faster": statistics.median(
            _of(trials, seed, "off")["seconds"] / _of(trials, seed, "auto")["seconds"]
            for seed in seeds
        ),
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def turn(number: int) -> tuple[str, ...]:
    """Who goes first changes from seed to seed."""
    return WAYS if number % 2 == 0 else WAYS[::-1]


def trial(chosen: argparse.Namespace, seed: int, way: str) -> dict[str, Any]:
    """Its accuracies, its seconds, and those of its epochs alone."""
    config = TrialConfig.model_validate(
        {
            "data": {
                "store": str(chosen.store.resolve()),
                "protocol": chosen.protocol,
                "frames": chosen.frames,
                "selection": {"kind": "clip", "fraction": 0.1},
            },
            "model": {"backbone": "hpi_gcn_rp", "channels": chosen.channels, "stages": [2, 1, 1]},
            "train": {"epochs": chosen.epochs, "batch_size": 16, "lr": 0.05, "fast": way},
            "seed": seed,
        }
    )
    with TemporaryDirectory() as folder:
        out, start = TrialDir(Path(folder)), time.process_time()
        result = run_trial(config, out, Setup(CPU))
        seconds = time.process_time() - start
        test_top1 = test_accuracy(out, chosen.store)
    return {
        "seed": seed,
        "fast": way,
        "selection_top1": result.selection_top1,
        "test_top1": test_top1,
        "seconds": seconds,
    }


def test_accuracy(trial: TrialDir, place: Path) -> float:
    """Share of the test clips that a finished trial on this store is right about."""
    scores, store = Scores.load(trial.test_scores), Store.open(place)
    labels = dict(zip(store.column("id").tolist(), store.column("label").tolist(), strict=True))
    right = scores.logits.argmax(axis=1) == np.array([labels[clip] for clip in scores.ids])
    return float(right.mean())


def _of(trials: list[dict[str, Any]], seed: int, way: str) -> dict[str, Any]:
    return next(each for each in trials if (each["seed"], each["fast"]) == (seed, way))


def table(results: dict[str, Any]) -> str:
    lines = [f"{results['device']}, 1 thread", "seed  fast  selection    test  CPU seconds"]
    for each in results["trials"]:
        lines.append(
            f"{each['seed']:>4}  {each['fast']:<4}{each['selection_top1']:>11.3f}"
            f"{each['test_top1']:>8.3f}{each['seconds']:>13.1f}"
        )
    for way in WAYS:
        tops = [each["test_top1"] for each in results["trials"] if each["fast"] == way]
        lines.append(f"test, mean over seeds, {way}: {statistics.mean(tops):.3f}")
    lines.append(f"auto is {results['faster']:.2f}x faster")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
