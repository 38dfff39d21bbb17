import copy
import math
import random

import pytest
import torch
from torch import nn

from tests.naive_sparsity import kth_smallest_mask
from trainables.contract.config import SparsityConfig
from trainables.sparsity.generator import choose_masks
from trainables.sparsity.masks import (
    _without_smallest_here,
    _without_smallest_there,
    attach,
    erk_counts,
    kept_weights,
    magnitudes,
    mask_of,
    maskable,
    prune,
    random_scores,
    raw_weight,
    removed_count,
    without_smallest,
    write_masks,
)

# (n, level, k) as the released code computes them: k = 1 + round(level (n - 1)), halves to even
PERCENTILE_RANKS = [
    (10, 0.6, 6),
    (11, 0.95, 11),
    (6, 0.5, 3),
    (8, 0.5, 5),
    (1000, 0.99, 990),
    (37440, 0.6, 22464),
    (14544, 0.95, 13817),
    (3052096, 0.8, 2441677),
]


def drawn(layers, seed: int, **sparsity) -> list[list[torch.Tensor]]:
    return prune(random_scores(layers, torch.Generator().manual_seed(seed)), **sparsity)


def blocks() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, (5, 1), bias=False)),
        nn.Sequential(nn.Conv2d(8, 16, (3, 1)), nn.Linear(2, 2)),
    ]


@pytest.mark.parametrize(("size", "level", "k"), PERCENTILE_RANKS)
def test_removed_count_matches_the_kth_smallest_rule(size, level, k):
    assert removed_count(size, level) == k - 1
    # a million is slow to shuffle
    scores = random.Random(0).sample(range(size), size) if size < 100_000 else range(size)
    mask = kth_smallest_mask(scores, level)
    assert mask.count(0) == k - 1


@pytest.mark.parametrize("choose", [_without_smallest_here, _without_smallest_there])
@pytest.mark.parametrize("kinds", [1, 3, 1000])
def test_of_equal_scores_the_first_go(choose, kinds):
    """Both ways to choose, on few and on many different numbers, against sorting."""
    scores = torch.randint(kinds, (500,), generator=torch.Generator().manual_seed(0)).float()
    for count in (1, 7, 250, 499, 500):
        order = sorted(range(500), key=lambda i: (scores[i].item(), i))
        assert (~choose(scores, count)).nonzero().flatten().tolist() == sorted(order[:count])
    assert without_smallest(scores, 0).all()


def test_level_zero_removes_nothing():
    assert removed_count(1000, 0.0) == 0


@pytest.mark.parametrize("scope", ["block", "tensor", "global"])
@pytest.mark.parametrize("level", [0.0, 0.6, 0.95, 0.99])
def test_the_level_holds_exactly_in_each_unit(scope, level):
    layers = maskable(blocks())
    masks = drawn(layers, 1, level=level, scope=scope)
    zeros = [[int((mask == 0).sum()) for mask in block] for block in masks]
    sizes = [[layer.weight.numel() for layer in block] for block in layers]
    if scope == "tensor":
        assert zeros == [[removed_count(size, level) for size in block] for block in sizes]
    elif scope == "block":
        assert [sum(block) for block in zeros] == [
            removed_count(sum(block), level) for block in sizes
        ]
    else:
        assert sum(map(sum, zeros)) == removed_count(sum(map(sum, sizes)), level)
    assert [[mask.shape for mask in block] for block in masks] == [
        [layer.weight.shape for layer in block] for block in layers
    ]


def test_only_convolutions_are_maskable():
    assert [[type(layer) for layer in block] for block in maskable(blocks())] == [
        [nn.Conv2d, nn.Conv2d],
        [nn.Conv2d],
    ]


def test_masks_depend_on_the_seed_and_on_nothing_else():
    layers = maskable(blocks())
    first, again, other = (drawn(layers, seed, level=0.5) for seed in (3, 3, 4))
    assert all(
        torch.equal(a, b)
        for x, y in zip(first, again, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert any(
        not torch.equal(a, b)
        for x, y in zip(first, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_every_weight_is_equally_likely_to_go():
    layers = [[nn.Conv2d(1, 10, 1)]]
    generator = torch.Generator().manual_seed(0)
    kept = (
        sum(
            prune(random_scores(layers, generator), 0.5, "tensor")[0][0].flatten()
            for _ in range(2000)
        )
        / 2000
    )
    expected = 1 - removed_count(10, 0.5) / 10
    # four standard errors
    assert (kept - expected).abs().max() < 4 * (expected * (1 - expected) / 2000) ** 0.5


def test_attach_keeps_the_parameter_object_and_the_forward_until_active():
    layer = nn.Conv2d(2, 4, 1)
    parameter, before = layer.weight, layer.weight.detach().clone()
    masked = attach(layer, torch.zeros_like(before))
    assert raw_weight(layer) is parameter
    assert torch.equal(layer.weight, before)
    masked.active = True
    assert torch.count_nonzero(layer.weight) == 0


def test_masks_travel_with_state_dict_and_deep_copy():
    layer, twin = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)
    mask = (torch.arange(8).reshape(4, 2, 1, 1) % 2).float()
    attach(layer, mask)
    other = attach(twin, torch.ones_like(mask))
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(other.mask, mask)
    assert torch.equal(copy.deepcopy(layer).parametrizations.weight[0].mask, mask)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.6, 0.95, 0.99])
def test_erk_loses_exactly_what_the_level_asks_for_and_spares_small_tensors(level):
    shapes = [(64, 3, 1, 1), (64, 64, 9, 1), (128, 64, 1, 1), (128, 128, 9, 1), (4, 4, 1, 1)]
    sizes = [math.prod(shape) for shape in shapes]
    removed = erk_counts(shapes, level)
    assert sum(removed) == removed_count(sum(sizes), level)
    assert all(0 <= count <= size for count, size in zip(removed, sizes, strict=True))
    share = [1 - count / size for count, size in zip(removed, sizes, strict=True)]
    factors = [
        part * size / sum(shape)
        for part, size, shape in zip(share, sizes, shapes, strict=True)
        if part < 1
    ]
    # whole weights: the smallest tensor keeps a handful
    assert max(factors, default=1) == pytest.approx(min(factors, default=1), rel=0.2)


def test_magnitudes_keep_the_largest_weights():
    layers = maskable(blocks())
    masks = prune(magnitudes(layers), 0.7, "global")
    weights = torch.cat(
        [layer.weight.detach().abs().flatten() for block in layers for layer in block]
    )
    kept = torch.cat([mask.flatten() for block in masks for mask in block]) == 1
    assert weights[kept].min() >= weights[~kept].max()


def test_only_layers_of_the_blocks_are_counted():
    first, last = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)), nn.Conv2d(4, 2, 1)
    network = nn.ModuleDict({"blocks": nn.ModuleList([first]), "head": last})
    for layer, removed in ((first[0], 3), (last, 1)):
        mask = torch.ones_like(layer.weight)
        mask.view(-1)[:removed] = 0
        attach(layer, mask)
    [kept] = kept_weights(network, [first])
    assert (kept.name, kept.shape, kept.kept, kept.removed) == ("blocks.0.0", (4, 2, 1, 1), 5, 3)


def test_seeds_and_generators_choose_other_masks():
    layers = maskable(blocks())

    def chosen(generator, seed):
        config = SparsityConfig(level=0.5, generator=generator)
        drawn = choose_masks(layers, config, seed)
        return torch.cat([mask.flatten() for block in drawn for mask in block])

    assert torch.equal(chosen("fixed_random", 1), chosen("fixed_random", 1))
    assert not torch.equal(chosen("fixed_random", 1), chosen("fixed_random", 2))
    assert torch.equal(chosen("magnitude_at_init", 1), chosen("magnitude_at_init", 2))
    assert not torch.equal(chosen("magnitude_at_init", 1), chosen("fixed_random", 1))


@pytest.mark.parametrize(
    ("structure", "ends"),
    [
        (
            "weight",
            [
                (0.279380429906404, 0.30734958208251295),
                (0.8948998153826417, 0.025469622649072154),
                (0.13250649188132302, 0.4425833331130419),
            ],
        ),
        (
            "channel",
            [
                (0.279380429906404, 0.5607215973721555),
                (0.7630434112121387, 0.8475435705335523),
                (0.013204739557714507, 0.08854561505483138),
            ],
        ),
        (
            "2x2",
            [
                (0.279380429906404, 0.5607215973721555),
                (0.7630434112121387, 0.7814614762874161),
                (0.1677771554829932, 0.094540869440084),
            ],
        ),
    ],
)
def test_a_seed_gives_the_masks_that_it_gave_in_earlier_versions(structure, ends):
    """The first and the last number of every layer: a sweep that is run again prunes the same."""
    drawn = random_scores(maskable(blocks()), torch.Generator().manual_seed(7), structure)
    scores = [layer.flatten() for block in drawn for layer in block]
    assert [(float(each[0]), float(each[-1])) for each in scores] == ends


def test_masks_that_are_written_are_zeros_of_plain_weights():
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    names, plain = set(network.state_dict()), network[2].weight
    mask = (torch.arange(8).reshape(4, 2, 1, 1) % 3 > 0).float()
    attach(network[0], mask).active = True
    expected = network[0].weight.detach().clone()
    assert mask_of(network[0]) is not None
    write_masks(network)
    assert set(network.state_dict()) == names
    assert torch.equal(network[0].weight, expected)
    assert torch.equal(network[0].weight != 0, mask == 1)
    assert network[2].weight is plain
    assert mask_of(network[0]) is None
