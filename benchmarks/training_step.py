"""Whole training steps: `train.fast` auto against off, and against the released code's arrangement
of operations.

    python benchmarks/training_step.py [--batch 16] [--threads 1] [--rounds 5] [--networks RP,OP-K9]
                                       [--forms released,off,auto] [--single 0.8] [--quick] [--json]

A step is forward, backward and an update of SGD with Nesterov momentum, float32, at NTU size: 64
frames, 25 joints, 2 persons, 120 classes, full width (--quick: narrow). All networks take turns in
one run; a ratio is the median over rounds of (time of the one / time of the other) in the same
round, in CPU time of the process at one thread and in elapsed time at several. "saved" are the
bytes of different storages that autograd keeps from the forward pass to the backward pass,
parameters left out; "peak" is by how much memory rises in a step (Linux).

"released" computes what the released code does in its order, on the same weights: sums that are not
in place, the pooling operator, every adjacency's product apart, padding rows written into a copy.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.config import ModelConfig, StreamConfig, TrainConfig
from trainables.cost.measured import device_name
from trainables.layouts import load_layout
from trainables.models.backbones.hpi_gcn import GraphConv
from trainables.models.build import Backbone, build_backbone
from trainables.models.layers import GroupedJointMixing, ParallelJointMixing
from trainables.network import train_merged
from trainables.reparam.fusible import batch_norm_state
from trainables.reparam.rep_tcn import AverageBranch, PaddedBatchNorm, RepTCN
from trainables.training.optimiser import build_optimizer

HPI: dict[str, dict[str, Any]] = {
    "RP": {"backbone": "hpi_gcn_rp"},
    "OP-K5": {"backbone": "hpi_gcn_op"},
    "OP-K9": {"backbone": "hpi_gcn_op", "kernel_size": 9},
}
OTHERS: dict[str, dict[str, Any]] = {
    "CTR-GCN": {"backbone": "ctr_gcn"},
    "ST-GCN": {"backbone": "st_gcn", "adjacency": "scaled"},
}
FRAMES, PERSONS, CLASSES = 64, 2, 120
GOALS = {"RP": 1.6, "OP-K9": 1.35}
"""How many times faster than in the released arrangement."""
LARGEST_SAVED = 0.6
"""Of what the released arrangement saves."""
Step = Callable[[], float]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--batch", type=int, default=16, help="clips per batch")
    options.add_argument("--rounds", type=int, default=5, help="turns of every network")
    options.add_argument("--threads", type=int, default=1, help="CPU threads")
    options.add_argument("--networks", default=",".join([*HPI, *OTHERS]), help="comma-separated")
    options.add_argument("--forms", default="released,off,auto", help="comma-separated")
    options.add_argument(
        "--single", type=float, default=0.0, help="share of the clips that have one person"
    )
    options.add_argument("--quick", action="store_true", help="an eighth of the width")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    width = {"channels": 8} if chosen.quick else {}
    steps: dict[str, Step] = {}
    saved: dict[str, int] = {}
    peaks: dict[str, int] = {}
    for name in chosen.networks.split(","):
        for form, network in forms(name, width, single=chosen.single > 0):
            if form not in chosen.forms.split(","):
                continue
            persons = 2 - (torch.arange(chosen.batch) < round(chosen.single * chosen.batch)).long()
            step = training_step(network, persons, chosen.threads, fast=form == "auto")
            steps[f"{name} {form}"] = step
            saved[f"{name} {form}"], peaks[f"{name} {form}"] = memory_of(network, step)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(chosen.rounds):
        print(f"round {turn + 1} of {chosen.rounds}", file=sys.stderr)
        for name, step in steps.items():
            seconds[name].append(step())
    results = {
        "device": device_name(torch.device("cpu")),
        "threads": chosen.threads,
        "torch": torch.__version__,
        "batch": chosen.batch,
        "ms": {name: 1e3 * statistics.median(times) for name, times in seconds.items()},
        "saved_mb": {name: number / 1e6 for name, number in saved.items()},
        "peak_mb": {name: number / 1e6 for name, number in peaks.items()},
        "ratios": ratios(seconds, saved),
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def forms(name: str, width: dict[str, Any], *, single: bool) -> list[tuple[str, Backbone]]:
    """The network in every way it is trained; all with the same weights. single: some clips have
    one person, which every network can gain from.
    """
    plain = build_backbone(
        ModelConfig(**{**HPI, **OTHERS}[name], **width),
        load_layout("ntu25"),
        classes=CLASSES,
        persons=PERSONS,
        stream=StreamConfig(),
        seed=0,
    ).train()
    fast = copy.deepcopy(plain)
    train_merged(fast)
    if name not in HPI:
        return [("off", plain), *([("auto", fast)] if single else [])]
    return [("released", as_released(copy.deepcopy(plain))), ("off", plain), ("auto", fast)]


def training_step(network: Backbone, persons: Tensor, threads: int, *, fast: bool) -> Step:
    """A function that takes one step and returns its seconds; persons (N,): of each clip."""
    generator, batch = torch.Generator().manual_seed(2), len(persons)
    clips = torch.randn(batch, 3, FRAMES, 25, PERSONS, generator=generator)
    clips[persons == 1, ..., 1] = 0
    labels = torch.randint(CLASSES, (batch,), generator=generator)
    optimizer = build_optimizer(
        network.parameters(), TrainConfig(lr=1e-3, fast="auto" if fast else "off")
    )
    clock = time.process_time if threads == 1 else time.perf_counter

    def step() -> float:
        start = clock()
        optimizer.zero_grad(set_to_none=True)
        loss, _ = network.objective(clips, labels, persons if fast else None)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return clock() - start

    return step


def memory_of(network: nn.Module, step: Step) -> tuple[int, int]:
    """Bytes that autograd keeps of a forward pass, and by how much a step raises the memory."""
    own = {each.untyped_storage().data_ptr() for each in network.parameters()}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        peak = peak_rise(step)
    return sum(storages.values()), peak


def peak_rise(step: Step) -> int:
    """By how much memory rises in a step; 0 where the system does not say."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        step()
        return 0
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back to the system
    reset.write_text("5")  # the peak starts again from what is held now
    before = _field(status, "VmRSS")
    step()
    return _field(status, "VmHWM") - before


def _field(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def as_released(network: Backbone) -> Backbone:
    """The network with the released code's arrangement of operations."""
    forwards: dict[type[nn.Module], Callable[..., Tensor]] = {
        AverageBranch: _average_branch,
        PaddedBatchNorm: _padded_norm,
        RepTCN: _branches,
        ParallelJointMixing: _parallel,
        GroupedJointMixing: _grouped,
        GraphConv: _graph_conv,
    }
    for module in network.modules():
        if type(module) in forwards:
            module.forward = MethodType(forwards[type(module)], module)
    return network


def _average_branch(self: AverageBranch, x: Tensor) -> Tensor:
    pooled = F.avg_pool2d(self.pad_bn(self.pointwise(x)), (3, 1), (self.stride, 1))
    out: Tensor = self.bn(pooled)
    return out


def _padded_norm(self: PaddedBatchNorm, x: Tensor) -> Tensor:
    inside = nn.BatchNorm2d.forward(self, x)
    value = batch_norm_state(self).image_of_zero.detach()[:, None, None]
    padded = F.pad(inside, (0, 0, self.rows, self.rows))
    padded[:, :, : self.rows] = value
    padded[:, :, -self.rows :] = value
    return padded


def _branches(self: RepTCN, x: Tensor) -> Tensor:
    first, *others = self.branches.values()
    total: Tensor = first(x)
    for branch in others:
        total = total + branch(x)
    return total


def _parallel(self: ParallelJointMixing, x: Tensor) -> Tensor:
    first, *others = self.matrices
    total = torch.matmul(x, first.T)
    for matrix in others:
        total = total + torch.matmul(x, matrix.T)
    return total


def _grouped(self: GroupedJointMixing, x: Tensor) -> Tensor:
    parts = x.chunk(len(self.matrices), dim=1)
    return torch.cat(
        [torch.matmul(part, matrix.T) for part, matrix in zip(parts, self.matrices, strict=True)],
        dim=1,
    )


def _graph_conv(self: GraphConv, x: Tensor) -> Tensor:
    return F.relu(self.expand(self.mixing(self.embed(x))) + self.residual(x))


def ratios(seconds: dict[str, list[float]], saved: dict[str, int]) -> list[dict[str, Any]]:
    """Of every network's time and saved bytes to its fast form's."""
    found = []
    for name in {**HPI, **OTHERS}:
        for against in ("released", "off"):
            ours, theirs = f"{name} auto", f"{name} {against}"
            if ours in seconds and theirs in seconds:
                found.append(
                    {
                        "network": name,
                        "against": against,
                        "faster": statistics.median(
                            slow / fast
                            for slow, fast in zip(seconds[theirs], seconds[ours], strict=True)
                        ),
                        "goal": GOALS.get(name) if against == "released" else None,
                        "saved": saved[ours] / saved[theirs],
                    }
                )
    return found


def table(results: dict[str, Any]) -> str:
    lines = [
        f"{results['device']}, {results['threads']} thread(s), torch {results['torch']}, batch"
        f" {results['batch']}"
    ]
    for name, milliseconds in results["ms"].items():
        lines.append(
            f"  {name:<20}{milliseconds:10.0f} ms{results['saved_mb'][name]:10.0f} MB saved"
            f"{results['peak_mb'][name]:10.0f} MB peak"
        )
    for each in results["ratios"]:
        goal = "" if each["goal"] is None else f" (goal {each['goal']}x)"
        most = f" (goal {LARGEST_SAVED})" if goal else ""
        lines.append(
            f"  {each['network']} auto over {each['against']}: {each['faster']:.2f}x{goal}, saves"
            f" {each['saved']:.2f} of the bytes{most}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
