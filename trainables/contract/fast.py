"""Where the fast ways of a training step cost less than the plain one, by shapes alone."""

from __future__ import annotations


def merging_pays(channels: int, kernel_size: int, stride: int, positions: int) -> bool:
    """Whether a Rep-TCN block is trained as one convolution; positions: samples x frames x joints
    of its input.

    What it saves grows with the positions, what it computes on kernels does not.
    """
    return positions >= 8 * channels * kernel_size


def graph_merging_pays(channels: int, positions: int) -> bool:
    """Whether the two convolutions around an adjacency are trained as one: their product costs as
    much as `channels` positions do.
    """
    return positions >= channels
