"""Log-loss of weighted sums of sources: what strategies choose by, beside accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import summands
from orchestrator.ensembling.evaluate import FloatArray
from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.ensembling.strategies.temperatures import Softened

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]  # (S,): a number per source

CHUNK = 1 << 18  # numbers at a time: the temporary arrays stay in the cache
FEWEST_CLIPS = 32  # at a time: a table on disk is read in pieces of some size
LEAST = float(np.finfo(np.float32).tiny)  # a probability below it counts as it


class MeanLoss:
    """The log-loss of the mean of a growing bag of sources, with any source added once more.

    Of probabilities it is that of the mean probability and only the label's column matters; of
    logits that of the softmax of the mean, and all classes matter.
    """

    def __init__(self, softened: Softened, own: Floats, counts: Integers) -> None:
        """own: (N, S), the label's summands; clip n counts `counts[n]` times."""
        self._softened, self._own, self._counts = softened, own, counts
        self._labels = softened.sources.labels
        self._soft = softened.sources.combine == "probabilities"
        shape = softened.sources.values.shape[1:]
        self._sum: Floats = np.zeros(shape[:1] if self._soft else shape, np.float32)
        self._terms = 0

    @property
    def clips(self) -> int:
        """How many there are, each as often as it counts."""
        return int(self._counts.sum())

    def add(self, source: int) -> None:
        """Let the bag have it once more."""
        shares = self._softened.summands
        self._sum += self._own[:, source] if self._soft else shares(source, slice(None))
        self._terms += 1

    def now(self) -> float:
        """Nats per clip of the bag as it is."""
        mean = self._sum / np.float32(self._terms)
        losses = _of_mean(mean) if self._soft else log_loss(mean, self._labels)
        return float(self._counts @ losses) / self.clips

    def of(self, candidates: Iterable[int]) -> Vector:
        """Nats per clip with each of these sources added, (C,)."""
        wanted = np.fromiter(candidates, np.int64)
        loss = self._of_probabilities if self._soft else self._of_logits
        total = np.zeros(len(wanted))
        step = max(1, CHUNK // (len(wanted) if self._soft else self._sum[0].size))
        for start in range(0, len(self._counts), step):
            part = slice(start, start + step)
            total += self._counts[part] @ loss(wanted, part)
        return total / self.clips

    def _of_probabilities(self, wanted: Integers, part: slice) -> Doubles:
        total = self._sum[part, None] + self._own[part][:, wanted]
        return _of_mean(total / np.float32(self._terms + 1))

    def _of_logits(self, wanted: Integers, part: slice) -> Doubles:
        labels, total = self._labels[part], self._sum[part]
        losses = np.empty((len(labels), len(wanted)))
        for column, source in enumerate(wanted):
            added = total + self._softened.summands(int(source), part)
            losses[:, column] = log_loss(added / np.float32(self._terms + 1), labels)
        return losses


@dataclass(frozen=True, eq=False, slots=True)
class SumLoss:
    """The mean log-loss of weighted sums of S sources, with its slope in the weights.

    Of probabilities, -log(sum_i w_i p_i) at the label, the mean probability where the weights have
    the sum 1; of logits that of softmax(sum_i w_i x_i).
    """

    shares: Floats  # (S, N) the label's probabilities, or (S, N, K) logits
    labels: Integers  # (N,)

    @classmethod
    def of(cls, softened: Softened) -> SumLoss:
        sources = softened.sources
        if sources.combine != "probabilities":
            return cls(softened.summands(slice(None), slice(None)), sources.labels)
        count, clips, classes = sources.values.shape
        own = np.empty((count, clips), np.float32)
        step = max(FEWEST_CLIPS, CHUNK // (count * classes))
        for start in range(0, clips, step):
            part = slice(start, start + step)
            labels = sources.labels[part]
            own[:, part] = softened.summands(slice(None), part)[:, np.arange(len(labels)), labels]
        return cls(own, sources.labels)

    @property
    def count(self) -> int:
        """S."""
        return len(self.shares)

    def __call__(self, weights: Vector) -> tuple[float, Vector]:
        """Nats per clip, and what each weight changes of it, (S,)."""
        table = self.shares.reshape(self.count, -1)  # a view: nothing is copied
        total, clips = weights.astype(np.float32) @ table, len(self.labels)
        if self.shares.ndim == 2:
            mean = np.maximum(total, np.float32(LEAST))
            slope = -(table @ (1 / mean)) / clips
            return float(_of_mean(mean).mean()), slope.astype(np.float64)
        logits = total.reshape(clips, -1)
        loss = float(log_loss(logits, self.labels).mean(dtype=np.float64))
        excess = summands(logits, "probabilities")
        excess[np.arange(clips), self.labels] -= 1
        return loss, (table @ excess.ravel() / clips).astype(np.float64)


def mean_log_loss(mean: Floats, sources: Sources) -> float:
    """Nats per clip of a weighted mean of what the sources sum, (N, K), weights with sum 1."""
    rows = np.arange(len(sources.labels))
    soft = sources.combine == "probabilities"
    losses = _of_mean(mean[rows, sources.labels]) if soft else log_loss(mean, sources.labels)
    return float(losses.mean(dtype=np.float64))


def log_loss(logits: FloatArray, labels: Integers) -> FloatArray:
    """-log softmax(logits) at the label, clip by clip, (N,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses: FloatArray = (
        np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    )
    return losses


def _of_mean(probabilities: Floats) -> Doubles:
    """-log of the label's probabilities, of any shape."""
    losses: Doubles = -np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    return losses
