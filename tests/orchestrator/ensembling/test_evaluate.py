"""Evaluation against its naive twins, ties included, and against hand-counted pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.ensembling.evaluate import CHUNK, accuracy, paired, ranks, sign_test
from tests import naive_scores
from trainables.contract.errors import UserError


def scores_of(clips, classes, seed, ties):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(clips, classes)).astype(np.float32)
    return (np.round(rows) if ties else rows), generator.integers(0, classes, clips)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("clips", "classes"), [(1, 2), (60, 4), (200, 11)])
def test_accuracy_matches_naive(clips, classes, ties):
    rows, labels = scores_of(clips, classes, clips, ties)
    found = accuracy(rows, labels, logits=True)
    plain, truth = rows.tolist(), labels.tolist()
    assert found.clips == clips
    assert found.top1 == pytest.approx(naive_scores.top_k(plain, truth, 1))
    assert found.right == round(found.top1 * clips)
    assert found.top5 == pytest.approx(naive_scores.top_k(plain, truth, 5))
    assert found.mean_class == pytest.approx(naive_scores.mean_class(plain, truth))
    assert found.cross_entropy == pytest.approx(naive_scores.cross_entropy(plain, truth), rel=1e-6)
    assert found.top1_error == pytest.approx(math.sqrt(found.top1 * (1 - found.top1) / clips))


def test_classes_that_do_not_occur_are_left_out_of_the_mean():
    rows = np.eye(4, dtype=np.float32)[[0, 0, 2, 1]]
    found = accuracy(rows, np.array([0, 0, 2, 2]), logits=False)  # classes 1 and 3 do not occur
    assert found.mean_class == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_rank_below_k_means_among_the_best_k(k, ties):
    rows, labels = scores_of(CHUNK + 7, 8, 3, ties)
    assert (
        (ranks(rows, labels) < k)
        == [
            naive_scores.is_among_best(r, y, k)
            for r, y in zip(rows.tolist(), labels.tolist(), strict=True)
        ]
    ).all()


def test_of_equal_scores_the_first_class_wins_as_in_argmax():
    rows = np.array([[1, 0, 1], [0, 2, 2], [0, 0, 0]], dtype=np.float32)
    assert [(ranks(rows, np.full(3, label)) == 0).tolist() for label in range(3)] == [
        (rows.argmax(axis=1) == label).tolist() for label in range(3)
    ]
    assert ranks(np.zeros((3, 3), np.float32), np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_no_cross_entropy_without_probabilities():
    rows, labels = scores_of(5, 3, 0, ties=False)
    assert accuracy(rows, labels, logits=False).cross_entropy is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(value):
    rows, labels = scores_of(5, 3, 0, ties=False)
    rows[2, 1] = value
    with pytest.raises(UserError, match="must be finite"):
        accuracy(rows, labels, logits=True)


@pytest.mark.parametrize("labels", [[0, 1, 3], [-1, 0, 1]])
def test_labels_outside_the_classes_are_refused(labels):
    with pytest.raises(UserError, match="class numbers below 3"):
        accuracy(np.zeros((3, 3), dtype=np.float32), np.array(labels), logits=True)


def test_scores_of_no_clip_are_refused():
    with pytest.raises(UserError, match="must hold at least one clip, got none"):
        accuracy(np.zeros((0, 3), dtype=np.float32), np.array([], dtype=np.int64), logits=True)


def test_paired_counts_only_disagreements():
    first = np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=bool)
    second = np.array([1, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
    found = paired(first, second)
    assert (found.first_only, found.second_only, found.clips) == (3, 1, 8)
    assert found.difference == pytest.approx(2 / 8)
    assert found.error == pytest.approx(naive_scores.difference_error(first, second))
    assert found.p_value == pytest.approx((1 + 4 + 4 + 1) / 16)
    assert not found.distinguishable


def test_identical_classifiers_are_not_distinguishable():
    hits = np.array([True, False, True])
    found = paired(hits, hits)
    assert (found.difference, found.error, found.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(0, 0, 1.0), (5, 0, 2 / 32), (6, 0, 2 / 64), (0, 6, 2 / 64), (1, 1, 1.0), (9, 1, 22 / 1024)],
)
def test_sign_test_by_hand(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p)


@pytest.mark.parametrize("wins", range(12))
def test_sign_test_matches_its_sum(wins):
    for losses in range(12):
        total, tail = wins + losses, range(min(wins, losses) + 1)
        expected = min(1.0, 2 * sum(math.comb(total, k) for k in tail) / 2**total)
        assert sign_test(wins, losses) == pytest.approx(expected)


def test_sign_test_of_many_disagreements_stays_a_number():
    assert 0.0 <= sign_test(5000, 4000) < 1e-20
