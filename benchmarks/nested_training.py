"""Time of a training epoch of nested levels against an epoch of a single sparse network of the same backbone, on one CPU core or a GPU.

    python benchmarks/nested_training.py [--json] [--backbone st_gcn] [--device cuda]

One nested run ends with every level; a step of it trains two. Both sides take turns in one run, step by step, with the same clips, optimiser
and loop as in a trial, in an epoch of the warm-up (penalty on) and in one under masks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from types import SimpleNamespace

import torch

from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig, TrainConfig
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.models.multilevel import build_multi_level, multi_level_spec
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.levels import attach_levels
from trainables.training.loop import Fit

LEVELS = (0.6, 0.8, 0.95, 0.99)
LAYOUT, CLASSES, PERSONS = "ntu25", 60, 2


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--backbone", default="st_gcn")
    options.add_argument("--channels", type=int, default=64, help="width of the first stage")
    options.add_argument("--frames", type=int, default=64)
    options.add_argument("--batch", type=int, default=8, help="clips per step")
    options.add_argument("--steps", type=int, default=6, help="timed steps of each side; medians are printed")
    options.add_argument("--device", default="cpu")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    found = measure(chosen.backbone, chosen.channels, chosen.frames, chosen.batch, chosen.steps, torch.device(chosen.device))
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if chosen.json else table(found))


def table(found: dict[str, float | str]) -> str:
    """The result as aligned text."""
    lines = [f"{found['backbone']}, levels {' '.join(map(str, LEVELS))}: milliseconds of a training step (median)", ""]
    lines += [f"{name:32} {found[key]:9.1f}" for name, key in _ROWS.items()]
    lines += [f"{name:32} {found[key]:8.2f}x" for name, key in _RATIOS.items()]
    return "\n".join(lines) + "\n"


_ROWS = {
    "single network, warm-up": "single_warmup",
    "single network, under its mask": "single",
    "nested, warm-up": "nested_warmup",
    "nested, under masks": "nested",
}
_SUFFIXES = {"warmup_ratio": "_warmup", "ratio": ""}
_RATIOS = {"warm-up, nested to single": "warmup_ratio", "under masks, nested to single": "ratio"}


def measure(backbone: str, channels: int, frames: int, batch: int, steps: int, device: torch.device) -> dict[str, float | str]:
    """Median milliseconds of a step of either side, in the warm-up and under masks."""
    model, layout = ModelConfig.model_validate({"backbone": backbone, "channels": channels}), load_layout(LAYOUT)
    sizes = {"classes": CLASSES, "persons": PERSONS}
    single_settings, nested_settings = SparsityConfig(level=LEVELS[0]), SparsityConfig(network="nested", levels=LEVELS)
    single = build_backbone(model, layout, stream=StreamConfig(), seed=0, **sizes).to(device)
    spec = multi_level_spec(model, nested_settings, layout, stream=StreamConfig(), **sizes)
    nested = build_multi_level(spec, seed=0, sparsity=nested_settings).to(device)
    train = TrainConfig(precision="fp32" if device.type == "cpu" else "auto")
    clips = torch.randn(batch, 3, frames, layout.size, PERSONS, device=device)
    sides = {
        "single": (single, SparseGenerator(list(single.blocks), single_settings, 2, seed=0)),
        "nested": (nested, attach_levels(nested, nested_settings, 2, seed=0, clips=clips[:1])),
    }
    sides["single"][1].silence(single, clips[:1])
    runs = {
        name: Fit(network, train, device=device, seed=0, objective=network.objective, schedule=masks) for name, (network, masks) in sides.items()
    }
    dealt = SimpleNamespace(x=clips, y=torch.arange(batch, device=device) % CLASSES, index=torch.arange(batch))
    found: dict[str, float | str] = {"backbone": backbone}
    for epoch, suffix in ((1, "_warmup"), (2, "")):
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for fit in runs.values():
            fit.schedule.begin_epoch(epoch, fit.optimizer)
            fit.model.train()
        for step in range(steps + 1):  # the first warms up
            for name, fit in runs.items():
                seconds[name].append(_seconds(fit, dealt, epoch, step))
        found |= {name + suffix: 1e3 * statistics.median(times[1:]) for name, times in seconds.items()}
    ratios = {name: float(found[f"nested{suffix}"]) / float(found[f"single{suffix}"]) for name, suffix in _SUFFIXES.items()}
    return found | ratios


def _seconds(fit: Fit, batch: SimpleNamespace, epoch: int, step: int) -> float:
    """Of one step, its work on the device done."""
    started = time.perf_counter()
    fit._step(batch, epoch, step).tolist()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
