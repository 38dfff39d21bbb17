"""Memory that does not suffice: which errors say so, and what is done about it."""

from __future__ import annotations

import gc

import torch

from trainables.contract.errors import TrialFailed

WORDS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator",
)
"""Of messages of torch's that are no `torch.OutOfMemoryError`."""


class BatchTooLarge(TrialFailed):
    """A training step of a whole batch does not fit into memory; in two halves it may.

    epoch: that of the last checkpoint (0-based), with which a continuation begins.
    """

    def __init__(self, text: str, epoch: int) -> None:
        super().__init__(text)
        self.epoch = epoch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device, or of the CPU where that trains, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)


def first_line(error: BaseException) -> str:
    """Of the message: torch's goes on with advice."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def free_memory() -> None:
    """Give back what nobody holds any more; to be called when no exception holds it either."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halving(batch_size: int, epoch: int) -> str:
    """What a person should know of a trial that takes its batches in two halves from that epoch
    (0-based) on.
    """
    return (
        f"a batch of {batch_size} did not fit into memory: from epoch {epoch + 1} on every step"
        " sums the gradients of its two halves; the update is that of the whole batch, but"
        " statistics of BatchNorm, and losses that compare the clips of a batch, are over one half"
    )
