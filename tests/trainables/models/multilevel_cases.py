"""Small networks of several levels, and their clips."""

from __future__ import annotations

import torch

from tests.naive_models import random_clips
from tests.naive_multilevel import narrow_levels
from trainables.contract.config import SparsityConfig
from trainables.sparsity.levels import attach_levels

KINDS = {
    "experts": {"network": "experts"},
    "experts weighted": {"network": "experts", "fusion": "weighted", "expert_losses": False},
    "experts concat": {"network": "experts", "fusion": "concat"},
    "nested": {"network": "nested"},
    "mixture": {"network": "mixture", "active": 1},
}


LABELS = torch.tensor([0, 3, 1, 4])


def masked(kind: str, backbone: str = "st_gcn", **settings):
    """In evaluation mode with final masks, which are applied; returns the network."""
    settings = {**KINDS[kind], **settings}
    network = narrow_levels(backbone=backbone, **settings)
    levels = {"levels": network.spec.levels, "warmup": 0.0}
    config = SparsityConfig(
        **{
            name: value
            for name, value in settings.items()
            if name not in ("persons", "model", "levels")
        },
        **levels,
    )
    masks = attach_levels(network, config, 0, seed=4, clips=clips_for(network, 1))
    masks.begin_epoch(0, torch.optim.SGD(network.parameters(), lr=0.1))
    return network.eval()


def clips_for(network, count: int = 4, frames: int = 8):
    return random_clips(count, 3, frames, network.spec.joints, network.spec.persons)


def assert_same(logits, expected, tolerance=1e-9):
    assert (logits - expected).abs().max().item() <= tolerance * max(
        1.0, expected.abs().max().item()
    )
