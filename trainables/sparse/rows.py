"""The kept weights of a convolution over time as rows, and where in memory each of them reads.

Knows numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]  # float32 or float64
Counts = npt.NDArray[np.int64]

ALIGNED = 16
"""Rows of a buffer begin at multiples of so many numbers, a cache line in single precision."""
WIDTH = 32
"""Numbers of a frame in the buffers of wide ways."""


def compiled() -> bool:
    """Whether kernels can be compiled here: numba is installed and can be imported."""
    return _import_problem() is None


def without_numba(consequence: str) -> str:
    """What a person should know where kernels cannot be compiled; consequence: what sparse
    networks are or do because of it.
    """
    problem = _import_problem() or MISSING
    help_ = "pip install 'orchestrate[sparse]'" if problem == MISSING else "upgrading numba"
    return (
        f"{problem}, so sparse networks {consequence}: {help_} lets them compute with their kept"
        " weights alone"
    )


MISSING = "numba is not installed here"


@cache
def _import_problem() -> str | None:
    """Why numba cannot be used, None where it can: one that was made for an older numpy is
    installed and refuses to be imported.
    """
    if find_spec("numba") is None:
        return MISSING
    try:
        import_module("numba")
        import_module("llvmlite.binding")
    except Exception as error:  # whatever a package raises that does not fit the others
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"numba is installed here but cannot be imported ({reason.rstrip('.')})"
    return None


@dataclass(frozen=True, eq=False)
class Rows:
    """The weights of a kernel (C_out, C_in / groups, K) that are not zero, output by output.

    Row o is the entries starts[o] to starts[o + 1]: values[i] is the weight of input channels[i],
    counted over all groups, at tap taps[i].
    """

    starts: Counts  # (C_out + 1,)
    channels: Counts
    taps: Counts
    values: Numbers
    inputs: int  # C_in
    size: int  # K

    @classmethod
    def of(cls, kernel: Numbers, groups: int = 1) -> Rows:
        """Of a dense kernel (C_out, C_in / groups, K)."""
        outputs, inputs, size = kernel.shape
        rows, channels, taps = kernel.nonzero()  # in the order of rows
        starts = np.zeros(outputs + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=outputs), out=starts[1:])
        return cls(
            starts,
            channels + rows // (outputs // groups) * inputs,
            taps,
            np.ascontiguousarray(kernel[rows, channels, taps]),
            inputs * groups,
            size,
        )

    @property
    def outputs(self) -> int:
        """C_out."""
        return len(self.starts) - 1

    @property
    def owners(self) -> Counts:
        """The output of every weight."""
        return np.repeat(np.arange(self.outputs), np.diff(self.starts))

    def transposed(self) -> tuple[Rows, Counts]:
        """Rows of the input gradient: outputs and inputs changed places, taps reversed. And the
        order: its values are values[order].
        """
        owners, reversed_taps = self.owners, self.size - 1 - self.taps
        order = np.lexsort((reversed_taps, owners, self.channels))
        starts = np.zeros(self.inputs + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.channels, minlength=self.inputs), out=starts[1:])
        rows = Rows(
            starts,
            owners[order],
            reversed_taps[order],
            self.values[order],
            self.outputs,
            self.size,
        )
        return rows, order


@dataclass(frozen=True)
class Shifts:
    """How a convolution over time goes through maps of T frames of V joints.

    Its input is spread: padded with frames of zeros, and frames 0, s, 2 s, ... then 1, s + 1, ...
    of a stride s lie together. Then every tap reads one contiguous piece for all output frames.
    """

    frames: int  # T
    joints: int  # V
    size: int  # K
    stride: int = 1
    dilation: int = 1
    padding: int = 0  # frames of zeros before and behind

    @property
    def frames_out(self) -> int:
        """T'."""
        spanned = self.dilation * (self.size - 1) + 1
        return (self.frames + 2 * self.padding - spanned) // self.stride + 1

    @property
    def phase(self) -> int:
        """Numbers of one part of a spread row."""
        return -(-(self.frames + 2 * self.padding) // self.stride) * self.joints

    @property
    def row(self) -> int:
        """Numbers from one spread row to the next: an odd number of cache lines, so that rows do
        not meet in the same places of the cache.
        """
        lines = -(-self.stride * self.phase // ALIGNED)
        return (lines + 1 - lines % 2) * ALIGNED

    @property
    def spreads(self) -> bool:
        """Whether a map must be spread first: not of a 1x1 convolution of every frame."""
        return self.stride > 1 or self.padding > 0

    def taps(self) -> Counts:
        """(K,): where in a spread row the piece of every tap begins."""
        ahead = np.arange(self.size) * self.dilation
        return ahead % self.stride * self.phase + ahead // self.stride * self.joints

    def offsets(self, rows: Rows) -> npt.NDArray[np.uint32]:
        """Where every weight's piece begins in spread maps (C_in, row)."""
        row = self.row if self.spreads else self.frames * self.joints
        offsets = rows.channels * row + self.taps()[rows.taps]
        return offsets.astype(np.uint32)


CHUNK_BYTES = 32768
"""Of inputs that are read again and again: they stay in the cache nearest to the core."""
CHUNK_WEIGHTS = 8
"""Fewest weights that an output has in a chunk of inputs, on average: it is loaded and stored for
each."""
TILE = 128
"""Columns that are computed at a time, as far as memory is concerned."""


def chunks_of(weights: int, outputs: int, inputs: int, reach: int, number_bytes: int) -> int:
    """Into how many chunks of inputs the rows of a kernel are split; reach: numbers between the
    first and the last piece that an input is read at.
    """
    fitting = -(-inputs * (TILE + reach) * number_bytes // CHUNK_BYTES)
    return max(1, min(fitting, weights // (CHUNK_WEIGHTS * max(outputs, 1))))
