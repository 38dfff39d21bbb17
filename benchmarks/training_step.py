"""Whole training steps: `train.fast` auto against off, and against the released code's arrangement
of operations.

    python benchmarks/training_step.py [--batch 16] [--threads 1] [--rounds 5] [--networks RP,OP-K9]
                                       [--forms released,off,auto] [--single 0.8] [--quick] [--json]
    python benchmarks/training_step.py --device cuda [--batch 128] [--precision fp32,tf32,bf16]
                                       [--run eager,compiled,graph]

A step is forward, backward and an update of SGD with Nesterov momentum, float32, at NTU size: 64
frames, 25 joints, 2 persons, 120 classes, full width (--quick: narrow). All networks take turns in
one run, every other round in the opposite order; a ratio is the median over rounds of (time of the
one / time of the other) in the same round, [in brackets] that of the smallest and of the largest
round, and where their times are scattered it need not be that of the median times.

Times are CPU time of the process at one thread. At several they are elapsed time, which counts
whatever else runs on the machine, and CPU time of the leading thread. Threads wait for each other
as they do for torch's users, by spinning. On a machine with other programs they wait long; with
OMP_WAIT_POLICY=passive they sleep, and the leading thread's CPU time counts its own share of the
work alone, but each of a step's thousands of small operations pays for waking them. "saved" are
the bytes of different storages that autograd keeps from the forward pass to the backward pass,
parameters left out; "peak" is by how much memory rises in a step (Linux, or a GPU's).

--precision takes tf32 on GPUs, and bf16 (autocast) anywhere. --run: compiled by torch.compile, or
one CUDA graph of the whole step, replayed (all clips have all persons then, as a graph's shapes are
fixed). Every combination is a form of its own, and ratios are within one combination. "share" is
the share of a large matrix product's speed in that precision that the plain step's products of the
`off` form would have in the time.

"released" computes what the released code does in its order, on the same weights: sums that are not
in place, the pooling operator, every adjacency's product apart, padding rows written into a copy.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from released_step import as_released
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.contract.config import ModelConfig, StreamConfig, TrainConfig
from trainables.cost.measured import device_name
from trainables.layouts import load_layout
from trainables.models.build import Backbone, build_backbone
from trainables.network import train_merged
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
Times = dict[str, float]
"""Seconds by the name of the clock."""
Step = Callable[[], Times]


@dataclass(frozen=True)
class Way:
    """How a network takes its steps."""

    network: str
    form: str  # released, off or auto
    precision: str  # fp32, tf32 or bf16
    run: str  # eager, compiled or graph

    @property
    def name(self) -> str:
        usual = (self.precision, self.run) == ("fp32", "eager")
        return f"{self.network} {self.form}" + ("" if usual else f" {self.precision} {self.run}")

    @contextmanager
    def rounding(self) -> Iterator[None]:
        """Within, float32 products on a GPU are TF32 or they are not."""
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        before = products.allow_tf32, convolutions.allow_tf32
        products.allow_tf32 = convolutions.allow_tf32 = self.precision == "tf32"
        yield
        products.allow_tf32, convolutions.allow_tf32 = before

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        half = self.precision == "bf16"
        return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()


@dataclass(frozen=True)
class Job:
    """What all networks are trained on."""

    device: torch.device
    batch: int
    threads: int
    single: float  # share of the clips that have one person

    def clips(self) -> tuple[Tensor, Tensor, Tensor]:
        """Clips (N, 3, T, V, M) and labels on the device, persons (N,) on the CPU."""
        generator = torch.Generator().manual_seed(2)
        persons = 2 - (torch.arange(self.batch) < round(self.single * self.batch)).long()
        clips = torch.randn(self.batch, 3, FRAMES, 25, PERSONS, generator=generator)
        clips[persons == 1, ..., 1] = 0
        labels = torch.randint(CLASSES, (self.batch,), generator=generator)
        return clips.to(self.device), labels.to(self.device), persons

    def clocks(self) -> Times:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return {"elapsed": time.perf_counter()}
        if self.threads == 1:
            return {"CPU": time.process_time()}
        return {"elapsed": time.perf_counter(), "leading thread": time.thread_time()}


def main() -> None:
    chosen = _options().parse_args()
    torch.set_num_threads(chosen.threads)
    job = Job(torch.device(chosen.device), chosen.batch, chosen.threads, chosen.single)
    steps: dict[Way, Step] = {}
    saved: dict[Way, int] = {}
    peaks: dict[Way, int] = {}
    work: dict[str, int] = {}
    for name in chosen.networks.split(","):
        for form, network in forms(name, {"channels": 8} if chosen.quick else {}).items():
            if form == "off" and job.device.type == "cuda":
                work[name] = operations(copy.deepcopy(network).to(job.device), job)
            if form not in chosen.forms.split(","):
                continue
            for precision, run in product(chosen.precision.split(","), chosen.run.split(",")):
                way = Way(name, form, precision, run)
                own = copy.deepcopy(network).to(job.device)
                steps[way] = training_step(own, job, way)
                saved[way], peaks[way] = memory_of(own, steps[way], job.device)
    seconds: dict[Way, list[Times]] = {way: [] for way in steps}
    for turn in range(chosen.rounds):
        print(f"round {turn + 1} of {chosen.rounds}", file=sys.stderr)
        for way in list(steps)[:: 1 if turn % 2 == 0 else -1]:
            taken = steps[way]()
            seconds[way].append(taken)
            said = ", ".join(f"{name} {1e3 * own:.0f} ms" for name, own in taken.items())
            print(f"  {way.name}: {said}", file=sys.stderr)
    results = {
        "device": device_name(job.device),
        "threads": chosen.threads,
        "waiting": os.environ.get("OMP_WAIT_POLICY"),
        "torch": torch.__version__,
        "batch": chosen.batch,
        "single": chosen.single,
        "ms": {way.name: milliseconds(taken) for way, taken in seconds.items()},
        "saved_mb": {way.name: number / 1e6 for way, number in saved.items()},
        "peak_mb": {way.name: number / 1e6 for way, number in peaks.items()},
        "share": shares(seconds, work, job.device),
        "ratios": ratios(seconds, saved),
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--batch", type=int, default=16, help="clips per batch")
    options.add_argument("--rounds", type=int, default=5, help="turns of every network")
    options.add_argument("--threads", type=int, default=1, help="CPU threads")
    options.add_argument("--networks", default=",".join([*HPI, *OTHERS]), help="comma-separated")
    options.add_argument("--forms", default="released,off,auto", help="comma-separated")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--precision", default="fp32", help="fp32, tf32, bf16, comma-separated")
    options.add_argument("--run", default="eager", help="eager, compiled, graph, comma-separated")
    options.add_argument(
        "--single", type=float, default=0.0, help="share of the clips that have one person"
    )
    options.add_argument("--quick", action="store_true", help="an eighth of the width")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return options


def forms(name: str, width: dict[str, Any]) -> dict[str, Backbone]:
    """The network in every way it is trained; all with the same weights."""
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
    ours = {"off": plain, "auto": fast}
    return {"released": as_released(copy.deepcopy(plain)), **ours} if name in HPI else ours


def training_step(network: Backbone, job: Job, way: Way) -> Step:
    """A function that takes one step and says how long it took."""
    fast = way.form == "auto"
    clips, labels, persons = job.clips()
    there = (persons,) if fast and way.run != "graph" else ()
    optimizer = build_optimizer(
        network.parameters(), TrainConfig(lr=1e-3, fast="auto" if fast else "off")
    )
    objective = torch.compile(network.objective) if way.run == "compiled" else network.objective

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        with way.autocast(job.device):
            loss, _ = objective(clips, labels, *there)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with way.rounding():
        take = captured(update) if way.run == "graph" else update

    def step() -> float:
        with way.rounding():
            before = job.clocks()
            take()
            return {name: now - before[name] for name, now in job.clocks().items()}

    return step


def captured(update: Callable[[], None]) -> Callable[[], None]:
    """The update as one CUDA graph; it has been taken a few times when this returns."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # momenta and workspaces are made before the capture
        for _ in range(3):
            update()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update()
    return graph.replay


def operations(network: Backbone, job: Job) -> int:
    """Of the products of one plain step."""
    clips, labels, _ = job.clips()
    with FlopCounterMode(display=False) as counter:
        loss, _ = network.objective(clips, labels)
        loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def shares(
    seconds: dict[Way, list[Times]], work: dict[str, int], device: torch.device
) -> dict[str, float]:
    """Of the speed of a large product of matrices, where the operations were counted."""
    peaks: dict[str, float] = {}
    found = {}
    for way, times in seconds.items():
        if way.network in work:
            if way.precision not in peaks:
                peaks[way.precision] = peak(way, device)
            speed = work[way.network] / statistics.median(taken["elapsed"] for taken in times)
            found[way.name] = speed / peaks[way.precision]
    return found


def peak(way: Way, device: torch.device, size: int = 8192) -> float:
    """Operations per second of a product of two square matrices, the best of several."""
    dtype = torch.bfloat16 if way.precision == "bf16" else torch.float32
    one = torch.randn(size, size, device=device, dtype=dtype)
    best = math.inf
    with way.rounding():
        for _ in range(8):
            torch.cuda.synchronize()
            start = time.perf_counter()
            one @ one
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def memory_of(network: nn.Module, step: Step, device: torch.device) -> tuple[int, int]:
    """Bytes that autograd keeps of a forward pass, and by how much a step raises the memory."""
    own = {each.untyped_storage().data_ptr() for each in network.parameters()}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        rise = peak_rise(step, device)
    return sum(storages.values()), rise


def peak_rise(step: Step, device: torch.device) -> int:
    """By how much memory rises in a step; 0 where the system does not say."""
    if device.type == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - held
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


def milliseconds(rounds: list[Times]) -> dict[str, list[float]]:
    """Of every round, by clock."""
    return {clock: [1e3 * taken[clock] for taken in rounds] for clock in rounds[0]}


def ratios(seconds: dict[Way, list[Times]], saved: dict[Way, int]) -> list[dict[str, Any]]:
    """Of every network's time in every round and saved bytes to its fast form's."""
    found = []
    for ours in seconds:
        for against in ("released", "off"):
            theirs = replace(ours, form=against)
            if ours.form == "auto" and theirs in seconds:
                turns = list(zip(seconds[theirs], seconds[ours], strict=True))
                found.append(
                    {
                        "network": ours.name,
                        "against": against,
                        "faster": {
                            clock: [slow[clock] / fast[clock] for slow, fast in turns]
                            for clock in seconds[ours][0]
                        },
                        "goal": GOALS.get(ours.network) if against == "released" else None,
                        "saved": saved[ours] / max(saved[theirs], 1),
                    }
                )
    return found


def spread(values: list[float], digits: int, unit: str) -> str:
    """The median, and the smallest and the largest."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f}{unit} [{least:.{digits}f}, {most:.{digits}f}]"


def by_clock(values: dict[str, list[float]], digits: int, unit: str) -> str:
    return ", ".join(f"{clock} {spread(own, digits, unit)}" for clock, own in values.items())


def table(results: dict[str, Any]) -> str:
    waiting = "" if results["waiting"] is None else f" (OMP_WAIT_POLICY={results['waiting']})"
    lines = [
        f"{results['device']}, {results['threads']} thread(s){waiting}, torch {results['torch']},"
        f" batch {results['batch']}, {results['single']:.0%} of the clips with one person; median"
        " [smallest, largest] of the rounds"
    ]
    for name, times in results["ms"].items():
        lines.append(
            f"  {name:<20}{results['saved_mb'][name]:8.0f} MB saved"
            f"{results['peak_mb'][name]:8.0f} MB peak  {by_clock(times, 0, ' ms')}"
            + (f"{results['share'][name]:8.2f} of the peak" if name in results["share"] else "")
        )
    for each in results["ratios"]:
        goal = "" if each["goal"] is None else f" (goal {each['goal']}x)"
        most = f" (goal {LARGEST_SAVED})" if goal else ""
        lines.append(
            f"  {each['network']} over {each['against']}: {by_clock(each['faster'], 2, 'x')}{goal},"
            f" saves {each['saved']:.2f} of the bytes{most}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
