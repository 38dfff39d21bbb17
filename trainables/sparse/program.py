"""A whole network as one compiled program: a person's feature maps stay in one piece of memory
that fits into the cache. Knows no networks.

Feature maps lie as rows (C, T, W): W joints, padded to whole vectors, rows an odd number of cache
lines apart. What a weight reads is a place in the memory, whichever map it belongs to, so that a
residual path, a bias per joint and the convolution itself are one row of weights.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trainables.sparse.convolution import aligned, in_parts, room
from trainables.sparse.rows import ALIGNED, Counts, Numbers, Rows, chunks_of

SHARED = 2.0
"""Outputs are computed in groups where a place that one of a group reads is read by so many of
them, on average.
"""


@dataclass(frozen=True)
class Map:
    """Where a feature map lies in the memory."""

    name: str
    at: int  # its first frame
    row: int  # numbers from channel to channel
    channels: int
    frames: int


@dataclass(frozen=True, eq=False)
class Reads:
    """Weights that read the memory: output, place and value of each."""

    owners: Counts
    places: Counts
    values: Numbers
    channels: Counts  # which of the map it reads
    source: Map

    @classmethod
    def of(cls, kernel: Numbers, source: Map) -> Reads:
        """A 1x1 kernel (C_out, C_in) of a map."""
        rows = Rows.of(kernel[:, :, None])
        places = source.at + rows.channels * source.row
        return cls(rows.owners, places, rows.values, rows.channels, source)


class Program:
    """Steps from clips (P, C, T, V) to the means over frames and joints of the last map.

    Maps of one name take turns in one place of the memory, each as large as it needs to be.
    """

    def __init__(
        self, frames: int, joints: int, kind: npt.DTypeLike, sizes: Mapping[str, int]
    ) -> None:
        """sizes: numbers of the largest map of every name, as `sizes` of the same program says;
        without them what is made here cannot be run.
        """
        from trainables.sparse.kernels import COLUMNS
        from trainables.sparse.vectors import LANES

        self.frames, self.joints, self.kind = frames, joints, np.dtype(kind)
        self.width, self.tile = -(-joints // LANES) * LANES, COLUMNS
        self.sizes: dict[str, int] = {}
        places = np.cumsum([0, *sizes.values()]).tolist()
        self._places_of = dict(zip(sizes, places, strict=False))
        self._size = places[-1]
        self._measures = not sizes
        self._constants: list[tuple[int, Numbers]] = []
        self._steps: list[tuple[int, ...]] = []
        self._starts: list[Counts] = []
        self._places: list[Counts] = []
        self._values: list[Numbers] = []
        self._biases: list[Numbers] = []
        self._mixings: list[tuple[int, int, int]] = []
        self._matrices: list[Numbers] = []
        self.map("nothing", 1, frames)  # of zeros, at 0: what sums without a start begin with

    def map(self, name: str, channels: int, frames: int, around: int = 0) -> Map:
        """The map of that name from here on, with so many frames of zeros before and behind it."""
        from trainables.sparse.kernels import CLEAR

        lines = -(-(frames + 2 * around) * self.width // ALIGNED)
        row = (lines + 1 - lines % 2) * ALIGNED
        self.sizes[name] = max(self.sizes.get(name, 0), channels * row)
        at, zeros = self._places_of.get(name, 0), around * self.width
        found = Map(name, at + zeros, row, channels, frames)
        if around:
            self._step(CLEAR, channels, zeros, at, row)
            self._step(CLEAR, channels, zeros, found.at + frames * self.width, row)
        return found

    def constant(self, name: str, per_joint: Numbers, frames: int) -> Map:
        """A map whose channels (C, V) are the same in every frame."""
        found = self.map(name, len(per_joint), frames)
        padded = np.zeros((len(per_joint), 1, self.width), self.kind)
        padded[:, 0, : self.joints] = per_joint
        tiled = np.tile(padded, (1, frames, 1)).reshape(len(per_joint), -1)
        self._constants += [(found.at + c * found.row, row) for c, row in enumerate(tiled)]
        return found

    def multiply(
        self,
        reads: Sequence[Reads],
        bias: Numbers,
        out: Map,
        *,
        start: Map | None = None,
        relu: bool = True,
    ) -> None:
        """out = bias + start + weights times what they read, then ReLU if asked; bias: (C_out,)."""
        from trainables.sparse.kernels import GROUP, MULTIPLY

        assert start is not None or out.frames <= self.frames, "nothing has no more zeros"
        if self._measures:
            return
        columns = out.frames * self.width
        owners = np.concatenate([part.owners for part in reads])
        places = np.concatenate([part.places for part in reads])
        values = np.concatenate([part.values for part in reads]).astype(self.kind)
        before = np.cumsum([0, *(part.source.channels for part in reads)])
        inputs = np.concatenate(
            [part.channels + more for part, more in zip(reads, before, strict=False)]
        )
        group = 1
        if out.channels % GROUP == 0 and columns >= self.tile:
            span = int(places.max(initial=0)) + 1
            shared, first, entry = np.unique(
                owners // GROUP * span + places, return_index=True, return_inverse=True
            )
            if len(owners) >= SHARED * len(shared):
                group, together = GROUP, np.zeros((len(shared), GROUP), self.kind)
                together[entry, owners % GROUP] = values
                owners, places = np.divmod(shared, span)
                inputs, values = inputs[first], together  # a place lies in one input
        chunks = self._chunks(reads, len(owners), out.channels // group)
        rows = inputs * chunks // int(before[-1]) * (out.channels // group) + owners
        order = np.argsort(rows, kind="stable")
        firsts = [sum(map(len, each)) for each in (self._starts, self._places, self._values)]
        counts = np.bincount(rows, minlength=chunks * out.channels // group)
        self._starts.append(np.cumsum([0, *counts]))
        self._places.append(places[order])
        self._values.append(values[order].ravel())
        begin = (0, 0) if start is None else (start.at, start.row)
        last = firsts[0] + len(counts)
        ends = (out.channels, sum(map(len, self._biases)), group, *firsts[1:])
        self._step(MULTIPLY, firsts[0], last, columns, *begin, out.at, out.row, int(relu), *ends)
        self._biases.append(bias)

    def _chunks(self, reads: Sequence[Reads], weights: int, outputs: int) -> int:
        """Into how many chunks of inputs rows are split."""
        ahead = [part.places - part.source.at - part.channels * part.source.row for part in reads]
        for part, own in zip(reads, ahead, strict=True):
            # else what lies between the maps would count as read, in far too many chunks
            assert np.abs(own).max(initial=0) < part.source.row, "reads of one map each"
        reach = max((int(np.ptp(each)) for each in ahead if len(each)), default=0)
        inputs = sum(part.source.channels for part in reads)
        return chunks_of(weights, outputs, inputs, reach, self.kind.itemsize)

    def mix(
        self, source: Map, target: Map, rows: Sequence[tuple[int, int, int]], frames: int
    ) -> None:
        """Mix the joints of channels: (channel of source, number of the matrix, channel of
        target).
        """
        from trainables.sparse.kernels import MIX

        first, size = len(self._mixings), self.joints * self.width
        self._mixings += [
            (source.at + here * source.row, matrix * size, target.at + there * target.row)
            for here, matrix, there in rows
        ]
        self._step(MIX, first, len(rows), frames, self.joints, self.width)

    def matrix(self, matrix: Numbers) -> int:
        """The number of a matrix (V, V) whose rows are summed over."""
        padded = np.zeros((self.joints, self.width), self.kind)
        padded[:, : self.joints] = matrix
        self._matrices.append(padded.ravel())
        return len(self._matrices) - 1

    def pick(self, source: Map, stride: int, first: int, target: Map) -> None:
        """target = frames first, first + stride, ... of source."""
        from trainables.sparse.kernels import PICK

        at = source.at + first * self.width
        size = (source.channels, target.frames, stride, self.width)
        self._step(PICK, *size, at, source.row, target.at, target.row)

    def leak(self, target: Map) -> None:
        """LeakyReLU in place."""
        from trainables.sparse.kernels import LEAK

        columns = target.frames * self.width
        self._step(LEAK, target.channels, columns, target.at, target.row)

    def finish(self, source: Map, result: Map) -> Compiled:
        """What runs: from `source`, which is filled, to the means of `result`."""
        memory = np.zeros(self._size, self.kind)
        for at, numbers in self._constants:
            memory[at : at + len(numbers)] = numbers
        return Compiled(
            memory,
            np.array(self._steps, np.int64),
            np.concatenate(self._starts),
            np.concatenate(self._places).astype(np.uint32),
            np.concatenate(self._values).astype(self.kind),
            np.concatenate(self._biases).astype(self.kind),
            np.array(self._mixings, np.int64).reshape(-1, 3),
            np.concatenate([*self._matrices, np.zeros(0, self.kind)]),
            (self.joints, self.width),
            source,
            result,
        )

    def _step(self, *numbers: int) -> None:
        self._steps.append((*numbers, *[0] * (14 - len(numbers))))


@dataclass(frozen=True, eq=False)
class Compiled:
    """A program that can be run."""

    memory: Numbers  # as it begins
    steps: Counts
    starts: Counts
    places: npt.NDArray[np.uint32]
    values: Numbers
    bias: Numbers
    mixings: Counts
    matrices: Numbers
    joints: tuple[int, int]  # V, W
    source: Map
    result: Map
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __call__(self, x: Numbers, threads: int = 1) -> Numbers:
        """(P, C, T, V) -> (P, C'). Every person is computed by one thread, so that results do not
        depend on their number.
        """
        means = np.empty((len(x), self.result.channels), self.memory.dtype)

        def run(part: slice) -> None:
            memory = room(self._own_memory, self.token)
            for person in range(part.start, part.stop):
                self._run(x[person], memory, means[person])

        in_parts(run, len(x), threads)
        return means

    def _own_memory(self) -> Numbers:
        memory = aligned(len(self.memory), self.memory.dtype)
        memory[:] = self.memory
        return memory

    def _run(self, x: Numbers, memory: Numbers, means: Numbers) -> None:
        from trainables.sparse import kernels

        (joints, width), result = self.joints, self.result
        self._view(memory, self.source)[:, :, :joints] = x
        kernels.run(
            memory,
            self.steps,
            (self.starts, self.places, self.values),
            self.bias,
            self.mixings,
            self.matrices,
        )
        kernels.means(memory, result.at, result.row, result.frames, joints, width, means)

    def _view(self, memory: Numbers, place: Map) -> Numbers:
        """A map as (C, T, W)."""
        rows = memory[place.at : place.at + place.channels * place.row]
        columns = place.frames * self.joints[1]
        return rows.reshape(-1, place.row)[:, :columns].reshape(
            place.channels, place.frames, self.joints[1]
        )
