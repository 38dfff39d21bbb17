"""The cards of HPI-GCN (RP, OP and the baseline), and their parameters and MACs by arithmetic.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable

from trainables.contract.backbones import BLOCKS, BackboneCard
from trainables.contract.model import ModelConfig
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal

GraphConv = Callable[[ModelConfig, Tally, int, int, int], None]
"""A graph convolution (model, tally, C_in, C_out, T) without its residual."""


def count_baseline(network: Network, tally: Tally) -> None:
    """As OP and RP; BatchNorms are optional."""
    _count(network, tally, _baseline, normalised=network.model.normalised)


def count_rp(network: Network, tally: Tally) -> None:
    """Parallel adjacency matrices."""
    _count(network, tally, _parallel)


def count_op(network: Network, tally: Tally) -> None:
    """Grouped joint mixing."""
    _count(network, tally, _grouped)


def _count(
    network: Network, tally: Tally, graph_conv: GraphConv, *, normalised: bool = True
) -> None:
    """Input normalisation, stem, blocks, classifier."""
    model, frames = network.model, network.frames
    tally.norm(network.persons * network.joints * COORDINATES)
    if model.input_block == "emm":
        tally.conv(8 * COORDINATES, model.channels, frames, groups=8)
        if tally.form != "deploy":
            tally.norm(model.channels)
    else:
        _conv(tally, COORDINATES, model.channels, frames, normalised)
    for inside, outside, stride in model.block_plan:
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        tally.joint_mixing(inside, before)
        graph_conv(model, tally, inside, outside, before)
        if inside != outside:
            _conv(tally, inside, outside, before, normalised)
        count_temporal(model, tally, outside, before, frames, bias=not normalised)
        if inside != outside or stride != 1:
            _conv(tally, inside, outside, frames, normalised)
    tally.linear(model.width, network.classes)


def _conv(tally: Tally, inside: int, outside: int, frames: int, normalised: bool) -> None:
    """A 1x1 convolution with BatchNorm, which the released code
    folds too, or with a bias instead.
    """
    if normalised and tally.form == "training":
        tally.conv_bn(inside, outside, frames)
    else:
        tally.conv(inside, outside, frames)


def _grouped(model: ModelConfig, tally: Tally, inside: int, outside: int, frames: int) -> None:
    tally.adjacency(model.groups)
    tally.conv(inside, inside, frames)
    tally.conv(inside, outside, frames)
    if tally.form != "deploy":
        tally.norm(outside)


def _parallel(model: ModelConfig, tally: Tally, inside: int, outside: int, frames: int) -> None:
    matrices = model.adjacencies if tally.form == "training" else 1
    _around_an_adjacency(tally, inside, outside, frames, matrices=matrices, normalised=True)


def _baseline(model: ModelConfig, tally: Tally, inside: int, outside: int, frames: int) -> None:
    _around_an_adjacency(tally, inside, outside, frames, matrices=1, normalised=model.normalised)


def _around_an_adjacency(
    tally: Tally, inside: int, outside: int, frames: int, *, matrices: int, normalised: bool
) -> None:
    if tally.form == "deploy" and tally.merge:  # both convolutions as one
        tally.adjacency(1)
        tally.conv(inside, outside, frames)
        tally.leaf_params += outside  # the inner bias as the outer convolution sees it
    else:
        tally.adjacency(matrices)
        tally.conv(inside, inside, frames)
        _conv(tally, inside, outside, frames, normalised)
        tally.fuse("product")


def _groups_divide(model: ModelConfig) -> None:
    if model.channels % model.groups:
        raise ValueError(
            f"groups must divide channels, got groups={model.groups} and channels={model.channels}"
        )


BASELINE = BackboneCard(
    name="hpi_gcn_baseline",
    module="trainables.models.backbones.hpi_gcn:HPIGCNBaseline",
    about="The baseline of HPI-GCN's ablations: RP's inference structure, trained as it is.",
    counter=count_baseline,
    persons_apart=True,
    settings=(*BLOCKS, "normalised", "input_block"),
    defaults={"dropout": 0.1},
    stem=True,
    fuses_graph_convolutions=True,
    trains_graph_convolutions_as_one=True,
)
RP = BackboneCard(
    name="hpi_gcn_rp",
    module="trainables.models.backbones.hpi_gcn:HPIGCNRP",
    about="HPI-GCN-RP: parallel graphs and temporal branches, one of each at inference.",
    counter=count_rp,
    persons_apart=True,
    settings=(*BLOCKS, "adjacencies", "input_block"),
    defaults={"temporal": "rep_tcn", "dropout": 0.1},
    stem=True,
    fuses_graph_convolutions=True,
    trains_graph_convolutions_as_one=True,
)
OP = BackboneCard(
    name="hpi_gcn_op",
    module="trainables.models.backbones.hpi_gcn:HPIGCNOP",
    about="HPI-GCN-OP: a graph per channel group, temporal branches that become one.",
    counter=count_op,
    persons_apart=True,
    settings=(*BLOCKS, "groups", "input_block"),
    defaults={"temporal": "rep_tcn", "dropout": 0.1},
    check=_groups_divide,
    stem=True,
)
