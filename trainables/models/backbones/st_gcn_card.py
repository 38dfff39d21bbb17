"""The cards of ST-GCN and ST-GCN++, and their parameters and MACs by arithmetic.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.contract.backbones import BLOCKS, BackboneCard, long_single_convolution
from trainables.contract.model import ModelConfig
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal


def count_st_gcn(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier."""
    _count(network, tally, residual=False)


def count_st_gcn_pp(network: Network, tally: Tally) -> None:
    """The same with a residual inside every graph convolution."""
    _count(network, tally, residual=True)


def _count(network: Network, tally: Tally, *, residual: bool) -> None:
    model, frames = network.model, network.frames
    tally.norm(network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(model.block_plan):
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        _graph_conv(model, tally, inside, outside, before)
        if residual and inside != outside:
            tally.conv_bn(inside, outside, before, bias=True)
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


def _graph(before: Mapping[str, Any]) -> str | None:
    """The skeleton's where the adjacency is not learned from random numbers."""
    return "stgcn_spatial" if before.get("adjacency", "learned") != "learned" else None


ST_GCN = BackboneCard(
    name="st_gcn",
    module="trainables.models.backbones.st_gcn:STGCN",
    about="ST-GCN (Yan et al. 2018) as in PYSKL: one convolution per subset of links.",
    counter=count_st_gcn,
    persons_apart=True,
    settings=(*BLOCKS, "subsets", "graph", "adjacency"),
    defaults={"kernel_size": long_single_convolution, "graph": _graph},
)
ST_GCN_PP = BackboneCard(
    name="st_gcn_pp",
    module="trainables.models.backbones.st_gcn:STGCNPP",
    about="ST-GCN++ (Duan et al. 2022): ST-GCN with more residuals and six temporal branches.",
    counter=count_st_gcn_pp,
    persons_apart=True,
    settings=(*BLOCKS, "subsets", "graph", "adjacency"),
    defaults={"temporal": "ms_tcn6", "graph": "spatial"},
)
