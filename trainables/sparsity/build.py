"""The way of removing weights that a configuration asks for, attached to a network. Knows no backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.learned import LearnedLevel
from trainables.training.schedule import Schedule


def attach_sparsity(blocks: Sequence[nn.Module], sparsity: SparsityConfig, warmup_epochs: int, steps: int, seed: int) -> Schedule | None:
    """Masks on the blocks' convolutions, and what changes them while the network trains; None for a dense network, which is left as it is.

    steps: of an epoch; seed: of everything that is drawn for masks, and of nothing else.
    """
    if sparsity.dense:
        return None
    if sparsity.level == "learned":
        return LearnedLevel(blocks, sparsity, warmup_epochs, steps)
    return GENERATORS[sparsity.generator](blocks, sparsity, warmup_epochs, seed)


GENERATORS: dict[str, Callable[[Sequence[nn.Module], SparsityConfig, int, int], Schedule]] = {
    "fixed_random": SparseGenerator,
    "magnitude_at_init": SparseGenerator,
}
"""sparsity.generator -> what trains with such masks."""
