"""Logits of a module on batches, and the accuracies made from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.precision import full_float32
from trainables.training.memory import free_memory, is_out_of_memory


class LabelledBatch(Protocol):
    """What training needs of a batch."""

    @property
    def x(self) -> Tensor: ...  # (N, C, T, V, M)

    @property
    def y(self) -> Tensor | None: ...  # (N,) int64

    @property
    def index(self) -> Tensor: ...  # (N,) position in the store

    @property
    def persons(self) -> Tensor | None: ...  # (N,) on the CPU, of each clip; None: not known


@torch.inference_mode()
def score(model: nn.Module, batches: Iterable[LabelledBatch]) -> tuple[Tensor, Tensor]:
    """(index (N,), logits (N, K)) on the CPU, in batch order; eval mode, full float32; one transfer
    at the end.

    Rows of equal index behind one another are views of one clip, equally many of each: they become
    one row, see `log_mean_softmax`. Batches that do not fit into memory are taken in parts.
    """
    trained = [module for module in model.modules() if module.training]
    if trained:
        model.eval()
    indices, logits, parts = [], [], 1
    with full_float32():
        for batch in batches:
            indices.append(batch.index)
            rows, parts = _rows(model, batch.x, parts)
            logits.append(rows)
    for module in trained:
        module.training = True
    index, rows = torch.cat(indices).cpu(), torch.cat(logits).cpu()
    clips = index[index.diff(prepend=index[:1] - 1) != 0]
    return (
        (index, rows)
        if len(clips) == len(index)
        else (clips, log_mean_softmax(rows.view(len(clips), -1, rows.shape[1])))
    )


def _rows(model: nn.Module, x: Tensor, parts: int) -> tuple[Tensor, int]:
    """Logits of the clips, and into how many parts they had to be divided: at least `parts`."""
    while True:
        try:
            return torch.cat([model(part).float() for part in x.chunk(parts)]), parts
        except RuntimeError as error:
            if parts >= len(x) or not is_out_of_memory(error):
                raise
        parts *= 2
        free_memory()


def log_mean_softmax(logits: Tensor) -> Tensor:
    """log of the mean over n views of softmax(logits): (N, n, K) -> (N, K); their softmax is that
    mean.

    logsumexp_n(log_softmax(logits)) - log n.
    """
    return logits.log_softmax(dim=2).logsumexp(dim=1) - math.log(logits.shape[1])


def top_k(logits: Tensor, labels: Tensor, k: int) -> float:
    """Fraction of rows whose label is among the k largest logits; of equal logits the lower class
    stands first, as in argmax. A row of NaN has no label among its k.
    """
    label = labels[:, None]
    of_label, classes = logits.gather(1, label), torch.arange(logits.shape[1], device=logits.device)
    after = (logits < of_label) | ((logits == of_label) & (classes >= label))
    return float(((~after).sum(dim=1) < min(k, logits.shape[1])).double().mean())


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean of -log softmax(logits)[label], in nats."""
    return float(F.cross_entropy(logits.double(), labels))
