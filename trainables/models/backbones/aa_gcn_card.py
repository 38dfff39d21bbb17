"""The card of AA-GCN, and its parameters and MACs by arithmetic. Imports no torch."""

from __future__ import annotations

from trainables.contract.backbones import BLOCKS, BackboneCard, long_single_convolution
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_aa_gcn(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    model, frames = network.model, network.frames
    tally.norm(network.persons * network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(model.block_plan):
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        _adaptive_graph_conv(tally, model.subsets, inside, outside, before)
        if model.attention:
            _stc_attention(tally, outside, before)
        count_temporal(model, tally, outside, before, frames)
        if number and (inside, 1) != (outside, stride):
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(model.width, network.classes)


def _adaptive_graph_conv(
    tally: Tally, subsets: int, inside: int, outside: int, frames: int
) -> None:
    narrow = outside // 4
    tally.adjacency(subsets)
    tally.adjacency_params += 1  # alpha
    tally.conv(inside, 2 * subsets * narrow, frames)
    tally.joint_mixing(subsets * narrow, frames)  # theta times phi
    tally.joint_mixing(subsets * inside, frames)
    if tally.form == "deploy":
        tally.conv(subsets * inside, outside, frames)
    else:
        for _ in range(subsets):
            tally.conv(inside, outside, frames)
        tally.norm(outside)
    if inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)


def _stc_attention(tally: Tally, channels: int, frames: int) -> None:
    """Gates over joints, frames and channels; masks do not touch their layers."""
    size = tally.joints if tally.joints % 2 else tally.joints - 1
    squeeze = 2 * channels * (channels // 2)
    tally.leaf_params += (size + 9) * channels + 2 + squeeze + channels // 2 + channels
    tally.leaf_macs += ((tally.joints * size + frames * 9) * channels + squeeze) * tally.persons
    if tally.form != "released":
        # the gated mean over joints as a product
        tally.mixing_macs += channels * frames * tally.joints * tally.persons


CARD = BackboneCard(
    name="aa_gcn",
    module="trainables.models.backbones.aa_gcn:AAGCN",
    about="AA-GCN (Shi et al. 2020) as in PYSKL: learned graphs, adapted to each clip.",
    counter=count_aa_gcn,
    persons_apart=True,
    settings=(*BLOCKS, "subsets", "graph", "attention"),
    defaults={"kernel_size": long_single_convolution},
)
