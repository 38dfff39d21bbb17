"""Masks of weights that go together, against naive twins, and what the configuration allows of
them.
"""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.naive_sparsity import block_mask, n_of_m_mask
from trainables.contract.config import SparsityConfig
from trainables.sparsity.amounts import group_count, removed_count, structured_count
from trainables.sparsity.generator import choose_masks
from trainables.sparsity.masks import group_numbers, prune_structured, random_scores

SHAPES = [(8, 6, 1, 1), (6, 8, 5, 1), (4, 3, 1, 1), (5, 7, 3, 1), (4, 1, 1, 1)]


def scores_of(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.0, 0.3, 0.6, 0.95])
def test_whole_channels_go_and_the_smallest_means_first(shape, level):
    scores = scores_of(shape)
    ((mask,),) = prune_structured([[scores]], level, "channel")
    kept = mask.flatten(1).amax(dim=1)
    assert torch.equal(mask, kept.view(-1, 1, 1, 1).expand(shape))
    assert int((kept == 0).sum()) == removed_count(shape[0], level)
    assert int((mask == 0).sum()) == structured_count(shape, level, "channel")
    means = scores.flatten(1).mean(dim=1)
    assert not (kept == 0).any() or means[kept == 0].max() < means[kept == 1].min()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (4, 3), (3, 1), (16, 16)])
def test_blocks_equal_the_naive_twin(shape, height, width):
    scores, structure = scores_of(shape), f"{height}x{width}"
    ((mask,),) = prune_structured([[scores]], 0.6, structure)
    groups = group_count(shape, structure)
    taps = scores[..., 0].permute(2, 0, 1).tolist()
    assert mask[..., 0].permute(2, 0, 1).tolist() == block_mask(
        taps, height, width, removed_count(groups, 0.6)
    )
    assert groups == int(group_numbers(shape, structure).max()) + 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (1, 4), (3, 4), (1, 3)])
def test_n_of_m_along_the_input_channels(shape, n, m):
    scores = scores_of(shape)
    ((mask,),) = prune_structured([[scores]], 1 - n / m, f"{n}:{m}")
    for out in range(shape[0]):
        for tap in range(shape[2]):
            assert mask[out, :, tap, 0].tolist() == n_of_m_mask(
                scores[out, :, tap, 0].tolist(), n, m
            )
    assert int((mask == 0).sum()) == structured_count(shape, 1 - n / m, f"{n}:{m}")


def test_groups_of_a_random_mask_are_equally_likely():
    """Also the short ones at the edge, whose mean of several numbers would lie elsewhere."""
    layers = [[nn.Conv2d(5, 1, 1)]]
    generator = torch.Generator().manual_seed(0)
    kept = (
        sum(
            prune_structured(random_scores(layers, generator, "1x2"), 0.5, "1x2")[0][0].flatten()
            for _ in range(2000)
        )
        / 2000
    )
    expected = 1 - removed_count(3, 0.5) / 3
    assert torch.equal(kept[[0, 2]], kept[[1, 3]])
    # four standard errors
    assert (kept - expected).abs().max() < 4 * (expected * (1 - expected) / 2000) ** 0.5


def test_the_largest_first_weights_stay():
    layers = [[nn.Conv2d(4, 4, 1)]]
    layers[0][0].weight.data[2] = 5.0
    config = SparsityConfig(level=0.9, generator="magnitude_at_init", structure="channel")
    assert choose_masks(layers, config, 0)[0][0].flatten(1).amax(dim=1).tolist() == [0, 0, 1, 0]


def test_a_level_is_what_n_of_m_removes():
    with pytest.raises(
        ValidationError, match=r"level must be 1 - n/m = 0.5 where structure is 2:4, got 0.8"
    ):
        SparsityConfig(level=0.8, structure="2:4")
    assert SparsityConfig(level=0.667, structure="1:3").structure == "1:3"
    # has no effect there
    assert SparsityConfig(level=0.8, structure="2:4", generator="rigl").level == 0.8
