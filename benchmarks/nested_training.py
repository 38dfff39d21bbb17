"""Time of a training step of nested levels against a step of a single sparse network of the same
backbone, on one CPU core or a GPU.

    python benchmarks/nested_training.py [--json] [--backbone st_gcn] [--device cuda]

One nested run ends with every level; a step of it trains two, an evaluation goes through all. Each
side has a process of its own, as a trial
has: what one of them left of the memory would be there for the other, and be its gain. They take
turns step by step, with the same clips, optimiser and loop as in a trial, in an epoch of the
warm-up (penalty on), in one under masks, and in evaluation. On a CPU it is the processes' own time:
whatever else runs there does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import SimpleNamespace

import torch

from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig, TrainConfig
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.models.build_levels import build_multi_level
from trainables.models.multilevel import multi_level_spec
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.levels import attach_levels
from trainables.training.evaluate import score
from trainables.training.loop import Fit

LEVELS = (0.6, 0.8, 0.95, 0.99)
LAYOUT, CLASSES, PERSONS = "ntu25", 60, 2


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--backbone", default="st_gcn")
    options.add_argument("--channels", type=int, default=64, help="width of the first stage")
    options.add_argument("--frames", type=int, default=64)
    options.add_argument("--batch", type=int, default=8, help="clips per step")
    options.add_argument(
        "--steps", type=int, default=6, help="timed steps of each side; medians are printed"
    )
    options.add_argument("--device", default="cpu")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    found = measure(
        Setting(chosen.backbone, chosen.channels, chosen.frames, chosen.batch, chosen.device),
        chosen.steps,
    )
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if chosen.json else table(found))


def table(found: dict[str, float | str]) -> str:
    """The result as aligned text."""
    lines = [
        (
            f"{found['backbone']}, levels {' '.join(map(str, LEVELS))}: milliseconds of a training"
            " step (median)"
        ),
        "",
    ]
    lines += [f"{name:32} {found[key]:9.1f}" for name, key in _ROWS.items()]
    lines += [f"{name:32} {found[key]:8.2f}x" for name, key in _RATIOS.items()]
    return "\n".join(lines) + "\n"


_ROWS = {
    "single network, warm-up": "single_warmup",
    "single network, under its mask": "single",
    "single network, evaluated": "single_evaluation",
    "nested, warm-up": "nested_warmup",
    "nested, under masks": "nested",
    "nested, evaluated": "nested_evaluation",
}
_PHASES = {"warmup_ratio": "_warmup", "ratio": "", "evaluation_ratio": "_evaluation"}
_RATIOS = {
    "warm-up, nested to single": "warmup_ratio",
    "under masks, nested to single": "ratio",
    "evaluated, nested to single": "evaluation_ratio",
    "whole run, nested to single": "run_ratio",
}
WARMUP, HELD_OUT = 0.6, 0.2
"""Of a whole run: share of the epochs before the mask, and of the clips that are evaluated after
every epoch instead of trained on.
"""


@dataclass(frozen=True)
class Setting:
    """What is timed."""

    backbone: str
    channels: int
    frames: int
    batch: int
    device: str


def measure(setting: Setting, steps: int) -> dict[str, float | str]:
    """Median milliseconds of a step of either side: in the warm-up, under masks, and of evaluating
    a batch.
    """
    sides = {name: _start(name, setting) for name in ("single", "nested")}
    found: dict[str, float | str] = {"backbone": setting.backbone}
    for phase in _PHASES.values():
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for step in range(steps + 1):  # the first warms up
            for name, side in sides.items():
                side.send((phase, step))
                seconds[name].append(side.recv())
        found |= {
            name + phase: 1e3 * statistics.median(times[1:]) for name, times in seconds.items()
        }
    for side in sides.values():
        side.close()
    found |= {
        name: float(found[f"nested{phase}"]) / float(found[f"single{phase}"])
        for name, phase in _PHASES.items()
    }
    nested, single = (
        [float(found[side + phase]) for phase in _PHASES.values()] for side in ("nested", "single")
    )
    return found | {"run_ratio": _clip_of_a_run(*nested) / _clip_of_a_run(*single)}


def _clip_of_a_run(warmup: float, masked: float, evaluation: float) -> float:
    """Time per clip and epoch."""
    return (1 - HELD_OUT) * (WARMUP * warmup + (1 - WARMUP) * masked) + HELD_OUT * evaluation


def _start(side: str, setting: Setting) -> Connection:
    """A process that does a step whenever it is asked to, and answers with its seconds."""
    context = get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=_serve, args=(there, side, setting), daemon=True).start()
    there.close()
    return here


def _serve(asked: Connection, side: str, setting: Setting) -> None:
    torch.set_num_threads(1)
    device, layout = torch.device(setting.device), load_layout(LAYOUT)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    fit = _fit(side, setting, device)
    clips = torch.randn(setting.batch, 3, setting.frames, layout.size, PERSONS, device=device)
    batch = SimpleNamespace(
        x=clips,
        y=torch.arange(setting.batch, device=device) % CLASSES,
        index=torch.arange(setting.batch),
    )
    while True:
        try:
            phase, step = asked.recv()
        except EOFError:
            return
        epoch = 1 if phase == "_warmup" else 2
        if step == 0:
            fit.schedule.begin_epoch(epoch, fit.optimizer)
        fit.model.train()
        started = clock()
        if phase == "_evaluation":
            score(fit.model, [batch])
        else:
            fit._step(batch, epoch, step).tolist()  # its work on the device is done
        asked.send(clock() - started)


def _fit(side: str, setting: Setting, device: torch.device) -> Fit:
    """A run as a trial sets it up; the warm-up has two epochs."""
    model, layout = (
        ModelConfig.model_validate({"backbone": setting.backbone, "channels": setting.channels}),
        load_layout(LAYOUT),
    )
    sizes = {"classes": CLASSES, "persons": PERSONS}
    train = TrainConfig(precision="fp32" if device.type == "cpu" else "auto")
    clip = torch.ones(1, 3, setting.frames, layout.size, PERSONS, device=device)
    if side == "single":
        single = build_backbone(model, layout, stream=StreamConfig(), seed=0, **sizes).to(device)
        masks = SparseGenerator(list(single.blocks), SparsityConfig(level=LEVELS[0]), 2, seed=0)
        masks.mask_constant_channels(single, clip)
        return Fit(single, train, seed=0, objective=single.objective, schedule=masks)
    settings = SparsityConfig(network="nested", levels=LEVELS)
    spec = multi_level_spec(model, settings, layout, stream=StreamConfig(), **sizes)
    nested = build_multi_level(spec, seed=0, sparsity=settings).to(device)
    return Fit(
        nested,
        train,
        seed=0,
        objective=nested.objective,
        schedule=attach_levels(nested, settings, 2, 0, clip),
    )


if __name__ == "__main__":
    main()
