"""The network of several levels that a specification describes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainables.contract.sparsity import SparsityConfig
from trainables.models.experts import Experts
from trainables.models.mixture import Mixture
from trainables.models.multilevel import MultiLevel, MultiLevelSpec
from trainables.models.nested import Nested
from trainables.seeding import derive


def build_multi_level(
    spec: MultiLevelSpec, *, seed: int, sparsity: SparsityConfig | None = None
) -> MultiLevel:
    """The training form on the CPU.

    Weights depend on `seed` alone; the global generator is untouched. sparsity: what the loss is
    made of.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "fusion"))
        network = NETWORKS[spec.network](spec, seed)
    if isinstance(network, Experts) and sparsity is not None:
        network.divergence = sparsity.divergence
    if isinstance(network, Nested) and sparsity is not None:
        network.level_losses = sparsity.expert_losses
    return network


NETWORKS: dict[str, Callable[[MultiLevelSpec, int], MultiLevel]] = {
    "experts": Experts,
    "nested": Nested,
    "mixture": Mixture,
}
"""sparsity.network -> the class of the network."""
