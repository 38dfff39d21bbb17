"""Steps by kept weights are the dense steps with the zeros in them, but for rounding."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from tests.trainables.one_trial import run_trial, write_synthetic
from tests.trainables.trial_configs import config_of
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import (
    ModelConfig,
    SparsityConfig,
    StreamConfig,
    TrainConfig,
    TrialConfig,
)
from trainables.contract.errors import Interrupted
from trainables.data.batches.batches import Batch
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.models.build_levels import build_multi_level
from trainables.models.multilevel import multi_level_spec
from trainables.network import train_sparse
from trainables.reparam import kept, kept_mixing
from trainables.sparse import rows
from trainables.sparse.gradients import Pattern
from trainables.sparsity.build import Subject, attach_sparsity
from trainables.sparsity.levels import attach_levels
from trainables.sparsity.masks import attach, write_masks
from trainables.training.checkpoint import load_tensors
from trainables.training.loop import Fit

FRAMES, PERSONS, STEPS, EPOCHS = 8, 1, 3, 4


@pytest.fixture(autouse=True)
def small_kernels_too(monkeypatch):
    monkeypatch.setattr(kept, "kept_weights_pay", lambda weights, kept: True)


@pytest.fixture
def calls(monkeypatch):
    """How often a convolution ran by its kept weights."""
    found, run = [], Pattern.__call__

    def counted(self, *arguments, **settings):
        found.append(self)
        return run(self, *arguments, **settings)

    monkeypatch.setattr(Pattern, "__call__", counted)
    return found


def fit_of(model, sparsity, *, kernels, dtype=torch.float64):
    model = ModelConfig(**{"channels": 8, "stages": [1, 1], **model})
    sparsity = SparsityConfig.model_validate({"warmup": 0.25, **sparsity})
    parts = {"classes": 3, "persons": PERSONS, "stream": StreamConfig()}
    layout = load_layout("ucla20")
    clips = torch.ones(1, 3, FRAMES, layout.size, PERSONS, dtype=dtype)
    if sparsity.network == "single":
        network = build_backbone(model, layout, seed=0, **parts).to(dtype)
        subject = Subject(
            network, list(network.blocks), network.head, EPOCHS, STEPS, seed=1, clips=clips
        )
        masks = attach_sparsity(subject, sparsity)
    else:
        spec = multi_level_spec(model, sparsity, layout, **parts)
        network = build_multi_level(spec, seed=0, sparsity=sparsity).to(dtype)
        masks = attach_levels(network, sparsity, 1, 1, clips)
    config = TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "p"},
            "sparsity": sparsity.model_dump(by_alias=True),
            "train": {"sparse_kernels": kernels},
        }
    )
    assert train_sparse(network, config, torch.device("cpu")) == []
    train = TrainConfig(epochs=EPOCHS, lr=0.05, warmup_epochs=1, milestones=[3])
    return Fit(network, train, seed=2, objective=network.objective, schedule=masks)


def batch(step, dtype):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, 3, FRAMES, 20, PERSONS, generator=generator, dtype=dtype)
    return Batch(x, torch.arange(4) % 3, torch.arange(4))


def trained(fit, dtype=torch.float64):
    """(loss, right, penalty) of every step."""
    sums = []
    for epoch in range(EPOCHS):
        fit.schedule.begin_epoch(epoch, fit.optimizer)
        fit.model.train()
        sums += [fit._step(batch(step, dtype), epoch, step) for step in range(STEPS)]
        fit.schedule.end_epoch(epoch, fit.optimizer)
    return torch.stack(sums)


RP = {"backbone": "hpi_gcn_rp"}
WAYS = {
    "fixed_random": (RP, {"level": 0.6}),
    "fused sharing": (RP, {"level": 0.8, "sharing": "fused"}),
    "same channels": (RP, {"level": 0.6, "sharing": "channels"}),
    "shared by branches": (RP, {"level": 0.8, "sharing": "branches"}),
    "magnitude_at_init": ({"backbone": "st_gcn"}, {"level": 0.8, "generator": "magnitude_at_init"}),
    "Rep-TCN of ST-GCN, fused": (
        {"backbone": "st_gcn", "temporal": "rep_tcn"},
        {"level": 0.8, "sharing": "fused"},
    ),
    "MS-TCN": ({"backbone": "ctr_gcn", "channels": 8}, {"level": 0.8}),
    "rigl": ({"backbone": "st_gcn"}, {"level": 0.8, "generator": "rigl", "update_every": 2}),
    "set": ({"backbone": "st_gcn"}, {"level": 0.8, "generator": "set", "update_every": 2}),
    "rewinding": ({"backbone": "st_gcn"}, {"level": 0.8, "generator": "rewinding", "rounds": 2}),
    "nested": (RP, {"network": "nested", "levels": [0.5, 0.9]}),
    "experts": (RP, {"network": "experts", "levels": [0.4, 0.7]}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_step_has_the_loss_of_the_dense_one(way, calls):
    dense, sparse = (fit_of(*WAYS[way], kernels=kernels) for kernels in ("off", "auto"))
    expected = trained(dense)
    assert not calls
    found = trained(sparse)
    assert calls
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    ours, theirs = sparse.model.state_dict(), dense.model.state_dict()
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("way", ["fixed_random", "fused sharing", "nested"])
def test_one_step_has_the_dense_gradients(way, calls):
    fits = [fit_of(*WAYS[way], kernels=kernels) for kernels in ("off", "auto")]
    for fit in fits:
        fit.schedule.begin_epoch(2, fit.optimizer)
        fit.schedule.begin_step(2, 0)
        fit.model.train()
        torch.manual_seed(3)  # dropout
        loss, _ = fit.objective(batch(0, torch.float64).x, batch(0, torch.float64).y)
        loss.backward()
    named = (dict(fit.model.named_parameters()) for fit in fits)
    dense, sparse = ({n: p.grad for n, p in each.items()} for each in named)
    for name, gradient in dense.items():
        torch.testing.assert_close(sparse[name], gradient, rtol=1e-12, atol=1e-12)
        zero = "parametrizations" in name
        assert not zero or torch.equal(sparse[name] == 0, gradient == 0)


def test_joints_are_mixed_beside_their_convolution_in_steps_under_masks(monkeypatch):
    mixed, calls = kept_mixing.mixed, []
    monkeypatch.setattr(
        kept_mixing, "mixed", lambda *given, **more: calls.append(1) or mixed(*given, **more)
    )
    fit = fit_of(*WAYS["magnitude_at_init"], kernels="auto")
    for epoch in (0, 2):  # before and after the switch
        assert not calls
        fit.schedule.begin_epoch(epoch, fit.optimizer)
        fit.model.train()
        fit._step(batch(0, torch.float64), epoch, 0)
    assert calls


def test_dense_epochs_are_those_without_kernels_to_the_last_bit(calls):
    states = []
    for kernels in ("off", "auto"):
        fit = fit_of(*WAYS["fixed_random"], kernels=kernels, dtype=torch.float32)
        fit.schedule.begin_epoch(0, fit.optimizer)
        fit.model.train()
        fit._step(batch(0, torch.float32), 0, 0)
        states.append(fit.model.state_dict())
    assert not calls
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())


def test_rigl_runs_dense_in_the_steps_that_exchange_weights(calls):
    fit = fit_of(*WAYS["rigl"], kernels="auto")
    fit.schedule.begin_epoch(0, fit.optimizer)
    fit.model.train()
    counts = []
    for step in range(STEPS):
        before = len(calls)
        fit._step(batch(step, torch.float64), 0, step)
        counts.append(len(calls) - before)
    assert counts[2] == 0
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("generator", ["score_trainable", "supermask"])
def test_scores_need_the_gradients_of_removed_weights(generator, calls):
    trained(fit_of({"backbone": "st_gcn"}, {"level": 0.8, "generator": generator}, kernels="auto"))
    assert not calls


def test_equal_runs_have_equal_bits():
    runs = [fit_of(*WAYS["fixed_random"], kernels="auto", dtype=torch.float32) for _ in range(2)]
    one, other = (trained(fit, torch.float32) for fit in runs)
    assert torch.equal(one, other)
    states = [fit.model.state_dict() for fit in runs]
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())


def masked_conv():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 5, (3, 1), padding=(1, 0), dtype=torch.float64)
    masked = attach(conv, (torch.rand(conv.weight.shape) > 0.7).double())
    masked.active = True
    kept.train_by_kept_weights(conv)
    return conv, masked


def test_a_mask_that_changes_is_seen(calls):
    conv, _ = masked_conv()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    conv(x)
    for twin in (conv, copy.deepcopy(conv)):
        mask = twin.parametrizations.weight[0].mask
        with torch.no_grad():
            mask.copy_(1 - mask)
        expected = torch.nn.functional.conv2d(x, twin.weight, twin.bias, padding=(1, 0))
        torch.testing.assert_close(twin(x), expected, rtol=1e-13, atol=1e-13)
    assert len(calls) == 3


def test_one_mask_may_be_arranged_in_two_ways():
    _, masked = masked_conv()
    whole, turned = kept.ConvOptions(padding=1), kept.ConvOptions(padding=1)
    first = masked.pattern(whole, torch.Tensor.contiguous)
    second = masked.pattern(turned, lambda mask: mask.flip(2))
    assert masked.pattern(whole, torch.Tensor.contiguous) is first
    assert (first.places != second.places).any()


def test_memory_that_does_not_suffice_is_what_torch_would_say(monkeypatch):
    def none_left(*shape, **settings):
        raise MemoryError("Unable to allocate 9 TiB")

    conv, _ = masked_conv()
    out = conv(torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True))
    monkeypatch.setattr("trainables.sparse.ways.np.empty", none_left)
    with pytest.raises(torch.OutOfMemoryError, match="9 TiB"):
        out.sum().backward()
    with pytest.raises(torch.OutOfMemoryError, match="9 TiB"):
        conv(torch.randn(2, 6, 5, 4, dtype=torch.float64))


def test_evaluation_and_written_masks_are_dense(calls):
    conv, _ = masked_conv()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        before = conv(x)
    write_masks(torch.nn.Sequential(conv))
    assert torch.equal(conv(x), before)
    assert not calls


def test_without_numba_training_is_dense_and_says_so(monkeypatch):
    monkeypatch.setattr("trainables.network.compiled", lambda: False)
    conv, masked = masked_conv()
    masked.by_kept_weights = False
    config = TrialConfig.model_validate(
        {"data": {"store": "s", "protocol": "p"}, "sparsity": {"level": 0.8}}
    )
    note = rows.without_numba("are trained dense on a CPU")
    assert train_sparse(conv, config, torch.device("cpu")) == [note]
    assert not masked.by_kept_weights
    assert train_sparse(conv, config, torch.device("cuda")) == []
    dense = config.model_copy(update={"sparsity": SparsityConfig()})
    assert train_sparse(conv, dense, torch.device("cpu")) == []


def test_a_trial_goes_on_to_the_last_bit(tmp_path, calls):
    store = write_synthetic(tmp_path / "synth")
    config = config_of(store, level=0.8)
    whole = TrialDir(tmp_path / "whole")
    run_trial(config, whole)
    assert calls
    asked = itertools.count(1)
    cut = TrialDir(tmp_path / "cut")
    with pytest.raises(Interrupted):
        run_trial(config, cut, should_stop=lambda: next(asked) == 7)
    run_trial(config, cut)
    one, other = (load_tensors(out.kept_file, torch.device("cpu"))["model"] for out in (whole, cut))
    assert one.keys() == other.keys()
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
