"""The state of a training run on disk: everything that an exact continuation needs, in one file,
written atomically.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainables.contract.artifacts import write_atomic
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
