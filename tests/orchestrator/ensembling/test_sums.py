"""Sums that are made in pieces, several at once and in single precision, against the loop over the
clips in double precision.

Tolerances: a softmax and a deviation in single precision are off by a few units of its last digit
(6e-8 of the value), more for long rows; a sum of S terms by as much of the largest of them.
"""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensembling import sums
from orchestrator.ensembling.combine import (
    combine_rows,
    combine_scores,
    ranks_of_sums,
    summands,
    weighted_sum,
    weighted_sums,
)
from orchestrator.ensembling.evaluate import ranks
from orchestrator.ensembling.sums import Weights, deviations, powers
from orchestrator.sweep.presets import PRESETS
from tests import naive_sums
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

HOWS = ("logits", "probabilities", "normalised")
WANTED = [
    Weights([1.1, 0.9, 0.8], "logits"),
    Weights([1.0, 0.0, 2.0], "probabilities"),
    Weights([1.0, 1.0, 1.0], "normalised"),
    Weights([-0.5, 1.0, 0.3], "logits"),
    Weights([0.2, 0.3, 0.5], "probabilities"),
]


def made(tables=3, clips=70, classes=60, scale=3.0, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=clips)
    values = draw.normal(size=(tables, clips, classes)) * scale
    values[:, np.arange(clips), labels] += scale
    return values.astype(np.float32), labels


def as_said(rows, each):
    """The sums of probabilities as the logarithm of their mean."""
    if each.how != "probabilities":
        return rows
    return np.log(np.maximum(rows / sum(each.factors), np.finfo(np.float32).tiny))


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("piece", [1, 1 << 12, 1 << 18])
@pytest.mark.parametrize("at_once", [2, 16])
def test_several_sums_at_once_are_those_of_the_loop(monkeypatch, stacked, piece, at_once):
    monkeypatch.setattr(sums, "PIECE", piece)
    monkeypatch.setattr(sums, "AT_ONCE", at_once)
    values, labels = made()
    tables = values if stacked else list(values)
    found = weighted_sums(tables, WANTED)
    before = ranks_of_sums(tables, WANTED, labels)
    for rows, each, rank in zip(found, WANTED, before, strict=True):
        naive = naive_sums.weighted_sum(values, each.factors, each.how)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, as_said(naive, each), rtol=2e-6, atol=4e-6)
        assert rank.tolist() == ranks(naive, labels).tolist()


@pytest.mark.parametrize("how", HOWS)
def test_one_sum_does_not_depend_on_the_others_or_on_the_piece(monkeypatch, how):
    values, _ = made(clips=50)
    alone = weighted_sum(values, [2.0, 1.0, 0.5], how)
    monkeypatch.setattr(sums, "PIECE", 1)
    assert (weighted_sum(list(values), [2.0, 1.0, 0.5], how) == alone).all()
    assert (weighted_sum(values[:, 7:9], [2.0, 1.0, 0.5], how) == alone[7:9]).all()


@pytest.mark.parametrize("how", HOWS)
def test_double_precision_stays_double(how):
    values, _ = made()
    tables = [values[0].astype(np.float64) / 3, values[1], values[2]]
    found = weighted_sum(tables, [0.5, 1.0, 2.0], how)
    assert found.dtype == np.float64
    naive = as_said(
        naive_sums.weighted_sum(tables, [0.5, 1.0, 2.0], how), Weights([0.5, 1.0, 2.0], how)
    )
    np.testing.assert_allclose(found, naive, rtol=1e-12, atol=1e-12)


EDGES = {
    "large": [[500.0, 499.0, -500.0], [88.0, 89.0, 90.0]],
    "small": [[-500.0, -501.0, -499.0], [-100.0, -88.0, -90.0]],
    "logarithms of probabilities": np.log([[0.7, 0.2, 0.1], [1 / 3] * 3]).tolist(),
    "a share at the end of the range": [[0.0, -87.0, -86.0], [5.0, -82.0, -81.0]],
    "far from 0": [[1000.0, 1000.5, 1001.0], [-3000.0, -3001.0, -2999.0]],
    "equal": [[5.0, 5.0, 5.0], [0.0, 0.0, 0.0]],
    "as large as numbers are": [[1e18, -3e18, 0.0], [3e38, 3e38, 2e38]],
}


@pytest.mark.parametrize("rows", EDGES.values(), ids=EDGES.keys())
def test_softmax_and_deviation_at_the_edges(rows):
    scores = np.array(rows, np.float32)
    raised, totals = powers(scores)
    with np.errstate(under="ignore"):
        naive = np.array([naive_sums.summand(row, "probabilities") for row in scores])
    shares = raised / totals[:, None]
    np.testing.assert_allclose(shares, naive, rtol=1e-6, atol=np.finfo(np.float32).tiny)
    np.testing.assert_allclose(summands(scores, "probabilities"), shares, rtol=1e-6)
    spread = scores.astype(np.float64).std(axis=1)
    np.testing.assert_allclose(deviations(scores), np.where(spread > 0, spread, 1), rtol=1e-6)


@pytest.mark.parametrize("top", [40.0, 60.0, 87.0, 89.0])
def test_small_weights_of_large_scores_keep_their_digits(top):
    values, _ = made(clips=50)
    values += top - values.max(axis=2, keepdims=True)
    each = Weights([1.0, 0.01, 0.001], "probabilities")
    naive = as_said(naive_sums.weighted_sum(values, each.factors, each.how), each)
    found = weighted_sum(values, each.factors, each.how)
    np.testing.assert_allclose(found, naive, rtol=2e-6, atol=4e-6)


def test_minus_infinity_is_no_share():
    found = weighted_sum([np.array([[0.0, -np.inf]], np.float32)], [1.0], "probabilities")
    assert found.tolist() == [[0.0, np.log(np.finfo(np.float32).tiny)]]


@pytest.mark.parametrize("how", HOWS)
def test_many_tables_one_after_the_other_are_the_sum_of_all(how):
    values, _ = made(tables=40, clips=30)
    ids = tuple(f"{clip:02d}" for clip in range(30))
    factors = np.linspace(0.1, 2, 40).tolist()
    streamed = combine_scores((Scores(ids, rows) for rows in values), factors, how).logits
    naive = as_said(naive_sums.weighted_sum(values, factors, how), Weights(factors, how))
    np.testing.assert_allclose(streamed, naive, rtol=4e-6, atol=1e-4 if how == "logits" else 1e-5)
    np.testing.assert_allclose(combine_rows(values, factors, how), streamed, rtol=4e-6, atol=1e-4)


def test_every_preset_together_is_every_preset_by_itself():
    values, labels = made(tables=6, clips=300, classes=12)
    presets = [
        Weights([*(list(each.weights.values()) or [1.0] * 6), 0.0, 0.0][:6], each.combine)
        for each in PRESETS.values()
    ]
    together = ranks_of_sums(values, presets, labels)
    for each, found in zip(presets, together, strict=True):
        naive = naive_sums.weighted_sum(values, each.factors, each.how)
        assert found.tolist() == ranks(naive, labels).tolist()


def test_sums_that_are_no_numbers_are_refused():
    values, labels = made()
    values[1, 3, 2] = np.nan
    with pytest.raises(UserError, match="finite numbers, got NaN"):
        ranks_of_sums(values, WANTED, labels)
    with pytest.raises(UserError, match="one per score table, got 2 for 3"):
        ranks_of_sums(values, [Weights([1.0, 1.0], "logits")], labels)
