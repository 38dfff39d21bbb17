"""Adding up the pieces of one form of a network. Knows no backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from trainables.contract.model import Branch, ModelConfig, reached_taps

COORDINATES = 3

Kernel = tuple[int, int, int, int]
"""(C_out, C_in of a group, taps, 1): the shape of a convolution's weight."""


@dataclass(frozen=True, slots=True)
class Fused:
    """Convolutions of the training form that the deploy form makes one kernel of.

    branches: the sum of Rep-TCN. product: W1 W0 around an adjacency. difference: [W1; W2 - W1] of
    one kernel [W1 W2].
    """

    how: Literal["branches", "product", "difference"]
    parts: tuple[Kernel, ...]
    kernel: Kernel  # what ships, without taps that no branch reaches
    branches: tuple[Branch, ...] = ()
    unreached: int = 0  # weights of those taps: zero, masks or not


Piece = Kernel | Fused
Pieces = Sequence[Sequence[Piece]]
"""What masks may touch, by block."""


def kernels_of(piece: Piece) -> tuple[Kernel, ...]:
    """What its weights are in the training form."""
    return piece.parts if isinstance(piece, Fused) else (piece,)


@dataclass(frozen=True, slots=True)
class Network:
    """All that decides a network's size; `model.input_block` is decided."""

    model: ModelConfig
    parents: tuple[int, ...]
    classes: int
    persons: int
    frames: int

    @property
    def joints(self) -> int:
        """V."""
        return len(self.parents)


@dataclass(slots=True)
class Tally:
    """Adds up the pieces of one form of a network.

    training: as it is trained here. released: as the released code computes at inference, for
    comparison with the papers. deploy: what is shipped here. `frames` is always the length of the
    piece's output.
    """

    form: Literal["training", "released", "deploy"]
    joints: int
    persons: int
    merge: bool = True  # deploy: two convolutions around an adjacency are one
    leaf_params: int = field(default=0, init=False)
    adjacency_params: int = field(default=0, init=False)
    # what masks may touch, by block
    pieces: list[list[Piece]] = field(default_factory=list, init=False)
    leaf_macs: int = field(default=0, init=False)  # convolutions and linear layers
    # products with adjacency matrices, and those that make them from features
    mixing_macs: int = field(default=0, init=False)
    # of leaf_params: what comes after the mean over frames, joints and persons
    head_params: int = field(default=0, init=False)
    head_macs: int = field(default=0, init=False)  # of leaf_macs
    # numbers in the outputs of all convolutions and joint mixings, of a clip with all its persons
    features: int = field(default=0, init=False)
    largest_output: int = field(default=0, init=False)  # numbers in the largest of them
    operations: int = field(default=0, init=False)  # how many of them there are

    def begin_block(self) -> None:
        """The convolutions that follow belong to the next block: masks may touch them."""
        self.pieces.append([])

    @property
    def kernels(self) -> tuple[tuple[Kernel, ...], ...]:
        """Of each convolution of each block."""
        return tuple(
            tuple(kernel for piece in block for kernel in kernels_of(piece))
            for block in self.pieces
        )

    def conv(
        self,
        inside: int,
        outside: int,
        frames: int,
        *,
        taps: int = 1,
        bias: bool = True,
        groups: int = 1,
        joints: int | None = None,
    ) -> None:
        """A 2-D convolution over `frames` x `joints` (all of them unless given) positions of every
        person.
        """
        kernel = (outside, inside // groups, taps, 1)
        weights = prod(kernel)
        self.leaf_params += weights + outside * bias
        if self.pieces:
            self.pieces[-1].append(kernel)
        positions = frames * (self.joints if joints is None else joints) * self.persons
        self.leaf_macs += weights * positions
        self._output(outside * positions)

    def _output(self, numbers: int) -> None:
        self.operations += 1
        self.features += numbers
        self.largest_output = max(self.largest_output, numbers)

    def fuse(self, how: Literal["product", "difference"]) -> None:
        """The last two convolutions (product), or the two halves of the last one (difference), ship
        as one kernel.
        """
        parts = self._last(2 if how == "product" else 1)
        outside, inside = parts[-1][0], parts[0][1]
        kernel = (outside, inside, 1, 1) if how == "product" else (2 * outside, inside // 2, 1, 1)
        self.pieces[-1].append(Fused(how, parts, kernel))

    def fuse_branches(self, branches: tuple[Branch, ...], kernel_size: int) -> None:
        """The last convolutions are those of Rep-TCN's branches, in their order."""
        parts, reach = (
            self._last(sum(1 if isinstance(branch, str) else 2 for branch in branches)),
            reached_taps(branches, kernel_size),
        )
        outside, inside = parts[0][:2]
        unreached = (kernel_size - reach) * outside * inside
        self.pieces[-1].append(
            Fused("branches", parts, (outside, inside, reach, 1), branches, unreached)
        )

    def _last(self, number: int) -> tuple[Kernel, ...]:
        """Takes the last convolutions of the block away."""
        block = self.pieces[-1]
        parts = tuple(kernel for piece in block[-number:] for kernel in kernels_of(piece))
        del block[-number:]
        return parts

    def norm(self, channels: int) -> None:
        """Scale and shift of a normalisation."""
        self.leaf_params += 2 * channels

    def conv_bn(
        self, inside: int, outside: int, frames: int, *, taps: int = 1, bias: bool = False
    ) -> None:
        """A convolution and its BatchNorm; one biased convolution once deployed.

        The HPI-GCN code folds these when it deploys.
        """
        fused = self.form == "deploy"
        self.conv(inside, outside, frames, taps=taps, bias=bias or fused)
        if not fused:
            self.norm(outside)

    def linear(self, inside: int, outside: int, *, run: bool = True) -> None:
        """On the pooled feature of a clip; not `run`: held, but not computed at inference."""
        self.leaf_params += (inside + 1) * outside
        self.head_params += (inside + 1) * outside
        self.leaf_macs += inside * outside * run
        self.head_macs += inside * outside * run

    def adjacency(self, matrices: int) -> None:
        """Learned (V, V) matrices."""
        self.adjacency_params += matrices * self.joints**2

    def joint_mixing(self, channels: int, frames: int) -> None:
        """One product of every channel with a (V, V) matrix."""
        self.mixing_macs += channels * frames * self.joints**2 * self.persons
        self._output(channels * frames * self.joints * self.persons)
