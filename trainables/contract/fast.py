"""Where the fast ways of a training step cost less than the plain one, by shapes and configuration
alone.
"""

from __future__ import annotations

from trainables.contract.config import TrialConfig


def merging_pays(channels: int, kernel_size: int, positions: int) -> bool:
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


def fast_paths(config: TrialConfig, *, joints: int, persons: int) -> tuple[str, ...]:
    """What of a trial's training is computed in a fast way, for people to read; persons: places of
    a clip. Of whole batches: smaller ones may take the plain way.
    """
    if config.train.fast == "off":
        return ()
    model, frames = config.model, config.data.frames
    temporal = graph = 0
    for inside, outside, stride in model.block_plan:
        positions = config.train.batch_size * persons * frames * joints
        graph += graph_merging_pays(inside, positions)
        temporal += merging_pays(outside, model.kernel_size, positions)
        frames = (frames - 1) // stride + 1
    blocks = f"of {len(model.block_plan)} blocks"
    paths = []
    if model.temporal == "rep_tcn" and temporal:
        paths.append(f"Rep-TCN as one convolution in {temporal} {blocks}")
    if model.card.fuses_graph_convolutions and graph:
        paths.append(f"graph convolution as one in {graph} {blocks}")
    if config.collapses_persons(persons):
        paths.append("absent persons once per batch")
    return tuple(paths)
