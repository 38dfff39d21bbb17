"""The way of removing weights that a configuration asks for, attached to a network. Knows no backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.generator import SparseGenerator
from trainables.training.schedule import Schedule


def attach_sparsity(blocks: Sequence[nn.Module], sparsity: SparsityConfig, warmup_epochs: int, seed: int) -> Schedule | None:
    """Masks on the blocks' convolutions, and what changes them while the network trains; None for a dense network, which is left as it is.

    seed: of everything that is drawn for masks, and of nothing else.
    """
    return None if sparsity.dense else GENERATORS[sparsity.generator](blocks, sparsity, warmup_epochs, seed)


GENERATORS: dict[str, Callable[[Sequence[nn.Module], SparsityConfig, int, int], Schedule]] = {
    "fixed_random": SparseGenerator,
    "magnitude_at_init": SparseGenerator,
}
"""sparsity.generator -> what trains with such masks."""
