"""How long a trial takes, by arithmetic: how much of what it does, and what each of that costs.

The costs were measured; `calibration` corrects them by what trials have taken.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import add, mul
from typing import TYPE_CHECKING

from orchestrator.planning.sizes import FLOPS_PER_MAC, PASSES, Sizes
from trainables.contract.config import TrialConfig
from trainables.cost.counting.count import Count, FormCost
from trainables.cost.counting.levels import training_share
from trainables.data.batches.settings import views_of

if TYPE_CHECKING:
    from trainables.data.store.reading import Split

THREADS_GAIN = 0.7
"""n threads are taken to be n ** THREADS_GAIN times as fast as one, until they are measured."""


@dataclass(frozen=True)
class Work:
    """How much of each thing is done; as a `Pace`, the seconds that one of each takes."""

    trials: float = 0.0  # what a trial does once: opening, building, folding, proof, files
    epochs: float = 0.0  # what every epoch does once: checkpoints, its report
    steps: float = 0.0  # what every step does once: its batch, loss, optimiser
    # convolutions and joint mixings, with their normalisations, forward and backward
    operations: float = 0.0
    masked: float = 0.0  # convolutions under a mask
    gflops: float = 0.0  # 1e9 floating-point operations
    # 1e6 numbers in the outputs of convolutions and joint mixings, forward and backward
    meganumbers: float = 0.0
    # the same in large batches that no gradient is taken of
    scored_meganumbers: float = 0.0
    megaweights: float = 0.0  # 1e6 parameters, updated once

    @property
    def amounts(self) -> tuple[float, ...]:
        """In the order of the fields."""
        return tuple(getattr(self, name) for name in FIELDS)

    def __add__(self, other: Work) -> Work:
        return Work(*map(add, self.amounts, other.amounts))

    def __mul__(self, times: float) -> Work:
        return Work(*(times * amount for amount in self.amounts))

    def seconds(self, pace: Pace) -> float:
        """How long it takes at a pace."""
        return float(sum(map(mul, self.amounts, pace.amounts)))


FIELDS = tuple(each.name for each in fields(Work))
Pace = Work

CPU_PACE = Pace(
    trials=0.9,
    epochs=0.03,
    steps=1e-3,
    operations=1.5e-3,
    masked=2e-4,
    gflops=0.014,
    meganumbers=4.6e-3,
    scored_meganumbers=3.2e-3,
    megaweights=5e-3,
)
"""One thread of one CPU core: measured, see `benchmarks/forecast.py`."""
GPU_PACE = Pace(
    trials=6.0,
    epochs=0.1,
    steps=2e-3,
    operations=2e-4,
    masked=1e-4,
    gflops=1 / 20_000,
)
"""One GPU: assumed. An operation with its normalisation and activation starts about 25 kernels,
forward and backward, of 8 microseconds each; 20 TFLOP/s are sustained.
"""


@dataclass(frozen=True)
class TrialWork:
    """What one trial does."""

    once: Work  # before its first epoch and after its last
    epoch: Work  # every epoch, its evaluation included
    epochs: int


def trial_work(config: TrialConfig, sizes: Sizes, split: Split) -> TrialWork:
    """What a trial of these clips does, its latency not timed."""
    cost, views = sizes.count(config), views_of(config.data, sizes.store.info)
    train = config.train
    clips = len(split.train) * config.data.repeat
    steps = max(clips // train.batch_size, 1)
    chosen, tested = len(split.selection), len(split.test) * views
    evaluated = forward_work(cost.training, chosen, train.eval_batch_size)
    scored = forward_work(cost.deploy, chosen * views + tested, train.eval_batch_size)
    proven = forward_work(cost.training, chosen * views or tested, train.eval_batch_size)
    return TrialWork(
        once=Work(trials=1) + scored + proven,
        epoch=Work(epochs=1) + evaluated + step_work(config, cost) * steps,
        epochs=config.total_epochs,
    )


def step_work(config: TrialConfig, cost: Count) -> Work:
    """What one step of training does."""
    form, share, sparsity = cost.training, training_share(config.sparsity), config.sparsity
    networks = share * max(1, len(sparsity.levels))
    masked = 0.0 if sparsity.dense else networks * sum(map(len, cost.kernels))
    clips = config.train.batch_size
    return Work(
        steps=1,
        operations=share * form.operations,
        masked=masked,
        gflops=share * clips * PASSES * FLOPS_PER_MAC * form.gmacs,
        meganumbers=share * clips * form.features / 1e6,
        megaweights=form.params / 1e6,
    )


def forward_work(form: FormCost, clips: int, batch: int) -> Work:
    """Scores of so many clips: a forward pass is a third of a step's work."""
    batches = -(-clips // batch)
    return Work(
        operations=batches * form.operations / PASSES,
        gflops=clips * FLOPS_PER_MAC * form.gmacs,
        scored_meganumbers=clips * form.features / 1e6,
    )


def threads_gain(threads: int) -> float:
    """How many times as fast as one thread so many are taken to be."""
    return float(max(threads, 1) ** THREADS_GAIN)
