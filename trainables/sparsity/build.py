"""The way of removing weights that a configuration asks for, attached to a network.

Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from trainables.contract.sparsity import SparsityConfig
from trainables.sparsity.exchange import Exchange
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.learned import LearnedLevel
from trainables.sparsity.mask_file import load_masks
from trainables.sparsity.rewinding import Rewinding
from trainables.sparsity.scored import Supermask, TrainedScores
from trainables.training.schedule import Schedule


@dataclass(frozen=True)
class Subject:
    """What masks are attached to, and how it will be trained."""

    network: nn.Module  # all of it, as it starts
    blocks: Sequence[nn.Module]  # hold every weight a mask may touch
    head: nn.Module  # the classifier
    epochs: int  # of the recipe
    steps: int  # of an epoch
    seed: int  # of everything that is drawn for masks, and of nothing else
    clips: Tensor  # of the size the network will take; their numbers do not matter
    root: Path = Path()  # where a relative file of masks starts
    # called when a mask that was learned is fixed, and may refuse it
    when_fixed: Callable[[], None] = lambda: None


def attach_sparsity(subject: Subject, sparsity: SparsityConfig) -> Schedule | None:
    """Masks on the blocks' convolutions, and what changes them while the network trains; None for a
    dense network, which is left as it is.

    UserError where a file of masks does not fit the network, or a setting does not fit the number
    of steps.
    """
    if sparsity.dense:
        return None
    if sparsity.level == "learned":
        warmup = sparsity.warmup_epochs(subject.epochs)
        return LearnedLevel(
            subject.network,
            subject.blocks,
            sparsity,
            warmup,
            subject.steps,
            subject.clips,
            subject.when_fixed,
        )
    schedule: Schedule = sparsity.card.load()(subject, sparsity)
    return schedule


def fixed(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """Masks that are chosen before training and stay."""
    return _with_constant_channels_masked(
        SparseGenerator(
            subject.blocks, sparsity, sparsity.warmup_epochs(subject.epochs), subject.seed
        ),
        subject,
    )


def predefined(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """The masks of `sparsity.mask`."""
    assert sparsity.mask is not None
    masks = load_masks(subject.root / sparsity.mask, subject.blocks, sparsity.expected_level)
    return _with_constant_channels_masked(
        SparseGenerator(
            subject.blocks, sparsity, sparsity.warmup_epochs(subject.epochs), subject.seed, masks
        ),
        subject,
    )


def _with_constant_channels_masked(schedule: SparseGenerator, subject: Subject) -> SparseGenerator:
    schedule.mask_constant_channels(subject.network, subject.clips)
    return schedule


def trained_scores(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """Scores that move with the weights."""
    warmup = sparsity.warmup_epochs(subject.epochs)
    return TrainedScores(
        subject.blocks, sparsity, warmup, subject.seed, redraw=sparsity.source is None
    )


def supermask(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """Scores that are trained in place of the weights."""
    trained = subject.head if sparsity.train_head else None
    return Supermask(
        subject.network,
        subject.blocks,
        sparsity,
        subject.seed,
        trained=trained,
        redraw=sparsity.source is None,
    )


def rewinding(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """Pruned in rounds, rewound after each."""
    return Rewinding(subject.network, subject.blocks, sparsity, subject.epochs)


def exchange(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """Weights dropped and grown while training."""
    return Exchange(subject.blocks, sparsity, subject.epochs, subject.steps, subject.seed)
