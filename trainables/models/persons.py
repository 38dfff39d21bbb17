"""Persons who are not there: the same zeros in every clip, run once for all of them.

Knows no backbone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_SHARE = 7 / 8
"""Of the persons that may be left: BatchNorm of counted persons takes a little longer than
torch's.
"""


@dataclass(frozen=True, eq=False, slots=True)
class Collapse:
    """Persons of a batch without the repetitions of absent ones: one per place stands for all."""

    kept: Tensor  # (P',) int64: which of the N M persons are run, ascending
    counts: Tensor  # (P',) float32: how many each stands for; their sum is N M
    rows: Tensor  # (N M,) int64: which of the P' stands for a person

    def to(self, device: torch.device) -> Collapse:
        """On the device; nobody waits for it."""
        return Collapse(*(_sent(each, device) for each in (self.kept, self.counts, self.rows)))


def collapse(persons: Tensor, places: int) -> Collapse | None:
    """How a batch collapses, on the CPU; None where that is not worth it.

    persons (N,) int64 on the CPU: of each clip; the others of its M = `places` are absent.
    """
    absent = torch.arange(places) >= persons[:, None]  # (N, M)
    first = absent & (absent.cumsum(dim=0) == 1)  # stands for all absent ones of its place
    run = ~absent | first
    kept = run.flatten().nonzero().flatten()
    if len(kept) > LARGEST_SHARE * absent.numel():
        return None
    number = (run.flatten().cumsum(dim=0) - 1).view(absent.shape)  # of those that are run
    representative = number[first.int().argmax(dim=0), torch.arange(places)]  # (M,)
    rows = torch.where(absent, representative, number).flatten()
    return Collapse(kept, rows.bincount(minlength=len(kept)).float(), rows)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
