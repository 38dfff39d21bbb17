"""What a study of four levels costs where the levels share their first epochs, and where each is
trained alone: processor time, over that of one dense training.

    python benchmarks/shared_beginnings.py STORE [--protocol xview] [--warmup 0.6 0.85] [--json]

Whole trials of a narrow ST-GCN on one thread, in turns: the dense trial, the levels alone, the
levels that branch. That both give the same scores, to the last bit, is checked.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.scores import Scores
from trainables.run import Setup, run_trial
from trainables.training.beginning import SharedFile, SharedStates

LEVELS = (0.6, 0.8, 0.95, 0.99)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("store", help="an imported data set")
    options.add_argument("--protocol", default="xview", help="one of the store's")
    options.add_argument("--epochs", type=int, default=20, help="of a trial")
    options.add_argument(
        "--warmup", type=float, nargs="+", default=[0.6, 0.85], help="dense share of the epochs"
    )
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    rows = [study(chosen.store, chosen.protocol, chosen.epochs, each) for each in chosen.warmup]
    if chosen.json:
        json.dump(rows, sys.stdout, indent=2)
        return
    print("warm-up  shared epochs  dense s  alone s  shared s  alone/dense  shared/dense  expected")
    for row in rows:
        dense, alone, shared = row["dense_s"], row["alone_s"], row["shared_s"]
        print(
            f"{row['warmup']:7.2f}  {row['shared_epochs']:13.0f}  {dense:7.1f}  {alone:7.1f}"
            f"  {shared:8.1f}  {alone / dense:11.2f}  {shared / dense:12.2f}"
            f"  {row['expected']:8.2f}"
        )


def study(store: str, protocol: str, epochs: int, warmup: float) -> dict[str, float]:
    """Processor seconds of the dense trial, and of the four levels in both ways; `expected`: of the
    levels that share s of their epochs, s + 4 (1 - s) dense trainings.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        configs = {level: _config(store, protocol, epochs, warmup, level) for level in LEVELS}
        first = configs[LEVELS[0]]
        digest = first.beginning_digest(first.branch_epoch)
        file = SharedFile(place / "shared" / f"{digest}.pt", digest, first.branch_epoch)
        branching = SharedStates(start=file, leave=(file,))
        _seconds(_config(store, protocol, 2, 1, 0.5), place / "warm-up", SharedStates())
        dense = _seconds(
            _config(store, protocol, epochs, warmup, 0.0), place / "dense", SharedStates()
        )
        alone, shared = 0.0, 0.0
        for level, config in configs.items():
            alone += _seconds(config, place / "alone" / f"{level}", SharedStates())
            shared += _seconds(config, place / "shared" / f"{level}", branching)
            ours, theirs = (
                Scores.load(TrialDir(place / way / f"{level}").test_scores).logits
                for way in ("alone", "shared")
            )
            assert np.array_equal(ours, theirs), f"level {level} branched is another trial"
    share = first.branch_epoch / epochs
    return {
        "warmup": warmup,
        "shared_epochs": first.branch_epoch,
        "dense_s": dense,
        "alone_s": alone,
        "shared_s": shared,
        "expected": share + len(LEVELS) * (1 - share),
    }


def _seconds(config: TrialConfig, out: Path, beginnings: SharedStates) -> float:
    began = time.process_time()
    run_trial(config, TrialDir(out), Setup(torch.device("cpu"), beginnings=beginnings))
    return time.process_time() - began


def _config(store: str, protocol: str, epochs: int, warmup: float, level: float) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"store": store, "protocol": protocol, "frames": 16},
            "model": {"backbone": "st_gcn", "channels": 8, "stages": [1, 1]},
            "sparsity": {
                "level": level,
                "warmup": int(warmup) if warmup >= 1 else warmup,
                "penalty": "none",
                # layers of so narrow a network keep a weight at 0.99, too
                "scope": "tensor",
                "distribution": "erk",
            },
            "train": {"epochs": epochs, "batch_size": 64, "warmup_epochs": 1, "milestones": []},
        }
    )


if __name__ == "__main__":
    main()
