"""A step of training reads nothing back from the device: nobody waits for it within an epoch."""

from types import SimpleNamespace

import pytest
import torch

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import TrainConfig
from trainables.laws.narrow import clips_for, narrow_backbone
from trainables.training.loop import Fit

META = torch.device("meta")
"""Whoever reads a number from there gets an error."""


@pytest.mark.parametrize("backbone", BACKBONES.own)
def test_a_step_reads_nothing_from_the_device(backbone):
    network = narrow_backbone(backbone, persons=2).to(META).train()
    config = TrainConfig(epochs=1, warmup_epochs=0, milestones=(), clip_norm=1.0)
    fit = Fit(network, config, seed=1, objective=network.objective)
    batch = SimpleNamespace(
        x=clips_for(network, count=4).to(META),
        y=torch.zeros(4, dtype=torch.int64, device=META),
        index=torch.arange(4),
        persons=torch.tensor([1, 2, 1, 1]),
    )
    for step in range(2):
        assert fit._step(batch, 0, step).device == META
