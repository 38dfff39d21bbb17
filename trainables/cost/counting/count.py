"""Parameters and multiply-accumulates of a network by arithmetic, without building it.

Knows configuration and skeletons, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.sparse import deployed_zeros, trained_zeros
from trainables.cost.counting.tally import Kernel, Network, Pieces, Tally, kernels_of
from trainables.graphs import graph_parents
from trainables.layouts import Layout
from trainables.sparsity.amounts import mask_units, removed_count

__all__ = ["Count", "FormCost", "count", "mask_units", "removed_count"]

GIGA = 1e9


@dataclass(frozen=True, slots=True)
class FormCost:
    """Sizes in numbers, work in 1e9 multiply-accumulates for one clip with all its persons.

    `leaf` leaves adjacency matrices and joint mixing out, as the papers count. Normalisation and
    activations are no MACs.
    """

    params: int
    leaf_params: int
    gmacs: float
    leaf_gmacs: float
    head_params: int = 0  # of params: the classifier
    head_gmacs: float = 0.0  # of gmacs
    # numbers in the outputs of all convolutions and joint mixings, for one clip, and in the largest
    features: int = 0
    largest_output: int = 0
    operations: int = 0  # convolutions and joint mixings, run one after another


@dataclass(frozen=True, slots=True)
class Count:
    """What one configuration costs, in each of its forms."""

    training: FormCost
    released: FormCost  # as the released code computes at inference: the figures of the papers
    deploy: FormCost  # what is shipped here, everything folded
    # how many more numbers the deploy form of one network has that keeps the convolutions around
    # adjacencies apart
    apart: int
    pieces: Pieces  # what masks may touch in one network, by block

    @property
    def kernels(self) -> tuple[tuple[Kernel, ...], ...]:
        """Of each convolution of each block in the training form."""
        return tuple(
            tuple(kernel for piece in block for kernel in kernels_of(piece))
            for block in self.pieces
        )

    @property
    def maskable(self) -> tuple[tuple[int, ...], ...]:
        """Weights of each convolution of each block in the training form of one network: what masks
        may touch.
        """
        return tuple(tuple(prod(kernel) for kernel in block) for block in self.kernels)

    @property
    def maskable_params(self) -> int:
        """Weights of all the blocks' convolutions in the training form of one network."""
        return sum(map(sum, self.maskable))

    def nonzero_params(self, sparsity: SparsityConfig) -> int:
        """Parameters of the training form that stay; expected where sharing is branches or fused,
        at most that many where a price decides.
        """
        return self.training.params - sum(
            trained_zeros(self.pieces, single) for single in sparsity.disjoint
        )

    def deploy_nonzero_params(self, sparsity: SparsityConfig) -> tuple[int, bool]:
        """(parameters of the deploy form that are not zero, whether that is exact): expected where
        masks meet in one kernel by chance.

        Of the deploy forms with and without the convolutions around adjacencies as one, the sparser
        one ships. What masks do not touch is taken to be non-zero.
        """
        counted = [self._deployed_zeros(single) for single in sparsity.singles]
        return self.deploy.params - sum(zeros for zeros, _ in counted), all(
            exact for _, exact in counted
        )

    def _deployed_zeros(self, sparsity: SparsityConfig) -> tuple[int, bool]:
        """Of one network: (numbers that its deploy form has less of than a dense one has
        parameters, whether that is exact).
        """
        merged = deployed_zeros(self.pieces, sparsity, merged=True)
        zeros, exact = deployed_zeros(self.pieces, sparsity, merged=False)
        return (
            merged
            if sparsity.dense
            else max(merged, (zeros - self.apart, exact), key=lambda form: form[0])
        )


def count(
    model: ModelConfig,
    layout: Layout,
    *,
    classes: int,
    persons: int,
    frames: int,
    stream: StreamConfig,
    merge: bool = True,
) -> Count:
    """Cost of the network `model` describes, equal to the built module's; `frames` is the clip
    length T.

    merge: whether the deploy form makes the convolutions around an adjacency one, as it does with
    dense weights.
    """
    resolved = model.model_copy(update={"input_block": model.input_block_for(stream)})
    network = Network(
        resolved, graph_parents(model, layout), classes=classes, persons=persons, frames=frames
    )
    training, released, deploy = (
        Tally(form, layout.size, persons, merge) for form in ("training", "released", "deploy")
    )
    apart = Tally("deploy", layout.size, persons, merge=False)
    for tally in (training, released, deploy, apart):
        model.card.counter(network, tally)
    return Count(
        _cost(training),
        _cost(released),
        _cost(deploy),
        _cost(apart).params - _cost(deploy).params,
        tuple(map(tuple, training.pieces)),
    )


def _cost(tally: Tally) -> FormCost:
    return FormCost(
        params=tally.leaf_params + tally.adjacency_params,
        leaf_params=tally.leaf_params,
        gmacs=(tally.leaf_macs + tally.mixing_macs) / GIGA,
        leaf_gmacs=tally.leaf_macs / GIGA,
        head_params=tally.head_params,
        head_gmacs=tally.head_macs / GIGA,
        features=tally.features,
        largest_output=tally.largest_output,
        operations=tally.operations,
    )
