"""ST-GCN and ST-GCN++ by arithmetic."""

from __future__ import annotations

from trainables.contract.config import ModelConfig
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_st_gcn(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    model, frames = network.model, network.frames
    tally.norm(network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(model.block_plan):
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        _graph_conv(model, tally, inside, outside, before)
        count_temporal(model, tally, outside, before, frames)
        if number and (inside, 1) != (outside, stride):
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(model.width, network.classes)


def _graph_conv(model: ModelConfig, tally: Tally, inside: int, outside: int, frames: int) -> None:
    """The released code convolves first, here joints are mixed first; deployed, BatchNorm is in the
    kernel and one more bias.
    """
    subsets = model.subsets
    if model.adjacency != "fixed":
        tally.adjacency(subsets)
    tally.joint_mixing(subsets * (outside if tally.form == "released" else inside), frames)
    if tally.form == "deploy":
        tally.conv(subsets * inside, outside, frames)
        tally.leaf_params += subsets * outside  # the subsets' biases, scaled
    else:
        tally.conv(inside, subsets * outside, frames)
        tally.norm(outside)
    if model.backbone == "st_gcn_pp" and inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)
