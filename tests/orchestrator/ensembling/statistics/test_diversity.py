import itertools

import numpy as np
import pytest

from orchestrator.ensembling.statistics.changes import class_changes, confusion_changes
from orchestrator.ensembling.statistics.diversity import diversity
from tests import naive_statistics as naive


def test_diversity_matches_naive():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 90)
    firsts = np.where(rng.random((4, 90)) < 0.7, labels, rng.integers(0, 4, (4, 90)))
    q, overlap, fault, only_one, differing = [], [], [], [], []
    for first, second in itertools.combinations(firsts.tolist(), 2):
        n11, n10, n01, n00 = naive.pair_counts(first, second, labels.tolist())
        q.append((n11 * n00 - n01 * n10) / (n11 * n00 + n01 * n10))
        overlap.append(n00 / (n00 + n01 + n10))
        fault.append(n00 / 90)
        only_one.append((n10 + n01) / 90)
        differing.append(sum(a != b for a, b in zip(first, second, strict=True)) / 90)
    found = diversity(firsts, labels)
    assert found.q == pytest.approx(np.mean(q))
    assert found.error_overlap == pytest.approx(np.mean(overlap))
    assert found.double_fault == pytest.approx(np.mean(fault))
    assert found.disagreement == pytest.approx(np.mean(only_one))
    assert found.different_classes == pytest.approx(np.mean(differing))
    assert found.all_wrong == pytest.approx((firsts != labels).all(axis=0).mean())


def test_copies_differ_in_nothing_and_strangers_are_independent():
    labels, rng = np.zeros(40_000, int), np.random.default_rng(0)
    one = rng.integers(0, 2, 40_000)
    same = diversity(np.stack([one, one]), labels)
    assert (same.q, same.disagreement, same.error_overlap) == (1.0, 0.0, 1.0)
    apart = diversity(np.stack([one, rng.integers(0, 2, 40_000)]), labels)
    assert apart.q == pytest.approx(0.0, abs=0.03)
    assert apart.error_overlap == pytest.approx(1 / 3, abs=0.01)


def test_where_a_figure_has_no_meaning_there_is_none():
    labels = np.arange(5) % 3
    faultless = diversity(np.stack([labels, labels]), labels)
    assert (faultless.q, faultless.error_overlap, faultless.all_wrong) == (None, None, 0.0)
    assert diversity(labels[None], labels) is None


def test_changes_by_class_can_be_counted_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 3])
    ours, theirs = np.array([0, 0, 1, 1, 3, 3]), np.array([0, 1, 1, 0, 3, 1])
    zero, one, three = class_changes(ours, theirs, labels)
    assert (zero.label, zero.clips, zero.first, zero.second) == (0, 3, 2, 1)
    assert (zero.first_only, zero.second_only, zero.difference) == (1, 0, pytest.approx(1 / 3))
    assert (one.first, one.second, three.label, three.difference) == (1, 0, 3, 1.0)
    changed = confusion_changes(ours, theirs, labels, 4)
    assert [(each.label, each.taken_for, each.first, each.second) for each in changed] == [
        (0, 1, 1, 2),
        (1, 0, 0, 1),
        (3, 1, 0, 1),
    ]
