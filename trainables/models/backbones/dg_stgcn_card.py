"""The card of DG-STGCN, and its parameters and MACs by arithmetic. Imports no torch."""

from __future__ import annotations

from trainables.contract.backbones import BLOCKS, BackboneCard
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_dg_stgcn(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    model, frames = network.model, network.frames
    tally.norm(network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(model.block_plan):
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        _dynamic_group_graph_conv(tally, model.subsets, inside, outside, before)
        count_temporal(model, tally, outside, before, frames)
        if number and (inside, 1) != (outside, stride):
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(model.width, network.classes)


def _dynamic_group_graph_conv(
    tally: Tally, subsets: int, inside: int, outside: int, frames: int
) -> None:
    middle = subsets * (outside // 8)
    tally.adjacency(subsets)
    tally.adjacency_params += 2 if tally.form == "deploy" else 2 * subsets  # alpha, beta
    tally.conv_bn(inside, middle, frames, bias=True)
    for _ in range(2):  # of the mean over frames
        tally.conv(inside, middle, 1)
    tally.joint_mixing(middle, 1)  # p times q
    tally.joint_mixing(middle, frames)
    tally.conv_bn(middle, outside, frames, bias=True)
    if inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)


CARD = BackboneCard(
    name="dg_stgcn",
    module="trainables.models.backbones.dg_stgcn:DGSTGCN",
    about="DG-STGCN (Duan et al. 2022): a graph for every channel group, channel and clip.",
    counter=count_dg_stgcn,
    persons_apart=True,
    settings=(*BLOCKS, "subsets", "graph"),
    defaults={"temporal": "dg_ms_tcn", "subsets": 8},
)
