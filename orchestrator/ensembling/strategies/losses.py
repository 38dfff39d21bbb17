"""Log-loss of weighted sums of sources: what strategies choose by, beside accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling import spill
from orchestrator.ensembling.combine import summands
from orchestrator.ensembling.evaluate import FloatArray
from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.ensembling.strategies.temperatures import Softened

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]  # (S,): a number per source

CHUNK = 1 << 18  # numbers at a time: the temporary arrays stay in the cache
LARGEST = 1 << 24  # numbers of a table on disk that are in memory at once
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


class SumLoss:
    """The mean log-loss of weighted sums of S sources, with its slope in the weights.

    Of probabilities, -log(sum_i w_i p_i) at the label, the mean probability where the weights have
    the sum 1; of logits that of softmax(sum_i w_i x_i), where all classes matter: a table that is
    too large for memory is read each time, a few sources at once.
    """

    def __init__(self, softened: Softened) -> None:
        self._softened, self._labels = softened, softened.sources.labels
        soft = softened.sources.combine == "probabilities"
        self._own = _of_labels(softened) if soft else None
        self._all: Floats | None = None
        if not soft and softened.sources.values.nbytes <= spill.LIMIT:
            self._all = softened.summands(slice(None), slice(None)).reshape(self.count, -1)

    @property
    def count(self) -> int:
        """S."""
        return len(self._softened.sources.members)

    def __call__(self, weights: Vector) -> tuple[float, Vector]:
        """Nats per clip, and what each weight changes of it, (S,)."""
        factors, clips = weights.astype(np.float32), len(self._labels)
        if self._own is not None:
            mean = np.maximum(factors @ self._own, np.float32(LEAST))
            slope = -(self._own @ (1 / mean)) / clips
            return float(_of_mean(mean).mean()), slope.astype(np.float64)
        logits = np.zeros(self._softened.sources.values.shape[1:], np.float32)
        for which, table in self._tables():
            logits += (factors[which] @ table).reshape(logits.shape)
        loss = float(log_loss(logits, self._labels).mean(dtype=np.float64))
        excess = summands(logits, "probabilities")
        excess[np.arange(clips), self._labels] -= 1
        slopes = [table @ excess.ravel() / clips for _, table in self._tables()]
        return loss, np.concatenate(slopes).astype(np.float64)

    def _tables(self) -> Iterator[tuple[slice, Floats]]:
        """(sources, their summands (s, N K)), as many at once as are in memory."""
        if self._all is not None:
            yield slice(None), self._all
            return
        count, clips, classes = self._softened.sources.values.shape
        step = max(1, LARGEST // max(1, clips * classes))
        for start in range(0, count, step):
            which = slice(start, min(start + step, count))
            table = self._softened.summands(which, slice(None))
            yield which, table.reshape(len(table), -1)
            spill.release(self._softened.sources.values)


def _of_labels(softened: Softened) -> Floats:
    """The summands of the label of each clip, (S, N)."""
    sources = softened.sources
    count, clips, classes = sources.values.shape
    own = np.empty((count, clips), np.float32)
    step = max(FEWEST_CLIPS, CHUNK // (count * classes))
    for start in range(0, clips, step):
        part = slice(start, start + step)
        labels = sources.labels[part]
        own[:, part] = softened.summands(slice(None), part)[:, np.arange(len(labels)), labels]
    return own


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
