"""Sums of scores and figures of them at the edges: large numbers, several chunks, bad weights."""

import numpy as np
import pytest

from orchestrator.ensembling import sums
from orchestrator.ensembling.combine import check_factors, combine_rows, combine_scores, summands
from orchestrator.ensembling.evaluate import above_chance, accuracy, log_softmax, ranks, sign_test
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

ROWS = [np.array([[1.0, 2.0, 4.0], [0.0, 3.0, -3.0]]), np.array([[2.0, 0.0, 1.0]] * 2)]


@pytest.mark.parametrize("factors", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0], [1.0, -1.0]])
def test_weights_must_have_a_positive_finite_sum(factors):
    with pytest.raises(UserError, match="weights must be numbers with a positive sum"):
        check_factors(factors, "logits")


def test_a_negative_weight_is_for_logits_alone():
    check_factors([2.0, -1.0], "logits")
    check_factors([2.0, 0.0], "probabilities")
    with pytest.raises(UserError, match="must not be negative where probabilities are averaged"):
        check_factors([2.0, -1.0], "probabilities")


@pytest.mark.parametrize("clips", [1, 2, 1024])
def test_sums_of_logits_whatever_the_piece(monkeypatch, clips):
    monkeypatch.setattr(sums, "PIECE", 1)
    monkeypatch.setattr(sums, "FEWEST_CLIPS", clips)
    found = combine_rows(ROWS, [2.0, -1.0], "logits")
    assert found.dtype == np.float32
    assert found.tolist() == [[0.0, 4.0, 7.0], [-2.0, 6.0, -7.0]]


def test_mean_probabilities_are_logits_of_the_mean():
    found = combine_rows(ROWS, [3.0, 1.0], "probabilities")
    softmax = [np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True) for rows in ROWS]
    assert np.allclose(np.exp(found), (3 * softmax[0] + softmax[1]) / 4, rtol=1e-6)


def test_a_row_of_equal_scores_has_no_deviation_to_divide_by():
    rows = np.array([[5.0, 5.0], [1.0, 3.0]])
    assert combine_rows([rows], [2.0], "normalised").tolist() == [[10.0, 10.0], [2.0, 6.0]]


@pytest.mark.parametrize(
    ("rows", "factors", "message"),
    [
        (ROWS, [1.0], "one per score table, got 1 for 2"),
        ([], [], "one per score table, got 0 for 0"),
        ([ROWS[0], ROWS[1][:1]], [1.0, 1.0], "the same rows and classes"),
    ],
)
def test_tables_and_weights_must_fit(rows, factors, message):
    with pytest.raises(UserError, match=message):
        combine_rows(rows, factors, "logits")


def test_tables_of_other_clips_are_told_apart():
    first = Scores(("a", "b"), ROWS[0].astype(np.float32))
    other = Scores(("b", "c"), ROWS[1].astype(np.float32))
    with pytest.raises(
        UserError,
        match=r"2 and 2 clips; 1 only in the first \['a'\], 1 only in the second \['c'\]",
    ):
        combine_scores([first, other], [1.0, 1.0], "logits")
    with pytest.raises(ValueError, match="shorter"):
        combine_scores([first, first], [1.0], "logits")
    twice = combine_scores([first, first], [1.0, 2.0], "logits")
    assert twice.ids == first.ids
    assert twice.logits.tolist() == (3 * ROWS[0]).tolist()


def test_logits_too_large_for_their_exponential():
    found = log_softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    assert found.tolist() == [[0.0, -1000.0], [-np.log(2), -np.log(2)]]


@pytest.mark.parametrize(
    ("wins", "losses", "p_value"), [(0, 0, 1.0), (5, 5, 1.0), (5, 0, 2 / 32), (1, 7, 18 / 256)]
)
def test_the_sign_test(wins, losses, p_value):
    assert sign_test(wins, losses) == pytest.approx(p_value)


@pytest.mark.parametrize(
    ("right", "clips", "classes", "above"),
    [
        (15, 20, 2, True),  # p = 0.021
        (14, 20, 2, False),  # p = 0.058
        (9, 20, 4, True),  # p = 0.041
        (8, 20, 4, False),  # p = 0.102
    ],
)
def test_what_guessing_would_rarely_get(right, clips, classes, above):
    labels = np.zeros(clips, np.int64)
    scores = np.zeros((clips, classes))
    scores[:right, 0] = 1.0
    scores[right:, 1] = 1.0
    found = accuracy(scores, labels, logits=False)
    assert found.right == right
    assert above_chance(found, classes) is above


def test_ranks_of_several_chunks_and_ties():
    scores = np.tile([[1.0, 1.0, 2.0], [3.0, 0.0, 3.0]], (1100, 1))
    labels = np.tile([1, 2], 1100)
    assert ranks(scores, labels).tolist() == [2, 1] * 1100


@pytest.mark.parametrize("classes", [255, 256, 400])
def test_ranks_of_many_classes(classes):
    scores = np.stack([-np.arange(classes, dtype=np.float32), np.zeros(classes, np.float32)])
    assert ranks(scores, np.array([classes - 1] * 2)).tolist() == [classes - 1] * 2


def test_five_best_classes():
    scores = np.arange(8.0)[None].repeat(8, axis=0)
    found = accuracy(scores, np.arange(8), logits=True)
    assert (found.top1, found.top5, found.mean_class) == (1 / 8, 5 / 8, 1 / 8)
    assert found.top1_error == pytest.approx(np.sqrt(1 / 8 * 7 / 8 / 8))
    assert found.cross_entropy == pytest.approx(-log_softmax(scores)[0].mean())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0], r"one per row of the scores, got \(1,\) for \(2, 3\)"),
        ([0, 3], "class numbers below 3, got 0 to 3"),
        ([-1, 2], "class numbers below 3, got -1 to 2"),
    ],
)
def test_labels_must_fit_the_scores(labels, message):
    with pytest.raises(UserError, match=message):
        ranks(ROWS[0], np.array(labels))


def test_what_weights_multiply_is_what_a_sum_is_made_of():
    """In single precision: the scores, their softmax, or themselves over their deviation."""
    rows = (100 * np.random.default_rng(0).normal(size=(5, 4))).astype(np.float32)
    assert summands(rows, "logits") is rows
    over = summands(rows, "normalised")
    assert np.allclose(over, rows / rows.std(axis=1, keepdims=True), rtol=1e-5)
    shares = summands(rows, "probabilities")
    assert np.allclose(shares, np.exp(log_softmax(rows.astype(np.float64))), rtol=1e-4)
    assert {over.dtype, shares.dtype} == {np.dtype(np.float32)}
    assert np.array_equal(summands(rows[None], "probabilities")[0], shares)  # of any shape
