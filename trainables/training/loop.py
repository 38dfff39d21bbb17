"""Fit a module to batches: epochs, checkpoints, exact continuation.

Mask schedules come in from outside.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainables.contract.config import TrainConfig, TrialConfig
from trainables.contract.errors import Interrupted, TrialFailed
from trainables.seeding import derive
from trainables.training.beginning import SharedStates
from trainables.training.checkpoint import (
    EpochMetrics,
    Progress,
    keep_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
    settle_best,
)
from trainables.training.evaluate import LabelledBatch, cross_entropy, score, top_k
from trainables.training.memory import BatchTooLarge, first_line, is_out_of_memory
from trainables.training.optimiser import build_optimizer, learning_rate, load_optimizer
from trainables.training.schedule import Schedule


class EpochBatches(Protocol):
    """Batches that can be dealt again from any step of any epoch."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[LabelledBatch]: ...


@dataclass(frozen=True)
class Outside:
    """Everything a run touches outside of its own memory."""

    checkpoint: Path
    best: Path  # weights of the best epoch on the selection split
    # called after every epoch, once its checkpoint, where it has one, is safe; of the checkpoint's
    # last one again where a run is continued, and of all that others trained for it
    report: Callable[[EpochMetrics], None]
    should_stop: Callable[[], bool]  # asked after every step
    # called after every step with the epoch (0-based) and how many of its steps are done
    stepped: Callable[[int, int], None] = lambda _epoch, _step: None
    # seconds between two checkpoints: an epoch that ends earlier has none of its own, and is
    # trained again where the process dies; the last epoch has one
    checkpoint_every_s: float = 0.0
    beginnings: SharedStates = field(default_factory=SharedStates)


Objective = Callable[..., tuple[Tensor, Tensor]]
"""(clips, labels) -> (loss, logits (N, K)) of the module in training; where batches say how many
persons each clip has, (clips, labels, persons).
"""


@dataclass(frozen=True)
class Course:
    """Which epochs a run goes through, where they are not simply those of the recipe."""

    epochs: int
    # the recipe's epoch that each of them repeats
    recipe_epoch: Callable[[int], int] = lambda epoch: epoch
    # epochs before it are never kept as best: a sparse network is still dense there
    first_kept_epoch: int = 0

    @classmethod
    def of(cls, config: TrialConfig) -> Course:
        """A trial's, with its rounds and its warm-up."""
        return cls(config.total_epochs, config.recipe_epoch, config.first_kept_epoch)


@dataclass
class Best:
    """The weights of the best epoch so far."""

    epoch: int
    model: dict[str, Any]  # its state
    saved: bool = False


class Fit:
    """One training run. Equal inputs give equal weights on the CPU, interrupted and continued or
    not.

    Everything random in step s of epoch e is seeded from (seed, e, s), so a run can continue at any
    step without stored random state.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        seed: int,
        objective: Objective,
        course: Course | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """model: on the device to train on; objective: runs it; course: None: the recipe's epochs,
        once, the best of all kept.
        """
        self.model = model
        self.config = config
        self.device = next(model.parameters()).device
        self.seed = seed
        self.objective = objective
        self.course = Course(config.epochs) if course is None else course
        self.schedule = Schedule() if schedule is None else schedule
        self.optimizer = build_optimizer(
            [parameter for parameter in model.parameters() if parameter.requires_grad], config
        )
        self.progress = Progress()
        self.best: Best | None = None  # of the epochs of this process
        self._saved_at = time.perf_counter()
        self._saved_epoch = 0  # the one that a continuation would begin with
        self._clipped = _by_plain_name(model)

    def run(
        self,
        train: EpochBatches,
        selection: EpochBatches | None,
        outside: Outside,
        *,
        halve: bool = False,
        evaluated: Callable[[], nn.Module] | None = None,
    ) -> Progress:
        """Train to the last epoch, continuing from the checkpoint if there is one; leaves the last
        epoch's weights in the module.

        evaluated: makes of the module what is evaluated on the selection split; None: itself.
        halve: from now on, and after every continuation, a step sums the gradients of the two
        halves of its batch. Raises TrialFailed when the loss is not finite or memory does not
        suffice (BatchTooLarge where halves have not been tried), and Interrupted, with a checkpoint
        written, when asked to stop.
        """
        began = self._restore(outside)
        if halve and not self._halved:
            self.progress.halved_epoch = self.progress.epoch
        # the process may have died before anyone heard of the last epoch
        for metrics in self.progress.history if began else self.progress.history[-1:]:
            outside.report(metrics)
        evaluate = None if selection is None else partial(self._evaluate, selection, evaluated)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            while self.progress.epoch < self.course.epochs:
                self._train_epoch(train, outside)
                self._finish_epoch(evaluate, outside)
        return self.progress

    def _restore(self, outside: Outside) -> bool:
        """Go on from the checkpoint, or else from what another run left; returns whether from
        that.
        """
        state, began = load_checkpoint(outside.checkpoint, self.device), None
        if state is None:
            began = outside.beginnings.load(self.model, self.optimizer)
        if began is not None:
            self.progress = began
            self.schedule.end_epoch(began.epoch - 1, self.optimizer)
        if state is not None:
            model, optimizer, self.progress = state
            self.model.load_state_dict(model)
            load_optimizer(self.optimizer, optimizer)
        progress = self.progress
        self._saved_epoch = progress.epoch
        if not settle_best(outside.best, progress.best_epoch):
            # weights that are lost cannot be shipped: the best of the epochs to come is
            progress.forget_best()
        return began is not None

    def _train_epoch(self, train: EpochBatches, outside: Outside) -> None:
        """The remaining steps of the current epoch.

        Sums stay on the device: one transfer per epoch.
        """
        progress = self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.schedule.begin_epoch(progress.epoch, self.optimizer)
        if not all(module.training for module in self.model.modules()):
            self.model.train()
        sums = torch.tensor(
            [progress.loss_sum, progress.correct_sum, progress.penalty_sum],
            dtype=torch.float64,
            device=self.device,
        )
        started, seconds_before = time.perf_counter(), progress.epoch_seconds
        step, clips = progress.step, progress.clip_count
        for batch in train.epoch(progress.epoch, step):
            sums += self._fitting_step(batch, progress.epoch, step)
            step, clips = step + 1, clips + len(batch.index)
            outside.stepped(progress.epoch, step)
            if outside.should_stop():
                self._record(sums.tolist(), step, clips, started - seconds_before)
                self._save(outside)
                raise Interrupted(f"stopped in epoch {progress.epoch + 1} after step {step}")
        self._record(sums.tolist(), step, clips, started - seconds_before)

    def _learning_rate(self) -> float:
        return learning_rate(self.config, self.course.recipe_epoch(self.progress.epoch))

    def _record(self, sums: list[float], step: int, clips: int, epoch_started: float) -> None:
        """Note how far the epoch is.

        `sums` has come from the device, so its work is done when the clock is read here.
        """
        epoch_seconds = time.perf_counter() - epoch_started
        self.progress.loss_sum, self.progress.correct_sum, self.progress.penalty_sum = sums
        self.progress.seconds += epoch_seconds - self.progress.epoch_seconds
        self.progress.step, self.progress.clip_count, self.progress.epoch_seconds = (
            step,
            clips,
            epoch_seconds,
        )

    @property
    def _halved(self) -> bool:
        return self.progress.halved_epoch >= 0

    def _fitting_step(self, batch: LabelledBatch, epoch: int, step: int) -> Tensor:
        """`_step`; where memory does not suffice, the error says whether halves may."""
        try:
            return self._step(batch, epoch, step)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size, reason = len(batch.index), first_line(error)
        where = f"in epoch {epoch + 1}: {reason}"
        if self._halved or size < 2:
            raise TrialFailed(f"half a batch of {size} does not fit into memory {where}")
        raise BatchTooLarge(
            f"a batch of {size} does not fit into memory {where}", self._saved_epoch
        )

    def _step(self, batch: LabelledBatch, epoch: int, step: int) -> Tensor:
        """One update; returns (summed loss, number right, summed penalty) as a float64 tensor on
        the device.
        """
        assert batch.y is not None
        # dropout draws from the global generator; torch would also note who seeds absent GPUs
        draws = torch.default_generator if self.device.type == "cpu" else torch
        draws.manual_seed(derive(self.seed, "step", epoch, step))
        self.schedule.begin_step(epoch, step)
        count, parts = len(batch.y), 2 if self._halved else 1
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        penalty: Tensor | None = None
        self.optimizer.zero_grad(set_to_none=True)
        tensors = (batch.x, batch.y, *(() if batch.persons is None else (batch.persons,)))
        for part, (x, y, *persons) in enumerate(
            zip(*(each.chunk(parts) for each in tensors), strict=True)
        ):
            with self._autocast():
                loss, logits = self.objective(x, y, *persons)
            total = loss if parts == 1 else loss * (len(y) / count)
            if part == 0:
                penalty = self.schedule.penalty(epoch)
                total = total if penalty is None else total + penalty
            total.backward()  # type: ignore[no-untyped-call]
            right = (logits.detach().argmax(dim=1) == y).sum()
            extra = torch.zeros_like(loss) if part or penalty is None else penalty.detach()
            sums += torch.stack([loss.detach() * len(y), right.to(loss), extra * count]).double()
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._clipped, self.config.clip_norm)
        self.schedule.before_update(epoch, step, self.optimizer)
        self.optimizer.step()
        self.schedule.after_update(epoch, step, self.optimizer)
        return sums

    def _autocast(self) -> AbstractContextManager[object]:
        """bf16 where asked for; "auto" takes it on GPUs with bf16 tensor cores and nowhere else."""
        precision = self.config.precision
        if precision == "auto":
            gains = self.device.type == "cuda" and torch.cuda.get_device_capability(
                self.device
            ) >= (8, 0)
            precision = "bf16" if gains else "fp32"
        return (
            torch.autocast(self.device.type, dtype=torch.bfloat16)
            if precision == "bf16"
            else nullcontext()
        )

    def _finish_epoch(self, evaluate: Callable[[], EpochMetrics] | None, outside: Outside) -> None:
        """Evaluate, remember the best weights, write the checkpoint, then report."""
        progress = self.progress
        count = max(progress.clip_count, 1)
        metrics: EpochMetrics = {
            "epoch": progress.epoch,
            "train_loss": progress.loss_sum / count,
            "train_top1": progress.correct_sum / count,
            "penalty": progress.penalty_sum / count,
            "lr": self._learning_rate(),
            "clips_per_s": progress.clip_count / max(progress.epoch_seconds, 1e-9),
            **self.schedule.metrics(),
        }
        if not math.isfinite(metrics["train_loss"] + metrics["penalty"]):
            raise TrialFailed(
                f"train_loss must be finite, got {metrics['train_loss']} in epoch"
                f" {progress.epoch + 1} (lr {metrics['lr']:.4g})"
            )
        if evaluate is not None:
            metrics |= evaluate()
            if not math.isfinite(metrics["selection_loss"]):
                raise TrialFailed(
                    f"selection_loss must be finite, got {metrics['selection_loss']} in epoch"
                    f" {progress.epoch + 1}"
                )
        if evaluate is not None and self._is_best(metrics):
            self.best = Best(progress.epoch, _copy_of(self.model.state_dict()))
        progress.history.append(metrics)
        outside.beginnings.save(self.model, self.optimizer, progress)
        self.schedule.end_epoch(progress.epoch, self.optimizer)
        progress.epoch, progress.step, progress.clip_count, progress.epoch_seconds = (
            progress.epoch + 1,
            0,
            0,
            0.0,
        )
        progress.loss_sum = progress.correct_sum = progress.penalty_sum = 0.0
        last = progress.epoch == self.course.epochs
        if last or time.perf_counter() - self._saved_at >= outside.checkpoint_every_s:
            self._save(outside)
        outside.report(metrics)

    def _save(self, outside: Outside) -> None:
        """Write the checkpoint, and the best weights where they are newer than their file."""
        best = self.best if self.best is not None and not self.best.saved else None
        if best is not None:
            save_best(outside.best, best.model, best.epoch)
        save_checkpoint(
            outside.checkpoint, self.model.state_dict(), self.optimizer.state_dict(), self.progress
        )
        if best is not None:
            keep_best(outside.best)
            best.saved = True
        self._saved_at, self._saved_epoch = time.perf_counter(), self.progress.epoch

    def _evaluate(
        self, selection: EpochBatches, evaluated: Callable[[], nn.Module] | None
    ) -> EpochMetrics:
        labels: list[Tensor] = []

        def remember(batches: Iterator[LabelledBatch]) -> Iterator[LabelledBatch]:
            for batch in batches:
                assert batch.y is not None
                labels.append(batch.y)
                yield batch

        model = self.model if evaluated is None else evaluated()
        _, logits = score(model, remember(selection.epoch(0)))
        y = torch.cat(labels).cpu()
        return {"selection_loss": cross_entropy(logits, y), "selection_top1": top_k(logits, y, 1)}

    def _is_best(self, metrics: EpochMetrics) -> bool:
        """Whether the epoch is the best so far, which is noted: higher top-1 wins, then lower loss;
        epochs of a dense warm-up do not count.
        """
        progress = self.progress
        rank = (metrics["selection_top1"], -metrics["selection_loss"])
        best = (progress.best_top1, -progress.best_loss)
        if progress.epoch < self.course.first_kept_epoch or rank <= best:
            return False
        progress.best_epoch, progress.best_top1, progress.best_loss = (
            progress.epoch,
            rank[0],
            -rank[1],
        )
        return True


def _copy_of(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in state.items()
    }


def _by_plain_name(model: nn.Module) -> list[nn.Parameter]:
    """Parameters sorted by name, those under a parametrization by the name they had without: a
    norm's last bits depend on the order.
    """
    named = {
        name.replace("parametrizations.", "").removesuffix(".original"): parameter
        for name, parameter in model.named_parameters()
    }
    return [named[name] for name in sorted(named)]
