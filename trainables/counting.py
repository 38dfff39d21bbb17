"""Parameters and multiply-accumulates of a network by arithmetic, without building it. Knows configuration and layouts, no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.layouts import Layout

COORDINATES = 3
GIGA = 1e9

Scope = Literal["block", "tensor", "global"]


@dataclass(frozen=True, slots=True)
class Count:
    """What one configuration costs: sizes in numbers, work in 1e9 multiply-accumulates for one clip with all its persons.

    `leaf` leaves adjacency matrices and their products out, as the papers count. Normalisation and activations are no MACs.
    """

    params: int  # training form
    maskable: tuple[tuple[int, ...], ...]  # weights of each convolution of each block in the training form
    gmacs: float
    deploy_params: int
    deploy_leaf_params: int
    deploy_gmacs: float
    deploy_leaf_gmacs: float

    @property
    def maskable_params(self) -> int:
        """Weights of all the blocks' convolutions in the training form."""
        return sum(map(sum, self.maskable))

    def nonzero_params(self, level: float, scope: Scope) -> int:
        """Parameters of the training form that a level leaves, within whose units it holds exactly."""
        return self.params - sum(removed_count(sum(unit), level) for unit in mask_units(self.maskable, scope))


def removed_count(size: int, level: float) -> int:
    """How many of `size` weights a level removes: round(level * (size - 1)), halves to even.

    The sparse ST-GCN study keeps scores >= the k-th smallest with k = 1 + round(level * (size - 1)), so k - 1 are removed;
    at level 0 none, and never all.
    """
    return round(level * (size - 1)) if size else 0


def mask_units(sizes: Sequence[Sequence[int]], scope: Scope) -> list[list[int]]:
    """Sizes of the tensors of every unit within which a level holds exactly; `sizes` are those of the tensors of each block."""
    tensors = [size for block in sizes for size in block]
    units = {"tensor": [[size] for size in tensors], "block": [list(block) for block in sizes], "global": [tensors]}
    return units[scope]


def count(model: ModelConfig, layout: Layout, *, classes: int, persons: int, frames: int, stream: StreamConfig) -> Count:
    """Cost of the network `model` describes, equal to the built module's; `frames` is the clip length T."""
    network = _Network(model, model.input_block_for(stream), joints=layout.size, classes=classes, persons=persons, frames=frames)
    training, deployed = _Training(layout.size, persons), _Deployed(layout.size, persons)
    for tally in (training, deployed):
        COUNTERS[model.backbone](network, tally)
    return Count(
        params=training.leaf_params + training.adjacency_params,
        maskable=tuple(map(tuple, training.maskable)),
        gmacs=(training.leaf_macs + training.adjacency_macs) / GIGA,
        deploy_params=deployed.leaf_params + deployed.adjacency_params,
        deploy_leaf_params=deployed.leaf_params,
        deploy_gmacs=(deployed.leaf_macs + deployed.adjacency_macs) / GIGA,
        deploy_leaf_gmacs=deployed.leaf_macs / GIGA,
    )


@dataclass(frozen=True, slots=True)
class _Network:
    """All that decides a network's size."""

    model: ModelConfig
    input_block: str
    joints: int
    classes: int
    persons: int
    frames: int


@dataclass(slots=True)
class _Tally:
    """Adds up the pieces of one form of a network; `frames` is always the length of the piece's output."""

    joints: int
    persons: int
    leaf_params: int = field(default=0, init=False)
    adjacency_params: int = field(default=0, init=False)
    maskable: list[list[int]] = field(default_factory=list, init=False)  # weights of each convolution of each block
    leaf_macs: int = field(default=0, init=False)
    adjacency_macs: int = field(default=0, init=False)

    def begin_block(self) -> None:
        self.maskable.append([])

    def conv(self, inside: int, outside: int, frames: int, *, taps: int = 1, bias: bool, maskable: bool = True) -> None:
        """A (taps, 1) convolution."""
        weights = inside * outside * taps
        self.leaf_params += weights + outside * bias
        if maskable:
            self.maskable[-1].append(weights)
        self.leaf_macs += weights * frames * self.joints * self.persons

    def norm(self, channels: int) -> None:
        self.leaf_params += 2 * channels

    def linear(self, inside: int, outside: int) -> None:
        """On the pooled feature of a clip."""
        self.leaf_params += (inside + 1) * outside
        self.leaf_macs += inside * outside

    def joint_mixing(self, matrices: int, channels: int, frames: int) -> None:
        """Learned adjacencies that together mix the joints of every channel once."""
        self.adjacency_params += matrices * self.joints**2
        self.adjacency_macs += channels * frames * self.joints**2 * self.persons


class _Training(_Tally):
    """Branches and BatchNorms as they are trained."""

    def conv_bn(self, inside: int, outside: int, frames: int, *, taps: int = 1, maskable: bool = True) -> None:
        self.conv(inside, outside, frames, taps=taps, bias=False, maskable=maskable)
        self.norm(outside)

    def temporal(self, channels: int, kernel_size: int, frames: int, frames_before: int) -> None:
        """Rep-TCN: origin, pointwise, average, and a 1x1-then-Kx1 branch for K = 5 and, in the K = 9 form, K = 7."""
        self.conv_bn(channels, channels, frames, taps=kernel_size)
        self.conv_bn(channels, channels, frames)
        self.conv_bn(channels, channels, frames_before)
        self.norm(channels)
        for taps in (5, 7) if kernel_size == 9 else (5,):
            self.conv_bn(channels, channels, frames_before)
            self.conv_bn(channels, channels, frames, taps=taps)

    def parallel_mixing(self, matrices: int, channels: int, frames: int) -> None:
        self.joint_mixing(matrices, channels, frames)


class _Deployed(_Tally):
    """One biased kernel for every piece that fuses."""

    def conv_bn(self, inside: int, outside: int, frames: int, *, taps: int = 1, maskable: bool = True) -> None:
        self.conv(inside, outside, frames, taps=taps, bias=True, maskable=maskable)

    def temporal(self, channels: int, kernel_size: int, frames: int, frames_before: int) -> None:
        self.conv_bn(channels, channels, frames, taps=kernel_size)

    def parallel_mixing(self, matrices: int, channels: int, frames: int) -> None:
        self.joint_mixing(1, channels, frames)


_Form = _Training | _Deployed


def _hpi_gcn(network: _Network, tally: _Form, graph_conv: Callable[[_Network, _Form, int, int, int], None]) -> None:
    """Input normalisation, stem, blocks, classifier."""
    model, frames = network.model, network.frames
    tally.norm(network.persons * network.joints * COORDINATES)
    if network.input_block == "emm":
        tally.conv(COORDINATES, model.channels, frames, bias=True, maskable=False)
        tally.norm(model.channels)
    else:
        tally.conv_bn(COORDINATES, model.channels, frames, maskable=False)
    for inside, outside, stride in model.block_plan:
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        graph_conv(network, tally, inside, outside, before)
        if inside != outside:
            tally.conv_bn(inside, outside, before)
        tally.temporal(outside, model.kernel_size, frames, before)
        tally.norm(outside)
        if inside != outside or stride != 1:
            tally.conv_bn(inside, outside, frames)
    tally.linear(model.block_plan[-1][1], network.classes)


def _rp_graph_conv(network: _Network, tally: _Form, inside: int, outside: int, frames: int) -> None:
    tally.conv(inside, inside, frames, bias=True)
    tally.parallel_mixing(network.model.adjacencies, inside, frames)
    tally.conv_bn(inside, outside, frames)


def _op_graph_conv(network: _Network, tally: _Form, inside: int, outside: int, frames: int) -> None:
    tally.conv(inside, inside, frames, bias=True)
    tally.joint_mixing(network.model.groups, inside, frames)
    tally.conv(inside, outside, frames, bias=True)
    tally.norm(outside)


COUNTERS: dict[str, Callable[[_Network, _Form], None]] = {
    "hpi_gcn_rp": lambda network, tally: _hpi_gcn(network, tally, _rp_graph_conv),
    "hpi_gcn_op": lambda network, tally: _hpi_gcn(network, tally, _op_graph_conv),
}
