"""How many trials share one GPU, and how many threads each gets: decided by what was measured.

Pure: knows neither Ray nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from orchestrator.planning.pace import threads_gain

EPOCHS = 2
"""So many epochs of a kind are measured before they count; a median leaves odd ones out."""
GAIN = 1.05
"""More trials on a GPU are worth it where its throughput grows by this factor: less is noise."""
USABLE = 0.9
"""Of a GPU's memory: the rest is lost between the parts of what trials ask for."""
LADDER = (1, 2, 3, 4, 6, 8)
"""Trials on one GPU that are tried, one after the other."""
MOST_THREADS = 16


@dataclass(frozen=True)
class Epoch:
    """One epoch of a trial as it was measured."""

    together: int  # trials on its GPU all the time, itself among them
    clips_per_s: float
    peak_gb: float  # GPU memory that its process took at most, in 1e9 bytes


@dataclass(frozen=True)
class GpuShare:
    """How many trials of a kind the next one shares its GPU with, itself counted."""

    together: int
    settled: bool  # whether nothing more is to be tried
    reason: str

    @property
    def fraction(self) -> float:
        """What it asks of a GPU: so many fit, and no more."""
        return 1.0 if self.together == 1 else int(10_000 / self.together) / 10_000


def gpu_share(epochs: Iterable[Epoch], memory_gb: float, most: int = LADDER[-1]) -> GpuShare:
    """For the next trial of a kind. epochs: of its trials so far; memory_gb: of the GPU; most:
    never more together.

    The first trial runs alone. Then one more step of the ladder is tried as long as the last one
    let the GPU's throughput grow, and the memory allows it.
    """
    rates, peak = _rates(epochs)
    if 1 not in rates:
        return GpuShare(1, False, f"alone until {EPOCHS} of its epochs are measured")
    room = int(USABLE * memory_gb / peak) if peak > 0 else 0
    if room < 2:
        return GpuShare(
            1, True, f"alone: it takes {peak:.3g} GB of the GPU's {memory_gb:.3g}, two do not fit"
        )
    best = 1
    for together in LADDER[1:]:
        if together > min(room, most):
            break
        if together not in rates:
            return GpuShare(together, False, f"{_figures(rates, best)}; tries {together}")
        if rates[together] < GAIN * rates[best]:
            return GpuShare(best, True, f"{_figures(rates, best)}, {_figures(rates, together)}")
        best = together
    limit = (
        f"no more than {room} fit into {memory_gb:.3g} GB"
        if room <= most
        else f"no more than {most} are tried"
    )
    return GpuShare(best, True, f"{_figures(rates, best)}; {limit}")


def _rates(epochs: Iterable[Epoch]) -> tuple[dict[int, float], float]:
    """Clips per second of a whole GPU by how many trials share it, and the largest memory of one
    trial.
    """
    speeds: dict[int, list[float]] = {}
    peak = 0.0
    for epoch in epochs:
        if epoch.clips_per_s > 0 and epoch.together > 0:
            speeds.setdefault(epoch.together, []).append(epoch.clips_per_s)
            peak = max(peak, epoch.peak_gb)
    rates = {
        together: together * median(each)
        for together, each in speeds.items()
        if len(each) >= EPOCHS
    }
    return rates, peak


def _figures(rates: Mapping[int, float], together: int) -> str:
    return f"{together} at a time do {rates[together]:,.0f} clips/s"


@dataclass(frozen=True)
class CpuShare:
    """How many threads the next trial of a kind gets, a core each."""

    threads: int
    reason: str


def cpu_share(
    trials: int, cores: int, speeds: Mapping[int, float], most: int = MOST_THREADS
) -> CpuShare:
    """For the next of so many trials that have not ended, on so many cores.

    speeds: clips per second of one trial of the kind, by its threads, as far as they were measured;
    what n threads would do otherwise is taken to be n ** THREADS_GAIN times what one does. Where
    trials are fewer than cores, each gets the number with which it is fastest, of those with which
    all run at once; of equal ones the smallest.
    """
    if trials >= cores:
        return CpuShare(1, f"{trials} trials for {cores} cores: one each wastes least")
    numbers = range(1, min(cores // max(trials, 1), most) + 1)
    best = max(numbers, key=lambda threads: _speed(threads, speeds))
    told = ", ".join(f"{n}: {speed:,.0f} clips/s" for n, speed in sorted(speeds.items()))
    basis = f"measured with threads {told}" if told else "no number of threads measured yet"
    return CpuShare(best, f"{trials} trials for {cores} cores; {basis}")


def _speed(threads: int, speeds: Mapping[int, float]) -> float:
    """As measured, or reckoned from the nearest number of threads that was."""
    known = {n: speed for n, speed in speeds.items() if n > 0 and speed > 0}
    if not known:
        return threads_gain(threads)
    nearest = min(known, key=lambda n: (abs(n - threads), n))
    return known[nearest] * threads_gain(threads) / threads_gain(nearest)
