import pytest
import torch
from torch import nn

from tests.naive_sparsity import global_norm as naive_global_norm
from tests.naive_sparsity import group_lasso as naive_group_lasso
from trainables.contract.config import SparsityConfig
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import maskable, raw_weight, removed_count
from trainables.sparsity.penalty import removal_penalty

CONFIG = SparsityConfig(level=0.8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        nn.Sequential(nn.Conv2d(8, 3, 1)),
    )


def optimizer_of(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-3
    )


def step(model, optimizer, extra=None):
    x = torch.randn(16, 2, 4, 1, generator=torch.Generator().manual_seed(5))
    loss = model(x).square().mean()
    optimizer.zero_grad()
    (loss if extra is None else loss + extra).backward()
    optimizer.step()


def removed_norm(model, generator):
    masks = [masked.mask for block in generator._masked for masked in block]
    layers = [layer for block in maskable(list(model)) for layer in block]
    return float(
        sum(
            (raw_weight(layer).detach() * (1 - mask)).square().sum()
            for layer, mask in zip(layers, masks, strict=True)
        )
    )


def test_group_lasso_matches_the_published_example_and_the_naive_twin():
    weights, masks = [[3.0, 4.0, 1.0], [0.0, 5.0, 12.0]], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    tensors = [[torch.tensor(block, dtype=torch.float64)] for block in weights]
    kept = [[torch.tensor(block, dtype=torch.float64)] for block in masks]
    value = float(removal_penalty(tensors, kept, "group_lasso"))
    # 5 + 13; epsilon inside the root moves it by 1e-13
    assert value == pytest.approx(18.0, abs=1e-9)
    assert value == pytest.approx(naive_group_lasso(weights, masks), abs=1e-9)


def test_one_norm_of_all_removed_weights():
    weights, masks = [[3.0, 4.0, 1.0], [0.0, 5.0, 12.0]], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    tensors, kept = (
        [[torch.tensor(block, dtype=torch.float64)] for block in rows] for rows in (weights, masks)
    )
    assert (
        float(removal_penalty(tensors, kept, "global"))
        == pytest.approx(naive_global_norm(weights, masks), abs=1e-9)
        == 194**0.5
    )


def test_a_detached_penalty_has_the_value_and_no_gradient():
    weight = torch.randn(3, 4, requires_grad=True)
    mask = torch.zeros(3, 4)
    found = removal_penalty([[weight]], [[mask]], "detached")
    assert not found.requires_grad
    assert torch.equal(found, removal_penalty([[weight]], [[mask]], "group_lasso"))


@pytest.mark.parametrize("kind", ["group_lasso", "global"])
def test_penalty_gradient_by_finite_differences(kind):
    weights = [
        [torch.randn(3, 4, dtype=torch.float64, requires_grad=True)],
        [torch.randn(5, dtype=torch.float64, requires_grad=True)],
    ]
    masks = [
        [(torch.arange(12).reshape(3, 4) % 3 == 0).double()],
        [torch.tensor([1.0, 0, 0, 1, 0], dtype=torch.float64)],
    ]
    assert torch.autograd.gradcheck(
        lambda a, b: removal_penalty([[a], [b]], masks, kind), (weights[0][0], weights[1][0])
    )
    removal_penalty(weights, masks, kind).backward()
    for block, kept in zip(weights, masks, strict=True):
        assert torch.equal(
            block[0].grad[kept[0] == 1], torch.zeros(int(kept[0].sum()), dtype=torch.float64)
        )
        assert torch.count_nonzero(block[0].grad[kept[0] == 0]) == int((kept[0] == 0).sum())


def test_group_lasso_of_zero_weights_has_a_finite_gradient():
    weight = torch.zeros(4, requires_grad=True)
    removal_penalty([[weight]], [[torch.zeros(4)]], "group_lasso").backward()
    assert torch.equal(weight.grad, torch.zeros(4))


@pytest.mark.parametrize("penalty", ["group_lasso", "none"])
def test_the_penalty_shrinks_the_weights_that_will_go(penalty):
    model = network()
    generator = SparseGenerator(
        list(model),
        SparsityConfig(level=0.8, penalty=penalty, penalty_weight=1.0),
        warmup_epochs=10,
        seed=0,
    )
    optimizer = optimizer_of(model)
    before = removed_norm(model, generator)
    generator.begin_epoch(0, optimizer)
    for _ in range(40):
        step(model, optimizer, generator.penalty(0))
    after = removed_norm(model, generator)
    assert (after < 0.5 * before) == (penalty == "group_lasso")


def test_ramp_goes_from_zero_to_one_over_the_warm_up():
    model = network()
    generator = SparseGenerator(list(model), CONFIG, warmup_epochs=4, seed=0)
    full = float(
        SparseGenerator(
            list(network()), SparsityConfig(level=0.8, penalty_weight=1.0), warmup_epochs=4, seed=0
        )
        .penalty(1)
        .detach()
    )
    assert generator.penalty(0) is None
    assert [generator.penalty(epoch).item() for epoch in (1, 2, 3)] == pytest.approx(
        [full / 4, full / 2, 3 * full / 4]
    )
    assert generator.penalty(4) is None


def test_dense_before_the_switch_exact_zeros_after_it():
    model, dense = network(), network()
    generator = SparseGenerator(
        list(model), SparsityConfig(level=0.8, penalty="none"), warmup_epochs=2, seed=0
    )
    optimizer, twin = optimizer_of(model), optimizer_of(dense)
    for epoch in range(2):
        generator.begin_epoch(epoch, optimizer)
        step(model, optimizer)
        step(dense, twin)
    for layers, twins in zip(maskable(list(model)), maskable(list(dense)), strict=True):
        assert all(torch.equal(a.weight, b.weight) for a, b in zip(layers, twins, strict=True))
    for epoch in range(2, 6):
        generator.begin_epoch(epoch, optimizer)
        step(model, optimizer)
        assert removed_norm(model, generator) == 0  # from the first such epoch on
    expected = sum(
        removed_count(sum(layer.weight.numel() for layer in block), 0.8)
        for block in maskable(list(model))
    )
    zeros = [int((layer.weight == 0).sum()) for block in maskable(list(model)) for layer in block]
    assert sum(zeros) == generator.removed == expected
    for block in generator._layers:
        for layer in block:
            gone = layer.parametrizations.weight[0].mask == 0
            assert torch.count_nonzero(raw_weight(layer)[gone]) == 0
            assert torch.count_nonzero(raw_weight(layer).grad[gone]) == 0
            assert (
                torch.count_nonzero(optimizer.state[raw_weight(layer)]["momentum_buffer"][gone])
                == 0
            )


def test_masks_that_are_given_are_the_masks():
    model = network()
    layers = [layer for block in maskable(list(model)) for layer in block]
    given = [
        [
            (torch.arange(layer.weight.numel()).view_as(layer.weight) % 3 > 0).double()
            for layer in block
        ]
        for block in maskable(list(model))
    ]
    config = SparsityConfig(level=0.8, generator="predefined", mask="masks.npz")
    generator = SparseGenerator(list(model), config, warmup_epochs=0, seed=0, masks=given)
    generator.begin_epoch(0, optimizer_of(model))
    flat = [mask for block in given for mask in block]
    for layer, mask in zip(layers, flat, strict=True):
        assert torch.equal(layer.weight != 0, mask == 1)
