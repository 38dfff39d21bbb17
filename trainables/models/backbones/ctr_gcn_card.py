"""The card of CTR-GCN, and its parameters and MACs by arithmetic. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

from trainables.contract.backbones import BLOCKS, BackboneCard, Skeleton, tree_of_graphs
from trainables.contract.model import ModelConfig
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_ctr_gcn(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    count_units(network, tally, _refined_graph_conv)


def count_units(
    network: Network, tally: Tally, graph_conv: Callable[[Network, Tally, int, int, int], None]
) -> None:
    """The blocks of CTR-GCN's repository around any graph convolution (network, tally, C_in, C_out,
    T).
    """
    frames = network.frames
    tally.norm(network.persons * network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(network.model.block_plan):
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        graph_conv(network, tally, inside, outside, before)
        count_temporal(network.model, tally, outside, before, frames)
        if number and (inside != outside or stride != 1):
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(network.model.width, network.classes)


def _refined_graph_conv(
    network: Network, tally: Tally, inside: int, outside: int, frames: int
) -> None:
    """The released code convolves every frame before it takes the mean; here one position per joint
    is left to convolve.
    """
    model, subsets, joints = network.model, network.model.subsets, network.joints
    few = inside in (3, 9) if model.convention == "official" else inside <= 16
    reduced = 8 if few else inside // 8
    tally.conv(inside, 2 * subsets * reduced, frames if tally.form == "released" else 1)
    for _ in range(subsets):
        tally.conv(reduced, outside, joints)  # over joints x joints
        tally.conv(inside, outside, frames)
        tally.joint_mixing(outside, frames)
    tally.adjacency(subsets)
    if inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)
    if tally.form == "deploy":
        # the BatchNorm's shift where no convolution can hold it
        tally.leaf_params += outside if inside == outside else 0
    else:
        tally.norm(outside)
        tally.leaf_params += 1  # alpha


def _tree(model: ModelConfig, skeleton: Skeleton) -> tuple[int, ...]:
    """The repository takes NTU's bones as they are; PYSKL hangs hand tips and thumbs on the
    hands.
    """
    return skeleton.parents if model.convention == "official" else tree_of_graphs(model, skeleton)


CARD = BackboneCard(
    name="ctr_gcn",
    module="trainables.models.backbones.ctr_gcn:CTRGCN",
    about="CTR-GCN (Chen et al. 2021): a graph per channel, refined by what each clip shows.",
    counter=count_ctr_gcn,
    persons_apart=True,
    settings=(*BLOCKS, "subsets", "graph", "convention"),
    defaults={"temporal": "ms_tcn", "graph": "spatial"},
    tree=_tree,
)
