"""Trained scores and supermasks: straight-through gradients, thresholds, what moves and what does
not.
"""

import copy

import pytest
import torch
from torch import nn

from tests.naive_sparsity import kth_smallest_mask
from tests.trainables.sparsity.small import Clips, attached, fit_of, network, outside
from trainables.sparsity.scored import Scored


def scores(model):
    return [module.scores for module in model.modules() if isinstance(module, Scored)]


def test_straight_through_gradients():
    """dL/dS = dL/d(W m) W and dL/dW = dL/d(W m) m, where dL/d(W m) is that of a plain weight; while
    dense m is all ones.
    """
    layer, plain = nn.Conv2d(3, 4, 1).double(), nn.Conv2d(3, 4, 1).double()
    weight = layer.weight
    part = Scored(torch.randn(weight.shape, dtype=torch.float64))
    part.mask.copy_((torch.arange(12).view(weight.shape) % 3 > 0).double())
    nn.utils.parametrize.register_parametrization(layer, "weight", part)
    x = torch.randn(2, 3, 5, 1, dtype=torch.float64)
    for active, mask in ((True, part.mask), (False, torch.ones_like(part.mask))):
        part.active = active
        for module in (layer, plain):
            module.zero_grad()
        plain.weight.data, plain.bias.data = (weight * mask).detach(), layer.bias.data
        for module in (layer, plain):
            module(x).square().sum().backward()
        assert torch.equal(layer.weight.detach(), plain.weight)
        assert torch.equal(weight.grad, plain.weight.grad * mask)
        assert torch.equal(part.scores.grad, plain.weight.grad * weight)
    part.eval()
    assert torch.equal(layer.weight, weight * part.mask)  # active or not


@pytest.mark.parametrize("scope", ["block", "global"])
def test_masks_are_the_threshold_s_after_every_step(tmp_path, scope):
    model = network()
    run = fit_of(model, generator="score_trainable", scope=scope, level=0.6, train={"lr": 2.0})
    seen = []

    class Watching(Clips):
        def epoch(self, epoch, first_step=0):
            for batch in super().epoch(epoch, first_step):
                units, masks = (
                    [tensor.detach().flatten() for tensor in tensors]
                    for tensors in (scores(model), run.schedule.masks)
                )
                if scope == "global":
                    units, masks = [torch.cat(units)], [torch.cat(masks)]
                assert [mask.tolist() for mask in masks] == [
                    kth_smallest_mask(unit.tolist(), 0.6) for unit in units
                ]
                seen.append(torch.cat(masks))
                yield batch

    run.run(Watching(), None, outside(tmp_path))
    assert any(not torch.equal(seen[0], later) for later in seen)  # they drift


def test_scores_start_as_kaiming_uniform_and_move_in_both_stages(tmp_path):
    model = network()
    run = fit_of(model, generator="score_trainable", penalty="none")
    for layer, start in zip((model[0], model[4]), scores(model), strict=True):
        bound = (6 / start[0].numel()) ** 0.5
        for tensor in (start, layer.parametrizations.weight.original):
            assert tensor.abs().max() <= bound
            assert tensor.abs().max() > 0.8 * bound
        assert not layer.bias.any()
        assert not torch.equal(start, layer.parametrizations.weight.original)
    before = [start.detach().clone() for start in scores(model)]
    run.schedule.begin_epoch(0, run.optimizer)
    model.train()
    run._step(next(Clips().epoch(0)), 0, 0)
    assert all(not torch.equal(a, b) for a, b in zip(before, scores(model), strict=True))
    held = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    assert {id(start) for start in scores(model)} <= held


def test_dense_while_warming_up_sparse_when_evaluated():
    model = network()
    schedule = attached(model, generator="score_trainable", warmup=0.5)
    layer = model[4]
    schedule.begin_epoch(0, torch.optim.SGD(model.parameters(), lr=0.1))
    assert layer.weight.all()
    model.eval()
    assert int((layer.weight == 0).sum()) == 18
    model.train()
    schedule.begin_epoch(2, torch.optim.SGD(model.parameters(), lr=0.1))
    assert int((layer.weight == 0).sum()) == 18


def test_removed_weights_drift():
    """No gradient of the loss, but momentum and decay: as released."""
    model = network()
    run = fit_of(
        model, generator="score_trainable", warmup=0.0, penalty="none", train={"clip_norm": None}
    )
    raw, mask = run.schedule.weights[1], run.schedule.masks[1].clone()
    before = raw.detach().clone()
    model.train()
    run.schedule.begin_epoch(0, run.optimizer)
    run._step(next(Clips().epoch(0)), 0, 0)
    lr, decay = run.optimizer.param_groups[0]["lr"], run.optimizer.param_groups[0]["weight_decay"]
    nesterov = 1.9  # the first step of momentum 0.9
    # float32 rounding
    assert torch.allclose(
        raw[mask == 0], before[mask == 0] * (1 - lr * decay * nesterov), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("train_head", [False, True])
def test_a_supermask_trains_scores_and_nothing_else(tmp_path, train_head):
    model = network()
    run = fit_of(model, generator="supermask", train_head=train_head)
    before = copy.deepcopy(model.state_dict())
    run.run(Clips(), None, outside(tmp_path))
    moved = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert {name for name in moved if "mask" not in name} == {
        "0.parametrizations.weight.0.scores",
        "4.parametrizations.weight.0.scores",
        *(f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")),
        *(("6.weight", "6.bias") if train_head else ()),
    }


def test_weights_of_another_trial_are_not_drawn_anew():
    model, twin = network(), network()
    attached(model, generator="supermask", **{"from": "somewhere"})
    assert torch.equal(model[0].parametrizations.weight.original, twin[0].weight)
    attached(twin, generator="supermask")
    assert not torch.equal(
        model[0].parametrizations.weight.original, twin[0].parametrizations.weight.original
    )


def test_a_detached_penalty_shows_and_does_nothing(tmp_path):
    """The released code's: in the reported loss, without a gradient."""
    reports = {}
    states = []
    for penalty in ("detached", "none", "group_lasso"):
        model = network()
        run = fit_of(model, generator="score_trainable", penalty=penalty, penalty_weight=1.0)
        run.run(Clips(), None, outside(tmp_path / penalty))
        reports[penalty] = [row["penalty"] for row in run.progress.history]
        states.append(model[4].parametrizations.weight.original.detach())
    assert [value > 0 for value in reports["detached"]] == [True, True, False, False]
    assert reports["none"] == [0.0] * 4
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
