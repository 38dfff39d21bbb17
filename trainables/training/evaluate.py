"""Logits of a module on batches, and the accuracies made from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.precision import full_float32


class LabelledBatch(Protocol):
    """What training needs of a batch."""

    @property
    def x(self) -> Tensor: ...  # (N, C, T, V, M)

    @property
    def y(self) -> Tensor | None: ...  # (N,) int64

    @property
    def index(self) -> Tensor: ...  # (N,) position in the store


@torch.inference_mode()
def score(model: nn.Module, batches: Iterable[LabelledBatch]) -> tuple[Tensor, Tensor]:
    """(index (N,), logits (N, K)) on the CPU, in batch order; eval mode, full float32; one transfer at the end."""
    was_training = model.training
    model.eval()
    indices, logits = [], []
    with full_float32():
        for batch in batches:
            indices.append(batch.index)
            logits.append(model(batch.x).float())
    model.train(was_training)
    return torch.cat(indices).cpu(), torch.cat(logits).cpu()


def top_k(logits: Tensor, labels: Tensor, k: int) -> float:
    """Fraction of rows whose label is among the k largest logits."""
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(dim=1).double().mean())


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean of -log softmax(logits)[label], in nats."""
    return float(F.cross_entropy(logits.double(), labels))
