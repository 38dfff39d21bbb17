"""This machine as a sweep would use it, found without loading torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.planning.pace import CPU_PACE, GPU_PACE, Pace, threads_gain
from orchestrator.sweep import Resources
from trainables.cost.processor import processor_name


@dataclass(frozen=True)
class Machine:
    """What the time estimate assumes of the machine."""

    name: str  # of its kind: equal ones take equally long
    device: str  # of one trial, in words
    cpus: int  # of one trial
    gpus: float  # of one trial
    concurrent: int
    corrected_by: int = 0  # trials whose times have corrected the estimate

    def describe(self) -> str:
        """`1 CPU core per trial, 2 at a time; corrected by what 12 trials have taken here`."""
        source = (
            f"corrected by what {self.corrected_by} trial{'s' * (self.corrected_by != 1)} took here"
            if self.corrected_by
            else "not corrected by any trial on it yet"
        )
        return f"{self.device} per trial, {self.concurrent} at a time; {source}"

    @property
    def pace(self) -> Pace:
        """Of one trial."""
        if self.gpus:
            return GPU_PACE * max(1.0, 1.0 / self.gpus)
        return CPU_PACE * (1.0 / threads_gain(self.cpus))


def this_machine(wanted: Resources, address: str | None = None) -> Machine:
    """With what the file asks for; one trial at a time where none fits. address: of a cluster on
    which the trials run instead, whose name it gets.
    """
    cores, cards = present()
    gpus = float(wanted.gpus) if not isinstance(wanted.gpus, str) else min(1.0, float(len(cards)))
    fits = cores // wanted.cores
    if gpus > 0:
        device = f"{gpus:g} GPU"
        fits = min(int(max(len(cards), 1) / gpus), fits)
    else:
        device = f"{wanted.cores} CPU core{'s' if wanted.cores > 1 else ''}"
    concurrent = max(1, min(fits, wanted.max_concurrent or fits))
    parts = [processor_name(), f"{cores} cores", *(dict.fromkeys(cards) if gpus else ()), device]
    name = ", ".join(parts) if address is None else f"the cluster at {address}"
    return Machine(name, device, wanted.cores, gpus, concurrent)


def present() -> tuple[int, list[str]]:
    """CPU cores that this process may use, and the names of this machine's GPUs."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    found = [entry for entry in Path("/dev").glob("nvidia[0-9]*") if entry.name[6:].isdigit()]
    names = [_model(file) for file in Path("/proc/driver/nvidia/gpus").glob("*/information")]
    return cores, [*names, *["GPU"] * len(found)][: len(found)]


def _model(file: Path) -> str:
    """What the driver calls a card."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return "GPU"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return models[0] if models else "GPU"
