"""The card of ST-GCN-K5, and its parameters and MACs by arithmetic. Imports no torch."""

from __future__ import annotations

from trainables.contract.backbones import BLOCKS, BackboneCard
from trainables.cost.counting.tally import Network, Tally
from trainables.models.backbones.ctr_gcn_card import count_units


def count_st_gcn_k5(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    count_units(network, tally, _graph_conv)


def _graph_conv(network: Network, tally: Tally, inside: int, outside: int, frames: int) -> None:
    subsets = network.model.subsets
    tally.adjacency(subsets)
    for _ in range(subsets):
        tally.joint_mixing(inside, frames)
    if tally.form == "deploy":  # all subsets and the BatchNorm in one convolution
        tally.conv(subsets * inside, outside, frames)
    else:
        for _ in range(subsets):
            tally.conv(inside, outside, frames)
        tally.norm(outside)
    if inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)


CARD = BackboneCard(
    name="st_gcn_k5",
    module="trainables.models.backbones.st_gcn_k5:STGCNK5",
    about="The baseline of CTR-GCN's repository: learned graphs, one convolution over 5 frames.",
    counter=count_st_gcn_k5,
    persons_apart=True,
    settings=(*BLOCKS, "subsets"),
)
