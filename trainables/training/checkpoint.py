"""The state of a training run on disk: everything that an exact continuation needs, in one file,
written atomically, and the weights of the best epoch in another that always agrees with it.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError

EpochMetrics = dict[str, float]


@dataclass
class Progress:
    """Where a run stands: `step` batches of `epoch` are done; sums are over those."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    penalty_sum: float = 0.0
    clip_count: int = 0
    seconds: float = 0.0  # training time of all attempts
    epoch_seconds: float = 0.0  # of which in the current epoch
    best_epoch: int = -1
    best_loss: float = float("inf")
    best_top1: float = -1.0
    history: list[EpochMetrics] = field(default_factory=list)
    # from which epoch on batches are taken in two halves, for want of memory; -1: they are not
    halved_epoch: int = -1
    # of the epochs and of `seconds`, what another run trained for this one
    shared_epochs: int = 0
    shared_seconds: float = 0.0

    def forget_best(self) -> None:
        """As if no epoch so far could be kept."""
        new = Progress()
        self.best_epoch, self.best_loss, self.best_top1 = (
            new.best_epoch,
            new.best_loss,
            new.best_top1,
        )


def save_checkpoint(
    path: Path, model: dict[str, Any], optimizer: dict[str, Any], progress: Progress
) -> None:
    """Replace the checkpoint by this state; a reader sees the old one or the new one."""
    save_tensors(path, {"model": model, "optimizer": optimizer, "progress": asdict(progress)})


def load_checkpoint(
    path: Path, device: torch.device
) -> tuple[dict[str, Any], dict[str, Any], Progress] | None:
    """Model state, optimiser state and progress; None where there is no checkpoint yet."""
    if not path.is_file():
        return None
    state = load_tensors(path, device)
    return state["model"], state["optimizer"], Progress(**state["progress"])


def save_best(best: Path, model: dict[str, Any], epoch: int) -> None:
    """Write the weights of a new best epoch beside `best`, which keeps those of the epoch before
    until the checkpoint that names the new one is written.
    """
    save_tensors(_next(best), {"model": model, "epoch": epoch})


def keep_best(best: Path) -> None:
    """Put what `save_best` wrote in the place of `best`: its checkpoint is written."""
    _next(best).replace(best)


def settle_best(best: Path, epoch: int) -> bool:
    """Finish or undo what a killed process began, so that `best` holds the epoch that the
    checkpoint names (-1: none); returns whether it does.

    False if the file was lost, or its process was killed between the two files before version 0.3.
    """
    waiting = _next(best)
    if waiting.is_file():
        if _epoch_of(waiting) == epoch:
            waiting.replace(best)
        else:
            waiting.unlink()
    return best.is_file() and _epoch_of(best) == epoch


def _next(best: Path) -> Path:
    return best.with_name(f"next.{best.name}")


def _epoch_of(best: Path) -> int:
    return int(load_tensors(best, torch.device("cpu"))["epoch"])


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Tensors and plain values to one file, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """What `save_tensors` wrote; nothing but tensors and plain values is accepted."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and OS errors for damaged files
        raise UserError(
            f"{path}: not a readable checkpoint ({type(error).__name__}: {error}); delete it to"
            " start this trial again"
        ) from error
    return state
