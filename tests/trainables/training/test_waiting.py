"""A step of training reads nothing back from the device: nobody waits for it within an epoch."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.contract import fast
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import SparsityConfig, TrainConfig
from trainables.laws.narrow import clips_for, narrow_backbone
from trainables.network import train_merged
from trainables.sparsity.build import Subject, attach_sparsity
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


class NothingIsReadBack(TorchDispatchMode):
    """Whoever asks a tensor for a number gets an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number is read"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["hpi_gcn_rp", "hpi_gcn_op"])
def test_merged_layers_read_nothing_either(name, monkeypatch):
    """Autocast, which they leave, knows no device without numbers."""
    monkeypatch.setitem(fast.LEAST_VALUES, "cpu", 0)
    monkeypatch.setattr(fast, "LEAST_GRAPH_VALUES", 0)
    network = narrow_backbone(name, dropout=0.0).train()
    train_merged(network)
    clips = clips_for(network, count=4)
    with NothingIsReadBack():
        loss, _ = network.objective(clips, torch.zeros(4, dtype=torch.int64))
        loss.backward()
    with NothingIsReadBack(), pytest.raises(AssertionError, match="a number is read"):
        loss.detach().item()


MASKS = {
    "fixed": {"generator": "fixed_random", "level": 0.5},
    "fused": {"generator": "fixed_random", "level": 0.5, "sharing": "fused"},
    "scores": {"generator": "score_trainable", "level": 0.5},
    "supermask": {"generator": "supermask", "level": 0.5},
    "rigl": {"generator": "rigl", "level": 0.5, "update_every": 4},
    "learned": {"level": "learned", "target": 0.5},
}


@pytest.mark.parametrize("epoch", [1, 3], ids=["before masks", "under masks"])
@pytest.mark.parametrize("case", sorted(MASKS))
def test_steps_that_exchange_no_weights_read_nothing_under_masks(case, epoch):
    network = narrow_backbone("hpi_gcn_rp", dropout=0.0).train()
    clips = clips_for(network, count=4)
    sparsity = SparsityConfig.model_validate({"warmup": 0.5, **MASKS[case]})
    subject = Subject(network, list(network.blocks), network.head, 4, 2, 1, clips[:1])
    schedule = attach_sparsity(subject, sparsity)
    config = TrainConfig(epochs=4, warmup_epochs=0, milestones=(), clip_norm=1.0)
    fit = Fit(network, config, seed=1, objective=network.objective, schedule=schedule)
    batch = SimpleNamespace(
        x=clips, y=torch.zeros(4, dtype=torch.int64), index=torch.arange(4), persons=None
    )
    for before in range(epoch):
        fit.schedule.begin_epoch(before, fit.optimizer)
        fit._step(batch, before, 0)
        fit.schedule.end_epoch(before, fit.optimizer)
    fit.schedule.begin_epoch(epoch, fit.optimizer)
    fit._step(batch, epoch, 0)
    with NothingIsReadBack():
        fit._step(batch, epoch, 1)
