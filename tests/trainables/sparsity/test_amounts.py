"""How many weights go: rounding, shares among tensors, and tensors that probably keep none."""

import math

import pytest

from trainables.contract.config import SparsityConfig
from trainables.sparsity.amounts import (
    emptied,
    erk_counts,
    group_count,
    mask_units,
    removed_count,
    removed_params,
    structured_count,
    unit_counts,
)

SHAPES = [[(4, 2, 1, 1), (4, 4, 3, 1)], [(2, 1, 1, 1)]]  # 8, 48 and 2 weights


@pytest.mark.parametrize(
    ("size", "level", "count"),
    [(0, 0.5, 0), (1, 0.9, 0), (2, 0.5, 0), (2, 0.6, 1), (101, 0.5, 50), (4, 0.5, 2), (9, 0.99, 8)],
)
def test_a_level_is_rounded_to_even_and_never_takes_all(size, level, count):
    assert removed_count(size, level) == count


def test_units_of_every_scope():
    sizes = [[8, 48], [2]]
    assert mask_units(sizes, "tensor") == [[8], [48], [2]]
    assert mask_units(sizes, "block") == [[8, 48], [2]]
    assert mask_units(sizes, "global") == [[8, 48, 2]]


@pytest.mark.parametrize(
    ("scope", "distribution", "counts"),
    [
        ("tensor", "uniform", [(1, 4), (1, 24), (1, 0)]),  # 3.5, 23.5 and 0.5, to even
        ("block", "uniform", [(2, 28), (1, 0)]),
        ("global", "uniform", [(3, 28)]),
        ("global", "erk", [(1, 0), (1, 28), (1, 0)]),
    ],
)
def test_tensors_and_removed_weights_of_every_unit(scope, distribution, counts):
    assert unit_counts(SHAPES, 0.5, scope, distribution) == counts


def test_what_a_full_tensor_cannot_take_is_shared_by_the_others():
    # sizes 8, 144 and 64, sums 8, 18 and 13; 108 of 216 stay. All 8 of the first stay (its share
    # would be 22.2), and 18 : 13 of 100 are 58.06 and 41.94: the larger remainder is rounded up.
    shapes = [(4, 2, 1, 1), (8, 6, 3, 1), (4, 4, 4, 1)]
    assert erk_counts(shapes, 0.5) == [0, 144 - 58, 64 - 42]
    assert erk_counts(shapes, 0.0) == [0, 0, 0]


@pytest.mark.parametrize("level", [0.0, 0.3, 0.55, 0.8, 0.97])
def test_all_tensors_together_lose_what_the_level_says(level):
    shapes = [(4, 2, 1, 1), (8, 6, 3, 1), (4, 4, 4, 1), (16, 3, 1, 1), (5, 5, 5, 1)]
    sizes = [math.prod(shape) for shape in shapes]
    counts = erk_counts(shapes, level)
    assert sum(counts) == removed_count(sum(sizes), level)
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))


def test_of_equal_remainders_the_first_tensor_keeps_more():
    assert erk_counts([(2, 3, 1, 1), (2, 3, 1, 1)], 0.6) == [3, 4]  # 7 of 12 go, 2.5 each stay


@pytest.mark.parametrize(
    ("shape", "structure", "groups", "removed"),
    [
        ((4, 6, 3, 1), "channel", 4, 36),  # 2 of 4 channels
        ((4, 6, 3, 1), "2x3", 12, 36),  # 6 of 2 * 2 * 3 blocks
        ((5, 4, 1, 1), "2x3", 6, 7),  # 2 of 3 * 2 blocks, of 20 weights: 6.67 on average
    ],
)
def test_groups_go_whole(shape, structure, groups, removed):
    assert group_count(shape, structure) == groups
    assert structured_count(shape, 0.5, structure) == removed


@pytest.mark.parametrize(
    ("structure", "removed"), [("2:4", 4 * 2 * 3), ("1:4", 4 * 3 * 3), ("1:3", 4 * 2 * 3)]
)
def test_short_rests_of_n_of_m_stay_whole(structure, removed):
    assert structured_count((4, 5, 3, 1), 0.5, structure) == removed


@pytest.mark.parametrize(
    ("setting", "removed"),
    [
        ({}, 0),
        ({"level": 0.5}, 28),
        ({"level": 0.5, "scope": "tensor"}, 28),
        (
            {"level": 0.75, "generator": "magnitude_at_init", "structure": "channel"},
            4 + 24 + 1,  # 2 of 4 channels twice, halves to even, and 1 of 2
        ),
        ({"level": 0.0, "generator": "magnitude_at_init", "structure": "channel"}, 0),
    ],
)
def test_weights_that_a_configuration_removes(setting, removed):
    assert removed_params(SHAPES, SparsityConfig(**setting)) == removed


def test_tensors_that_random_masks_probably_empty():
    config = SparsityConfig(level=0.9, scope="global", generator="fixed_random")
    total, kept = 58, 58 - 51
    chances = [
        (block, shape, math.comb(total - math.prod(shape), kept) / math.comb(total, kept))
        for block, shape in ((0, (4, 2, 1, 1)), (1, (2, 1, 1, 1)))
    ]
    found = emptied(SHAPES, config)
    assert [each[:2] for each in found] == [each[:2] for each in chances]
    assert [each[2] for each in found] == pytest.approx([each[2] for each in chances])


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"level": 0.0}, []),  # dense
        ({"level": 0.5, "scope": "global"}, [(1, (2, 1, 1, 1))]),
        ({"level": 0.5, "scope": "tensor"}, []),  # a level never takes all of a tensor
        ({"level": 0.5, "scope": "global", "generator": "magnitude_at_init"}, []),  # scores decide
        ({"level": 0.9, "generator": "magnitude_at_init", "structure": "channel"}, []),
    ],
)
def test_where_a_tensor_may_be_emptied(settings, found):
    given = {"generator": "fixed_random", **settings}
    assert [each[:2] for each in emptied(SHAPES, SparsityConfig(**given))] == found


def test_a_tensor_that_the_distribution_empties_is_certain():
    shapes = [[(1, 1, 1, 1), (64, 64, 9, 1)]]
    config = SparsityConfig(
        level=0.9999, scope="tensor", distribution="erk", generator="magnitude_at_init"
    )
    counts = unit_counts(shapes, 0.9999, "tensor", "erk")
    expected = [
        (0, shape, 1.0)
        for (_, count), shape in zip(counts, shapes[0], strict=True)
        if count == math.prod(shape)
    ]
    assert expected
    assert emptied(shapes, config) == expected
