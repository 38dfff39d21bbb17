"""Where the fast ways of a training step cost less than the plain one, by shapes and configuration
alone.
"""

from __future__ import annotations

from trainables.contract.config import TrialConfig

LEAST_VALUES = {"cpu": 200_000}
"""Of the input of a Rep-TCN block that is trained as one convolution: it takes some 500 small
operations more, about 10 ms on a CPU (measured).
"""
LEAST_VALUES_ELSEWHERE = 8_000_000
"""The same on a GPU, whose larger maps hide so many launches (estimated, not measured)."""
LEAST_POSITIONS_PER_ROW = 4
"""Positions for every row of a kernel, C K: what is saved grows with the positions, what is
computed on kernels does not (measured on a CPU).
"""
LEAST_GRAPH_VALUES = 100_000
"""Of the input of a graph convolution that is trained as one: smaller ones gain less than the
product of kernels costs (measured on a CPU).
"""
MOST_KEPT = 0.25
"""Share of kept weights up to which a step under masks computes with them alone: above it the dense
convolution costs less (measured on CPUs).
"""
LEAST_WEIGHTS = 2048
"""Kept and removed ones, of a kernel for which calling another program is worth it."""
AS_MASKED_KERNELS = "fused kernels by one masked convolution once masks are on"
KEPT_ALONE = "kept weights alone under masks, with numba"


def kept_weights_pay(weights: int, kept: int) -> bool:
    """Whether a step computes with the kept ones of a kernel's weights alone."""
    return weights >= LEAST_WEIGHTS and kept <= MOST_KEPT * weights


def merging_pays(channels: int, kernel_size: int, positions: int, device: str = "cpu") -> bool:
    """Whether a Rep-TCN block is trained as one convolution; positions: samples x frames x joints
    of its input.
    """
    return (
        positions >= LEAST_POSITIONS_PER_ROW * channels * kernel_size
        and positions * channels >= LEAST_VALUES.get(device, LEAST_VALUES_ELSEWHERE)
    )


def graph_merging_pays(channels: int, positions: int) -> bool:
    """Whether the two convolutions around an adjacency are trained as one: their product costs as
    much as `channels` positions do, and small inputs gain less than it costs in any case.
    """
    return positions >= channels and positions * channels >= LEAST_GRAPH_VALUES


def fast_paths(
    config: TrialConfig, *, joints: int, persons: int, evaluated: int = 0, device: str = "cpu"
) -> tuple[str, ...]:
    """What of a trial's training is computed in a fast way, for people to read; persons: places of
    a clip; evaluated: clips of the selection split. Of whole batches: smaller ones may take the
    plain way.
    """
    always = (AS_MASKED_KERNELS,) if _trains_masked_kernels(config) else ()
    if device == "cpu" and _some_kept_alone(config):
        always = (*always, KEPT_ALONE)
    if config.train.fast == "off":
        return always
    model, frames = config.model, config.data.frames
    temporal = graph = 0
    for inside, outside, stride in model.block_plan:
        positions = config.train.batch_size * persons * frames * joints
        graph += graph_merging_pays(inside, positions)
        temporal += merging_pays(outside, model.kernel_size, positions, device)
        frames = (frames - 1) // stride + 1
    blocks = f"of {len(model.block_plan)} blocks"
    paths = []
    if model.temporal == "rep_tcn" and temporal:
        paths.append(f"Rep-TCN as one convolution in {temporal} {blocks}")
    if model.card.trains_graph_convolutions_as_one and graph:
        paths.append(f"graph convolution as one in {graph} {blocks}")
    if config.collapses_persons(persons):
        paths.append("absent persons once per batch, where clips have fewer")
    if config.evaluates_deployed(evaluated, persons):
        paths.append("epochs evaluated in the deploy form")
    return (*paths, *always)


def _trains_masked_kernels(config: TrialConfig) -> bool:
    """Whether blocks that ship one kernel of several train by it, masked, when masks are on."""
    sparsity = config.sparsity
    return sparsity.counts_fused and sparsity.sharing == "fused"


def _some_kept_alone(config: TrialConfig) -> bool:
    """Whether the mask of some level lets the network's largest convolution over time, or its
    largest 1x1 one, be computed by kept weights.
    """
    model = config.model
    taps = model.kernel_size if model.temporal in ("conv", "rep_tcn") else 1
    weights = model.width**2 * taps
    return config.trains_kept_weights and any(
        kept_weights_pay(weights, round(weights * (1 - single.expected_level)))
        for single in config.sparsity.singles
    )
