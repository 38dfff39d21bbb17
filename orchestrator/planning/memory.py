"""The memory that a trial takes, by arithmetic, and what this machine has.

Estimates lean on a few factors that were measured; DECISIONS.md says how well they meet it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.planning.sizes import BYTES, Sizes
from orchestrator.sweep import Sweep
from orchestrator.trials.space import Trial
from trainables.contract.config import TrialConfig
from trainables.data.batches.settings import views_of

if TYPE_CHECKING:
    from trainables.data.store.reading import Split

PROCESS = 0.52e9
"""Bytes of a worker with torch and Ray loaded, before it has a network; 0.41e9 without Ray."""
CUDA = 0.6e9
"""Bytes of the GPU that CUDA and its libraries take in every process."""
STATES = 6
"""Copies of the weights: themselves, gradients, momentum, and a checkpoint being written."""
ALIVE = 2.3
"""Numbers kept for the backward pass, over those in the outputs of convolutions and joint mixings;
measured.
"""
EVALUATED = 6.0
"""Numbers alive in evaluation, over those in the largest output; measured."""
AHEAD = 256
CLIP_COPIES = 4
"""Clips are made for AHEAD of them in one go, in so many copies."""


@dataclass(frozen=True)
class Memory:
    """What the largest trial of a sweep takes, in 1e9 bytes."""

    main_gb: float
    gpu_gb: float  # 0 without a GPU
    trial: str  # which one it is
    machine_gb: float | None  # main memory of this machine; None: not known
    card_gb: float | None  # memory of a trial's share of a GPU of this machine; None: not known


def memory_of(everything: Sequence[Trial], sizes: Sizes, split: Split, gpus: float) -> Memory:
    """The largest trial's memory; gpus: what a trial gets of them."""
    different = {
        (sizes.key(trial.config), trial.config.train, trial.config.data): trial
        for trial in everything
    }
    needs = {
        trial.proposal.trial: trial_bytes(trial.config, sizes, split, on_gpu=gpus > 0)
        for trial in different.values()
    }
    largest = max(needs, key=lambda name: sum(needs[name]))
    main, gpu = (max(amounts) for amounts in zip(*needs.values(), strict=True))
    card = gpu_bytes()
    return Memory(
        main / 1e9,
        gpu / 1e9,
        largest,
        _in_gb(machine_bytes()),
        None if card is None else min(1.0, gpus or 1.0) * card / 1e9,
    )


def trial_bytes(
    config: TrialConfig, sizes: Sizes, split: Split, *, on_gpu: bool
) -> tuple[float, float]:
    """(main memory, GPU memory): weights with their gradients and momentum, what a step keeps for
    its backward pass, clips in the making, and joints that are held.
    """
    store, train, form = sizes.store, config.train, sizes.count(config).training
    views = views_of(config.data, store.info)
    clips = max(len(split.train) * config.data.repeat, 1)
    scored = max(len(split.selection), len(split.test), 1) * views
    trained = ALIVE * form.features * min(train.batch_size, clips)
    evaluated = EVALUATED * form.largest_output * min(train.eval_batch_size, scored)
    clip = 3 * config.data.frames * store.layout.size * store.info.persons
    made = CLIP_COPIES * clip * max(AHEAD, train.batch_size, train.eval_batch_size)
    network = BYTES * (STATES * form.params + trained + evaluated + made)
    joints = float(store.info.joints_bytes)
    if on_gpu:
        held = 0.0 if config.data.residence in ("host", "mmap") else joints
        host = joints if config.data.residence == "host" else 0.0
        return PROCESS + host, CUDA + network + held
    return PROCESS + network + (joints if config.data.residence in ("host", "device") else 0), 0.0


def memory_problems(sweep: Sweep, memory: Memory, *, here: bool) -> list[str]:
    """Why a trial cannot fit: into what the file grants it, and, where the sweep runs `here`, into
    this machine.
    """
    wanted, problems = sweep.resources.per_trial_memory_gb, []
    need = f"trial {memory.trial} is expected to take {memory.main_gb:.3g} GB of main memory"
    if wanted is not None and memory.main_gb > wanted:
        problems.append(
            sweep.problem(
                ("resources", "per_trial_memory_gb"), f"{need}, the file grants it {wanted:g}"
            )
        )
    advice = "use smaller train.batch_size, train.eval_batch_size, data.frames or model.channels"
    if here and memory.machine_gb is not None and memory.main_gb > memory.machine_gb:
        problems.append(
            sweep.problem(
                ("resources",), f"{need}, this machine has {memory.machine_gb:.3g}: {advice}"
            )
        )
    if here and memory.card_gb is not None and memory.gpu_gb > memory.card_gb:
        problems.append(
            sweep.problem(
                ("resources", "gpus"),
                f"trial {memory.trial} is expected to take {memory.gpu_gb:.3g} GB of GPU memory, it"
                f" gets {memory.card_gb:.3g} here: {advice}",
            )
        )
    return problems


def together(sweep: Sweep, memory: Memory, concurrent: int) -> list[str]:
    """A note where a trial asks for more than this machine has, or where trials that fit one by one
    do not fit beside each other.
    """
    asked = sweep.resources.per_trial_memory_gb or 0
    if memory.machine_gb is not None and asked > memory.machine_gb:
        rule = (
            f"a trial does not fit on this machine, which has {memory.machine_gb:.3g} GB of main"
            f" memory, got {asked:g}: a sweep needs a larger machine or cluster"
        )
        return [sweep.problem(("resources", "per_trial_memory_gb"), rule)]
    total = memory.main_gb * concurrent
    if memory.machine_gb is None or total <= memory.machine_gb:
        return []
    rule = (
        f"{concurrent} trials at a time are expected to take {total:.3g} GB of main memory, this"
        f" machine has {memory.machine_gb:.3g}: lower max_concurrent or set"
        " per_trial_memory_gb"
    )
    return [sweep.problem(("resources",), rule)]


def machine_bytes() -> int | None:
    """Main memory that this process and its workers may take: the machine's, or less in a
    container; None where that cannot be told.
    """
    limits = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        total = next(line for line in lines if line.startswith("MemTotal:"))
        limits.append(int(total.split()[1]) * 1024)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(limits, default=None)


@cache
def gpu_bytes() -> int | None:
    """Memory of the smallest GPU of this machine; None without one, or where that cannot be told
    without loading torch.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        return min((int(line) * 2**20 for line in done.stdout.split()), default=None)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _in_gb(amount: int | None) -> float | None:
    return None if amount is None else amount / 1e9
