"""How many clips a sum of sources gets right with each of the sources added, all sources at once.

Of every clip only the classes that can ever win against its label are kept, and of these only
those that can in the present round are looked at. The answers are exactly those of adding up all
classes in single precision. Knows nothing of what is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.spill import Rows, release
from orchestrator.ensembling.strategies.temperatures import Softened

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHUNK = 1 << 18  # numbers at a time: the temporary arrays stay in the cache
LARGEST = 1 << 24  # numbers of a table on disk that are in memory at once
FEWEST_CLIPS = 32  # at a time: a table on disk is read in pieces of some size


@dataclass(frozen=True, eq=False, slots=True)
class Rivals:
    """Summands of S sources: of the label of each of N clips, and of the P pairs of a clip and a
    class that is preferred to the label by some source.

    A class that no source prefers to the label loses against it in every sum of them.
    """

    own: Floats  # (N, S): of the label
    others: Floats  # (P, S): of the other class; pairs of one clip stand together
    clips: Integers  # (P,): the pair's clip
    before: Bools  # (P,): the class stands before the label, and wins where the two are equal
    most: Floats  # (P,): the largest of others - own over the sources
    least: Floats  # (P,): the smallest
    scale: float  # the largest size of a summand

    @classmethod
    def of(cls, softened: Softened, terms: int) -> Rivals:
        """Those of sums of at most that many terms."""
        sources = softened.sources
        count, clips, classes = sources.values.shape
        step = max(FEWEST_CLIPS, CHUNK // max(1, count * classes))
        own = np.empty((clips, count), np.float32)
        others, pairs, scale = Rows(count), [np.empty((0, 2), np.int64)], 1.0
        for start in range(0, clips, step):
            part = slice(start, start + step)
            labels = sources.labels[part]
            shares = softened.summands(slice(None), part)  # (S, n, K)
            rows = np.arange(len(labels))
            mine = shares[:, rows, labels]
            scale = max(scale, float(np.abs(shares).max()))
            least = (mine - _rounding(scale, terms))[:, :, None]
            near: Bools = np.logical_or.reduce(shares >= least, axis=0)
            near[rows, labels] = False
            clip, other = np.nonzero(near)
            own[part] = mine.T
            others.append(shares[:, clip, other].T)
            pairs.append(np.column_stack([clip + start, other]))
        clip, other = np.concatenate(pairs).T
        table = others.table()
        most, least = np.empty(len(table), np.float32), np.empty(len(table), np.float32)
        step = max(1, CHUNK // max(1, count))
        for start in range(0, len(table), step):
            part = slice(start, start + step)
            margins = table[part] - own[clip[part]]
            most[part], least[part] = margins.max(axis=1), margins.min(axis=1)
            release(table)
        return cls(own, table, clip, other < sources.labels[clip], most, least, scale)


class Sum:
    """A growing sum of sources, and what each source would make of it."""

    def __init__(self, rivals: Rivals, clips: Integers) -> None:
        """Of clips that count `clips` times each, (N,)."""
        self.rivals = rivals
        self.counts = clips
        self.own = np.zeros(len(rivals.own), np.float32)  # (N,): the sum's, of the label
        self.others = np.zeros(len(rivals.others), np.float32)  # (P,)
        self.terms = 0

    def add(self, source: int) -> None:
        known = self.rivals
        self.own += known.own[:, source]
        step = max(1, LARGEST // known.own.shape[1])
        for start in range(0, len(known.others), step):
            part = slice(start, start + step)
            self.others[part] += known.others[part, source]
            release(known.others)
        self.terms += 1

    def right(self) -> Integers:
        """Clips the sum gets right with each of the S sources added once more, (S,)."""
        known, sources = self.rivals, self.rivals.own.shape[1]
        gaps = self.others - self.own[known.clips]
        rounding = _rounding(known.scale, self.terms + 1)
        wrong = self.counts == 0  # whatever is added, or not asked for
        wrong[known.clips[gaps + known.least > rounding]] = True
        pairs = np.flatnonzero((gaps + known.most >= -rounding) & ~wrong[known.clips])
        clips, firsts = np.unique(known.clips[pairs], return_index=True)  # the undecided ones
        decided = self.counts.sum() - self.counts[wrong].sum() - self.counts[clips].sum()
        right = np.full(sources, decided, np.int64)
        for part, block in _blocks(firsts, len(pairs), sources):
            some = pairs[block]
            whose = known.clips[some]
            others = known.others[some] + self.others[some, None]
            own = known.own[whose] + self.own[whose, None]
            beaten = (others > own) | ((others == own) & known.before[some, None])
            lost = np.logical_or.reduceat(beaten, firsts[part] - block.start, axis=0)
            right += (self.counts[clips[part], None] * ~lost).sum(axis=0)
            release(known.others)
        return right


def _rounding(scale: float, terms: int) -> float:
    """How far rounding may move the difference of two sums of so many terms, and a bit more."""
    return 4 * terms * scale * float(np.finfo(np.float32).eps)


def _blocks(firsts: Integers, pairs: int, sources: int) -> Iterator[tuple[slice, slice]]:
    """(clips, their pairs): whole clips, about `CHUNK` numbers at a time; `firsts` (C,) is where a
    clip's pairs begin.
    """
    step = max(1, CHUNK // max(1, sources))
    cuts = np.unique([*np.searchsorted(firsts, np.arange(0, pairs, step)), len(firsts)])
    ends = np.append(firsts, pairs)
    for first, last in pairwise(cuts.tolist()):
        yield slice(first, last), slice(int(ends[first]), int(ends[last]))
