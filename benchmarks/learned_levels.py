"""What a training step costs while a level is learned, against the dense network and against a mask
that is fixed.

    python benchmarks/learned_levels.py [--backbone st_gcn] [--batch 16] [--device cuda] [--json]

NTU size: 64 frames, 25 joints, 2 persons, 60 classes, full width. All ways take turns in one run; a
ratio is the median over rounds of (time of the one / time of the dense network) in the same round.
A step is what the training loop does: forward, backward, update, gates moved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig, TrainConfig
from trainables.cost.measured import device_name
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.sparsity.build import Subject, attach_sparsity
from trainables.sparsity.gates import Gate
from trainables.training.optimiser import build_optimizer

FRAMES, PERSONS, CLASSES, LEVEL = 64, 2, 60, 0.9
WAYS: dict[str, dict[str, Any]] = {
    "dense": {},
    "fixed mask": {"level": LEVEL, "warmup": 0},
    "threshold, target": {"level": "learned", "target": LEVEL},
    "threshold, price": {"level": "learned", "price": 0.5},
    "hard_concrete, target": {"level": "learned", "gate": "hard_concrete", "target": LEVEL},
    "hard_concrete, price": {"level": "learned", "gate": "hard_concrete", "price": 0.5},
}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--backbone", default="st_gcn", help="whose training form")
    options.add_argument("--channels", type=int, default=64, help="width of the first stage")
    options.add_argument("--batch", type=int, default=16, help="clips per step")
    options.add_argument("--rounds", type=int, default=7, help="steps of every way")
    options.add_argument("--threads", type=int, default=1, help="CPU threads")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    model = ModelConfig(backbone=chosen.backbone, channels=chosen.channels)
    ways = {
        name: stepper(model, SparsityConfig(**sparsity), chosen.batch, chosen.rounds + 1, device)
        for name, sparsity in WAYS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(chosen.rounds + 1):  # the first warms up
        print(f"round {turn} of {chosen.rounds}", file=sys.stderr)
        for name, (step, _) in ways.items():
            taken = timed(step, turn, device)
            seconds[name] += [taken] if turn else []
    results = {
        "device": device_name(device),
        "threads": chosen.threads,
        "torch": torch.__version__,
        "ways": {
            name: {
                "ms": 1e3 * statistics.median(seconds[name]),
                "ratio": statistics.median(
                    own / dense for own, dense in zip(seconds[name], seconds["dense"], strict=True)
                ),
                "gate_numbers": ways[name][1],
            }
            for name in ways
        },
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def stepper(
    model: ModelConfig, sparsity: SparsityConfig, batch: int, steps: int, device: torch.device
) -> tuple[Callable[[int], None], int]:
    """One training step, by its number, of a network of its own; and how many numbers its gates
    are.
    """
    network = build_backbone(
        model, load_layout("ntu25"), classes=CLASSES, persons=PERSONS, stream=StreamConfig(), seed=0
    ).to(device)
    # epoch 0 learns, or is masked
    timed = sparsity.model_copy(
        update={"warmup": 1} if sparsity.level == "learned" else {"warmup": 0.0}
    )
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(batch, 3, FRAMES, 25, PERSONS, generator=generator).to(device)
    schedule = attach_sparsity(
        Subject(network, list(network.blocks), network.head, 2, steps, seed=0, clips=clips[:1]),
        timed,
    )
    optimizer = build_optimizer(network.parameters(), TrainConfig(lr=0.01))
    labels = torch.randint(CLASSES, (batch,), generator=generator).to(device)
    if schedule is not None:
        schedule.begin_epoch(0, optimizer)

    def step(number: int) -> None:
        if schedule is not None:
            schedule.begin_step(0, number)
        loss, _ = network.objective(clips, labels)
        penalty = schedule.penalty(0) if schedule is not None else None
        optimizer.zero_grad(set_to_none=True)
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        if schedule is not None:
            schedule.after_update(0, number, optimizer)

    return step, sum(
        module.gate.numel() for module in network.modules() if isinstance(module, Gate)
    )


def timed(step: Callable[[int], None], number: int, device: torch.device) -> float:
    """Seconds: of the processor on a CPU, so that other work on the machine does not count, by the
    clock on a GPU.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    step(number)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def table(results: dict[str, Any]) -> str:
    lines = [
        f"{results['device']}, {results['threads']} threads, torch {results['torch']}",
        "",
        "| way | ms per step | x dense | numbers in gates |",
    ]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {name} | {way['ms']:.0f} | {way['ratio']:.3f} | {way['gate_numbers']:,} |"
        for name, way in results["ways"].items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
