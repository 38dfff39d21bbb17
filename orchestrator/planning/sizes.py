"""What the trials of a sweep weigh, by arithmetic: every different network is counted once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from trainables.contract.config import TrialConfig
from trainables.cost.counting.count import Count
from trainables.cost.counting.levels import count_trial

if TYPE_CHECKING:
    from trainables.data.store.reading import Store

FLOPS_PER_MAC = 2
PASSES = 3
"""One training step costs about three forward passes: one forward, two for the gradients of
activations and weights.
"""
BYTES = 4
"""Of one float32."""
SIZE_METRICS = (
    "params",
    "nonzero_params",
    "maskable_params",
    "deploy_params",
    "deploy_leaf_params",
    "deploy_nonzero_params",
    "deploy_gmacs",
    "deploy_leaf_gmacs",
    "level",
)
"""Metrics of a result that are known before the trial."""


class Sizes:
    """Sizes of networks on the clips of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._counts: dict[Hashable, Count] = {}
        self._disk: dict[Hashable, float] = {}

    def key(self, config: TrialConfig) -> Hashable:
        """Equal for trials whose networks have the same size: what a level removes is not part of
        it, but how many networks there are is.
        """
        several = None if config.sparsity.network == "single" else config.sparsity
        block = config.model.input_block_for(config.data.stream_config)
        return config.model, block, config.data.frames, several

    def count(self, config: TrialConfig) -> Count:
        """Parameters and work of the trial's network in each of its forms."""
        key = self.key(config)
        if key not in self._counts:
            info = self.store.info
            self._counts[key] = count_trial(
                config, self.store.layout, classes=len(info.classes), persons=info.persons
            )
        return self._counts[key]

    def metrics(self, config: TrialConfig) -> dict[str, float]:
        """Those of SIZE_METRICS, as far as they are known before the trial: expected ones where
        masks meet by chance.
        """
        count, sparsity = self.count(config), config.sparsity
        return {
            "params": count.training.params,
            "nonzero_params": count.nonzero_params(sparsity),
            "maskable_params": count.maskable_params,
            "deploy_params": count.deploy.params,
            "deploy_leaf_params": count.deploy.leaf_params,
            "deploy_nonzero_params": count.deploy_nonzero_params(sparsity)[0],
            "deploy_gmacs": count.deploy.gmacs,
            "deploy_leaf_gmacs": count.deploy.leaf_gmacs,
            "level": sparsity.expected_level,
        }

    def disk_bytes(self, config: TrialConfig) -> float:
        """See `disk_bytes`."""
        key = self.key(config), config.sparsity
        if key not in self._disk:
            self._disk[key] = disk_bytes(self.count(config), config)
        return self._disk[key]


def disk_bytes(cost: Count, config: TrialConfig) -> float:
    """What one trial leaves on disk without its scores: weights and momentum, best weights, deploy
    form, and in both checkpoints masks, the scores or gates they are made of with their momentum,
    and what weights go back to.
    """
    sparsity = config.sparsity
    networks = 0 if sparsity.dense else max(1, len(sparsity.levels))  # each with masks of its own
    masks = 2 * networks * cost.maskable_params
    # a gate per weight, with means of its gradient and square
    gated = sparsity.level == "learned" and sparsity.gate == "hard_concrete"
    scored = sparsity.level != "learned" and sparsity.card.scored
    scores = (6 * gated + 3 * scored) * cost.maskable_params if masks else 0
    rewind_point = 2 * cost.training.params if sparsity.rewinds and sparsity.rewind_epoch else 0
    return BYTES * (3 * cost.training.params + masks + scores + rewind_point + cost.deploy.params)
