"""Adding up the pieces of one form of a network. Knows no backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal

from trainables.contract.config import ModelConfig

COORDINATES = 3

Kernel = tuple[int, int, int, int]
"""(C_out, C_in of a group, taps, 1): the shape of a convolution's weight."""


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

    training: as it is trained here. released: as the released code computes at inference, for comparison with the papers. deploy:
    what is shipped here. `frames` is always the length of the piece's output.
    """

    form: Literal["training", "released", "deploy"]
    joints: int
    persons: int
    merge: bool = True  # deploy: two convolutions around an adjacency are one
    leaf_params: int = field(default=0, init=False)
    adjacency_params: int = field(default=0, init=False)
    kernels: list[list[Kernel]] = field(default_factory=list, init=False)  # of each convolution of each block
    leaf_macs: int = field(default=0, init=False)  # convolutions and linear layers
    mixing_macs: int = field(default=0, init=False)  # products with adjacency matrices, and those that make them from features
    head_params: int = field(default=0, init=False)  # of leaf_params: what comes after the mean over frames, joints and persons
    head_macs: int = field(default=0, init=False)  # of leaf_macs

    def begin_block(self) -> None:
        """The convolutions that follow belong to the next block: masks may touch them."""
        self.kernels.append([])

    def conv(
        self, inside: int, outside: int, frames: int, *, taps: int = 1, bias: bool = True, groups: int = 1, joints: int | None = None
    ) -> None:
        """A 2-D convolution over `frames` x `joints` (all of them unless given) positions of every person."""
        kernel = (outside, inside // groups, taps, 1)
        weights = prod(kernel)
        self.leaf_params += weights + outside * bias
        if self.kernels:
            self.kernels[-1].append(kernel)
        self.leaf_macs += weights * frames * (self.joints if joints is None else joints) * self.persons

    def norm(self, channels: int) -> None:
        """Scale and shift of a normalisation."""
        self.leaf_params += 2 * channels

    def conv_bn(self, inside: int, outside: int, frames: int, *, taps: int = 1, bias: bool = False) -> None:
        """A convolution and its BatchNorm; one biased convolution once deployed. The HPI-GCN code folds these when it deploys."""
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
