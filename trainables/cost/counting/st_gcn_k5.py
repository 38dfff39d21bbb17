"""ST-GCN-K5 by arithmetic."""

from __future__ import annotations

from trainables.cost.counting.ctr_gcn import count_units
from trainables.cost.counting.tally import Network, Tally


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
