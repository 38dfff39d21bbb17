"""The card of HopMixer, and its parameters and MACs by arithmetic. Imports no torch."""

from pydantic import BaseModel, Field

from trainables.contract.backbones import BLOCKS, BackboneCard
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


class HopOptions(BaseModel, frozen=True, extra="forbid"):
    """What a sweep may write under `model.options`."""

    hops: int = Field(default=2, ge=1, le=6)  # links between joints that see each other


def count_hop_mixer(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    model, frames = network.model, network.frames
    hops = HopOptions.model_validate(model.options).hops
    tally.norm(network.persons * network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(model.block_plan):
        tally.begin_block()  # masks may touch the convolutions that follow
        before, frames = frames, (frames - 1) // stride + 1
        tally.joint_mixing(hops * inside, before)
        tally.conv_bn((hops + 1) * inside, outside, before)
        count_temporal(model, tally, outside, before, frames)
        if number and (inside, 1) != (outside, stride):
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(model.width, network.classes)


CARD = BackboneCard(
    name="hop_mixer",
    module="hop_mixer.net:HopMixer",
    about="Joints see those up to a few links away, by fixed matrices.",
    counter=count_hop_mixer,
    settings=BLOCKS,
    defaults={"stages": (2, 2), "kernel_size": 7},
    options=HopOptions,
)
