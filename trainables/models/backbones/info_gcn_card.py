"""The card of InfoGCN, and its parameters and MACs by arithmetic. Imports no torch."""

from __future__ import annotations

from trainables.contract.backbones import BLOCKS, BackboneCard
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_info_gcn(network: Network, tally: Tally) -> None:
    """Joint embedding, blocks, head with mean and variance of the code (the deploy form's is one
    layer shorter and without variance).
    """
    model, frames = network.model, network.frames
    _embedding(network, tally)
    for inside, outside, stride in model.block_plan:
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        _graph_conv(model.subsets, tally, inside, outside, before)
        count_temporal(model, tally, outside, before, frames)
        if inside != outside or stride != 1:
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(model.width, model.width)
    if tally.form != "deploy":
        tally.linear(model.width, model.width)
        tally.linear(model.width, model.width, run=tally.form == "released")  # variance
    tally.linear(model.width, network.classes)


def _embedding(network: Network, tally: Tally) -> None:
    channels = network.model.channels
    tally.conv(COORDINATES, channels, network.frames, bias=tally.form != "deploy")
    # deployed: the scale and shift that are left
    tally.norm(network.persons * network.joints * channels)
    if tally.form != "deploy":
        tally.leaf_params += network.joints * channels  # position
    if tally.form == "released":
        tally.joint_mixing(COORDINATES, network.frames)  # the hop matrix, here in the data stream


def _graph_conv(heads: int, tally: Tally, inside: int, outside: int, frames: int) -> None:
    tally.adjacency(heads)
    features = inside // 8
    positions = frames * tally.joints * tally.persons
    if tally.form != "deploy":
        tally.norm(inside)
    compared = 2 * heads * features
    tally.leaf_params += (inside + 1) * compared
    tally.leaf_macs += inside * compared * positions
    tally.mixing_macs += heads * features * tally.joints * positions  # products of queries and keys
    tally.joint_mixing(heads * inside, frames)
    for _ in range(heads):
        tally.conv(inside, outside, frames, bias=tally.form != "deploy")
    if tally.form == "deploy":
        tally.leaf_params += outside
    else:
        tally.norm(outside)
    if inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)


CARD = BackboneCard(
    name="info_gcn",
    module="trainables.models.backbones.info_gcn:InfoGCN",
    about="InfoGCN (Chi et al. 2022): self-attention over joints, a code with noise behind it.",
    counter=count_info_gcn,
    persons_apart=True,
    settings=(*BLOCKS, "subsets"),
    defaults={"temporal": "ms_tcn"},
    stem=True,
)
