"""A convolution over time by its kept weights and both its gradients, as functions of arrays.

The input gradient is a convolution by the same weights, outputs and inputs changed places and taps
turned round. The gradient of a kept weight is a product of a row of the output gradient and a
shifted row of the input, summed; removed weights have none. Knows no networks.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from trainables.sparse.convolution import SHAPES, Steps
from trainables.sparse.rows import Numbers, Rows
from trainables.sparse.ways import CloseWay, Way, WideWay

WIDE = range(24, 33)
"""Joints whose frames are worth 32 numbers in buffers, so that pieces begin at whole vectors."""


class Pattern:
    """Which weights of a kernel (C_out, C_in / groups, K) are kept; their values come with every
    call, (N,) in the order of `places`. Arrays may lie in memory in any order; results are
    contiguous and depend neither on the number of threads nor on the run.
    """

    def __init__(self, kept: npt.NDArray[np.bool_], steps: Steps, *, groups: int = 1) -> None:
        self.rows = Rows.of(kept, groups)
        self.places = np.flatnonzero(kept)
        """Of the kept weights in the flat kernel."""
        self.weights = kept.size
        """Kept and removed ones."""
        self.steps = steps
        self._ways: OrderedDict[tuple[int, int], Way] = OrderedDict()

    def __call__(
        self, x: Numbers, values: Numbers, bias: Numbers | None, *, threads: int = 1
    ) -> Numbers:
        """(P, C_in, T, V) -> (P, C_out, T', V)."""
        start = np.zeros(self.rows.outputs, x.dtype) if bias is None else bias
        return self._way(x).forward(np.ascontiguousarray(x), values, start, threads)

    def input_gradient(
        self, gradient: Numbers, values: Numbers, frames: int, *, threads: int = 1
    ) -> Numbers:
        """(P, C_out, T', V) -> (P, C_in, T, V), T = frames."""
        way = self._way_of(frames, gradient.shape[3])
        return way.input_gradient(np.ascontiguousarray(gradient), values, threads)

    def weight_gradient(self, x: Numbers, gradient: Numbers, *, threads: int = 1) -> Numbers:
        """(N,): of the kept weights, summed over persons, frames and joints."""
        arrays = np.ascontiguousarray(x), np.ascontiguousarray(gradient)
        return self._way(x).weight_gradient(*arrays, threads)

    def _way(self, x: Numbers) -> Way:
        return self._way_of(*x.shape[2:])

    def _way_of(self, frames: int, joints: int) -> Way:
        if (frames, joints) not in self._ways:
            shifted = self.rows.size > 1 or self.steps.stride > 1 or self.steps.padding > 0
            kind = WideWay if joints in WIDE and shifted else CloseWay
            self._ways[frames, joints] = kind(self.rows, self.steps, frames, joints)
            while len(self._ways) > SHAPES:
                self._ways.popitem(last=False)
        return self._ways[frames, joints]
