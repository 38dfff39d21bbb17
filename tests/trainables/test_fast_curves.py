"""`train.fast` auto trains as off does: the same losses, step by step, whatever the backbone."""

from types import SimpleNamespace

import pytest
import torch

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import TrainConfig
from trainables.laws.narrow import clips_for, narrow_backbone
from trainables.network import train_merged
from trainables.training.loop import Fit

STEPS, CLIPS = 20, 4
PERSONS = torch.tensor([1, 2, 1, 1])


def losses(backbone: str, fast: str) -> torch.Tensor:
    """Of every step, of clips that change from step to step."""
    network = narrow_backbone(backbone, layout="coco17", persons=2).train()
    config = TrainConfig(epochs=1, warmup_epochs=0, milestones=(), lr=1e-3, fast=fast)
    persons = None
    if fast == "auto":
        train_merged(network)
        persons = PERSONS
    fit = Fit(network, config, seed=1, objective=network.objective)
    clips = clips_for(network, count=STEPS + CLIPS - 1)
    found = []
    for step in range(STEPS):
        x = clips[step : step + CLIPS].clone()
        x[PERSONS == 1, ..., 1] = 0
        y = torch.arange(step, step + CLIPS) % 5
        batch = SimpleNamespace(x=x, y=y, index=y, persons=persons)
        found.append(fit._step(batch, 0, step)[0])
    return torch.stack(found)


@pytest.mark.parametrize("backbone", BACKBONES.own)
def test_both_ways_have_the_same_losses(backbone):
    fast, plain = losses(backbone, "auto"), losses(backbone, "off")
    assert not torch.equal(plain[0], plain[-1])
    torch.testing.assert_close(fast, plain, rtol=1e-8, atol=0)
