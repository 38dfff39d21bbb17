"""What each trial gets of GPUs and cores where the file says `auto`: measured on the trials before
it, written down. Knows no Ray.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from statistics import median
from typing import Any, TypeVar

from orchestrator.planning.device_shares import Epoch, GpuShare, cpu_share, gpu_share
from orchestrator.planning.memory import CUDA
from orchestrator.record.journal import Journal
from orchestrator.search.protocol import WAIT, Wait
from orchestrator.sweep import Resources
from orchestrator.trials.space import Trial
from trainables.ray_trainable import GPU, GPU_MEMORY_GB, GPU_PEAK_GB, SHARED

T = TypeVar("T")

AS_MANY = 1e-6
"""Sums of fractions are equal up to this."""
REMEMBERED = 99
"""Epochs of a kind whose median counts, the last ones of each number of trials or threads."""


@dataclass(frozen=True)
class Grant:
    """What one trial asks of a node."""

    cpus: int
    gpus: float

    @property
    def words(self) -> str:
        """`1 core, a third of a GPU` in figures."""
        gpus = f" and {self.gpus:.2g} of a GPU" if self.gpus else ""
        return f"{self.cpus} core{'s' * (self.cpus != 1)}{gpus}"


@dataclass(frozen=True)
class Place:
    """What the trials of a sweep may take together."""

    cores: int
    gpus: float

    @classmethod
    def of(cls, nodes: list[dict[str, float]]) -> Place:
        """nodes: what each has, by Ray's names."""
        return cls(
            int(sum(node.get("CPU", 0) for node in nodes)),
            sum(node.get("GPU", 0) for node in nodes),
        )


@dataclass
class _Kind:
    """What is known of trials that load a device alike."""

    name: str
    # by trials on the GPU
    epochs: dict[int, deque[Epoch]] = field(default_factory=dict)
    # clips per second by threads
    speeds: dict[int, deque[float]] = field(default_factory=dict)
    peak_gb: float = 0.0  # of a GPU's memory, that one has taken at most
    memory_gb: float = 0.0  # of the smallest GPU that one has run on
    told: tuple[int, float] | None = None  # what was said last of threads and GPUs


@dataclass
class _Running:
    kind: _Kind
    grant: Grant
    gpu: str | None = None  # which one, once it has said so
    # how often trials came to or left that GPU when it last reported
    seen: int | None = None
    epochs: int = 0


@dataclass(frozen=True)
class Said:
    """Where decisions are written down, and who is told."""

    journal: Journal
    note: Callable[[str], None]

    def decided(self, kind: str, given: Grant, reason: str) -> None:
        self.journal.append(
            "resources_decided", kind=kind, cpus=given.cpus, gpus=given.gpus, reason=reason
        )
        self.note(f"resources {kind}: {given.words} per trial ({reason})")


class Shares:
    """Grants resources to one trial after the other."""

    def __init__(
        self,
        wanted: Resources,
        fixed: Grant,
        place: Place,
        left: int,
        said: Said,
    ) -> None:
        """fixed: what a trial gets as long as nothing has been measured, and of what is not
        `auto`. left: trials that have no ending. said: where decisions are written down.
        """
        self._auto_cpus = wanted.cpus == "auto"
        self._auto_gpus = wanted.gpus == "auto" and fixed.gpus > 0
        self._fixed = fixed
        self._place = place
        self._said = said
        self._kinds: dict[Hashable, _Kind] = {}
        self._running: dict[str, _Running] = {}
        self._moves: Counter[str] = Counter()  # trials that came to a GPU or left it
        self.left = left

    def grant(self, trial: Trial) -> Grant | Wait | None:
        """What the trial gets, which counts as taken from now on. WAIT: it is to ask again once
        another of its kind has reported or ended; None: once any has made room.
        """
        kind = self._kind(trial)
        share, threads = self._gpu_share(kind), self._threads(kind)
        self._say(kind)
        alone = self._auto_gpus and share.together == 1 and not share.settled
        if alone and any(other.kind is kind for other in self._running.values()):
            return WAIT
        given = Grant(threads, share.fraction if self._auto_gpus else self._fixed.gpus)
        if (self._auto_cpus or self._auto_gpus) and self._running and not self._has(given):
            return None
        self._running[trial.proposal.trial] = _Running(kind, given)
        return given

    def _has(self, asked: Grant) -> bool:
        taken = [each.grant for each in self._running.values()]
        cpus = sum(each.cpus for each in taken) + asked.cpus
        gpus = sum(each.gpus for each in taken) + asked.gpus
        return cpus <= self._place.cores and gpus <= self._place.gpus + AS_MANY

    def reported(self, name: str, result: Mapping[str, Any]) -> None:
        """A running trial has said where it is, or how its last epoch went."""
        running = self._running.get(name)
        if running is None:
            return
        if GPU in result:  # after a restart possibly another one
            self._moves.update(filter(None, {running.gpu, str(result[GPU])}))
            running.gpu, running.seen = str(result[GPU]), None
        if "clips_per_s" not in result or SHARED in result:
            return
        running.epochs += 1
        speed = float(result["clips_per_s"])
        if running.epochs > 1:  # the first is slower than the others
            _remember(running.kind.speeds, running.grant.cpus, speed)
        if running.gpu is None or GPU_PEAK_GB not in result:
            return
        undisturbed, running.seen = (
            running.seen == self._moves[running.gpu],
            self._moves[running.gpu],
        )
        if undisturbed:
            together = sum(other.gpu == running.gpu for other in self._running.values())
            peak = float(result[GPU_PEAK_GB]) + CUDA / 1e9
            running.kind.peak_gb = peak = max(peak, running.kind.peak_gb)
            _remember(running.kind.epochs, together, Epoch(together, speed, peak))
            memory = float(result[GPU_MEMORY_GB])
            running.kind.memory_gb = min(memory, running.kind.memory_gb or memory)
            self._say(running.kind)

    def end(self, name: str) -> None:
        """A trial has no worker any more."""
        running = self._running.pop(name, None)
        self.left -= running is not None
        if running is not None and running.gpu is not None:
            self._moves[running.gpu] += 1

    def _gpu_share(self, kind: _Kind) -> GpuShare:
        if not self._auto_gpus:
            return GpuShare(1, True, "")
        return gpu_share(chain.from_iterable(kind.epochs.values()), kind.memory_gb)

    def _threads(self, kind: _Kind) -> int:
        if not self._auto_cpus or self._fixed.gpus:
            return self._fixed.cpus
        speeds = {threads: median(each) for threads, each in kind.speeds.items()}
        share = cpu_share(max(self.left, 1), self._place.cores, speeds)
        if kind.told != (share.threads, 0.0):
            kind.told = share.threads, 0.0
            self._said.decided(kind.name, Grant(share.threads, 0.0), share.reason)
        return share.threads

    def _say(self, kind: _Kind) -> None:
        """What the next trial of the kind will get, where that has changed."""
        share = self._gpu_share(kind)
        given = Grant(self._fixed.cpus, share.fraction)
        now = share.together, given.gpus if share.settled else -given.gpus
        if self._auto_gpus and now != kind.told:
            kind.told = now
            self._said.decided(kind.name, given, share.reason)

    def _kind(self, trial: Trial) -> _Kind:
        config = trial.config
        train, data, sparsity = config.train, config.data, config.sparsity
        key = (
            (config.model, data.frames, sparsity.network, len(sparsity.levels)),
            (train.batch_size, train.eval_batch_size, train.precision),
            (train.fast, train.sparse_kernels),
            data.residence,
        )
        if key not in self._kinds:
            name = (
                f"{config.model.backbone} of {config.model.channels} channels,"
                f" {data.frames} frames, batches of {train.batch_size}"
            )
            self._kinds[key] = _Kind(name)
        return self._kinds[key]


def _remember(found: dict[int, deque[T]], number: int, value: T) -> None:
    """So that a sweep's thousandth trial costs no more than its tenth."""
    found.setdefault(number, deque(maxlen=REMEMBERED)).append(value)
