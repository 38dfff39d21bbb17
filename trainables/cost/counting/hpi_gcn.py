"""HPI-GCN by arithmetic: RP, OP and the baseline."""

from __future__ import annotations

from trainables.contract.config import ModelConfig
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_hpi_gcn(network: Network, tally: Tally) -> None:
    """Input normalisation, stem, blocks, classifier."""
    model, frames = network.model, network.frames
    normalised = model.backbone != "hpi_gcn_baseline" or model.normalised
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
        _graph_conv(model, tally, inside, outside, before, normalised)
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


def _graph_conv(
    model: ModelConfig, tally: Tally, inside: int, outside: int, frames: int, normalised: bool
) -> None:
    tally.joint_mixing(inside, frames)
    if model.backbone == "hpi_gcn_op":
        tally.adjacency(model.groups)
        tally.conv(inside, inside, frames)
        tally.conv(inside, outside, frames)
        if tally.form != "deploy":
            tally.norm(outside)
    elif tally.form == "deploy" and tally.merge:  # both convolutions as one
        tally.adjacency(1)
        tally.conv(inside, outside, frames)
        tally.leaf_params += outside  # the inner bias as the outer convolution sees it
    else:
        tally.adjacency(
            model.adjacencies if model.backbone == "hpi_gcn_rp" and tally.form == "training" else 1
        )
        tally.conv(inside, inside, frames)
        _conv(tally, inside, outside, frames, normalised)
        tally.fuse("product")
    if inside != outside:
        _conv(tally, inside, outside, frames, normalised)
