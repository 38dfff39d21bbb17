"""Masks whose zeros have even distances within a block."""

import torch
from torch import Tensor

from every_nth.card import NthOptions
from trainables.contract.config import SparsityConfig
from trainables.sparsity.amounts import removed_count
from trainables.sparsity.build import Subject
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import maskable
from trainables.training.schedule import Schedule


def every_nth(subject: Subject, sparsity: SparsityConfig) -> Schedule:
    """Of every block exactly round(level * weights), before training."""
    start = NthOptions.model_validate(sparsity.options).start
    masks = [
        _of_block([layer.weight for layer in block], sparsity.expected_level, start)
        for block in maskable(subject.blocks)
    ]
    warmup = sparsity.warmup_epochs(subject.epochs)
    return SparseGenerator(subject.blocks, sparsity, warmup, subject.seed, masks)


def _of_block(weights: list[Tensor], level: float, start: int) -> list[Tensor]:
    sizes = [weight.numel() for weight in weights]
    size, removed = sum(sizes), removed_count(sum(sizes), level)
    kept = torch.ones(size)
    kept[(torch.arange(removed) * size // max(removed, 1) + start) % size] = 0
    pieces = zip(kept.split(sizes), weights, strict=True)
    return [piece.view_as(weight) for piece, weight in pieces]
