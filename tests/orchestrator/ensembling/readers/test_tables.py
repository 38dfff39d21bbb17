"""Scores and labels as numbers: kinds, bounds and what rows mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.ensembling.readers.tables import Content, label_table, score_table
from trainables.contract.errors import UserError

PATH = Path("s.npy")


def scores(values, **more):
    return score_table(PATH, Content(np.asarray(values), **more))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int8, np.float64),
        (np.int64, np.float64),
        (np.uint8, np.float64),
    ],
)
def test_numbers_are_kept_in_a_precision_that_holds_them(given, kept):
    found = scores(np.array([[3, 1], [0, 2], [5, 7]], given))
    assert found.values.dtype == kept
    assert found.values.tolist() == [[3, 1], [0, 2], [5, 7]]
    assert (len(found), found.ids, found.truth, found.probabilities) == (3, None, None, False)
    assert found.logits is found.values


def test_two_classes_of_one_clip_are_enough_and_views_are_not_averaged():
    assert scores([[1.0, 2.0]]).values.shape == (1, 2)
    assert scores([[[1.0, 2.0]], [[3.0, 1.0]]]).values.tolist() == [[1, 2], [3, 1]]
    for shape in ((0, 3), (3, 1), (2, 2, 2), (2, 1, 1), (4,)):
        with pytest.raises(UserError, match=r"must be a table \(samples, two or more classes\)"):
            scores(np.zeros(shape))


@pytest.mark.parametrize(
    ("rows", "are"),
    [
        ([[0.25, 0.75], [1.0, 0.0]], True),
        ([[0.2519, 0.75], [0.2481, 0.75]], True),  # rounded to 16 bits
        ([[0.2525, 0.75], [0.2525, 0.75]], False),
        ([[0.2475, 0.75], [0.2475, 0.75]], False),
        ([[-0.25, 1.25], [-0.5, 1.5]], False),
        ([[0.25, 0.75], [2.0, 3.0]], False),  # half of them may be so by chance
        ([[50.0, 50.0], [-1.0, 101.0]], False),  # per cent is never negative
        ([[50.0, 50.0], [50.0, 51.0]], False),
    ],
)
def test_which_rows_are_probabilities(rows, are):
    assert scores(rows).probabilities is are


def test_most_rows_being_probabilities_is_a_mistake():
    with pytest.raises(UserError, match=r"got 2 of 3 that sum to 1, and row 1 that does not"):
        scores([[0.5, 0.5], [2.0, 3.0], [0.25, 0.75]])
    for rows in ([[50.0, 50.0]], [[50.1, 50.0], [100.0, 0.0]]):
        with pytest.raises(UserError, match="sum to 100 as per cent do"):
            scores(rows)


def test_the_logits_of_probabilities_are_finite():
    found = scores([[1.0, 0.0], [0.5, 0.5]]).logits
    assert found.dtype == np.float64
    assert found.tolist() == [[0.0, np.log(np.finfo(np.float32).tiny)], [np.log(0.5)] * 2]


def test_the_row_that_is_no_number_is_named():
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(UserError, match="NaN or infinity in row 2"):
            scores([[1.0, 2.0], [2.0, 1.0], [wrong, 0.0], [wrong, 0.0]])


def test_names_are_text_and_each_occurs_once():
    rows = [[1.0, 2.0], [2.0, 1.0], [3.0, 1.0]]
    assert scores(rows, ids=[b"a", "b", 3]).ids == ("a", "b", "3")
    with pytest.raises(UserError, match=r"got 2 repeated ids, such as 'b'"):
        scores(rows, ids=["b", "b", "b"])
    with pytest.raises(UserError, match=r"got 1 repeated ids, such as 'b'"):
        scores(rows, ids=["a", "b", "b"])
    with pytest.raises(UserError, match=r"got 4 names, 3 rows"):
        scores(rows, ids="abcd")


def test_labels_beside_scores_are_one_per_row():
    rows = [[1.0, 2.0], [2.0, 1.0]]
    assert scores(rows, labels=[1, 0]).truth.labels.tolist() == [1, 0]
    with pytest.raises(UserError, match="one per row of its scores, got 3 for 2"):
        scores(rows, labels=[1, 0, 1])


@pytest.mark.parametrize(
    ("given", "labels", "one_hot"),
    [
        ([3, 0], [3, 0], False),
        (["3", " +4 ", "-1"], [3, 4, -1], False),
        ([[3], (4,), np.array([5]), np.array([["6"]])], [3, 4, 5, 6], False),
        (np.array([[3], [0]]), [3, 0], False),
        (np.array([2.0**31, -(2.0**31)]), [2**31, -(2**31)], False),
        ([[0, 1], [1, 0]], [1, 0], True),
        ([np.array([0, 0, 1])], [2], True),
    ],
)
def test_labels_are_class_numbers(given, labels, one_hot):
    found = label_table(PATH, Content(given, parts={"xsub_val": len(labels)}))
    assert (found.labels.tolist(), found.one_hot, len(found)) == (labels, one_hot, len(labels))
    assert found.labels.dtype == np.int64
    assert found.parts == {"xsub_val": len(labels)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["1.5"], "a label is '1.5'"),
        ([[]], "labels that are whole numbers"),
        (np.array([0.0, 2.0**31 + 1]), "got 2147483649.0 in row 1"),
        (np.array([0.0, np.inf]), "got inf in row 1"),
        (np.array([0.5, np.inf]), "got 0.5 in row 0"),
        (np.array([True, False]), "labels must be numbers, got bool"),
        ([[1, 0], [0, 2]], "another row at 1"),
        ([[1, 0], [-1, 1], [0, 2]], "another row at 1"),
    ],
)
def test_what_is_no_class_number_is_named(given, said):
    with pytest.raises(UserError, match=said):
        label_table(PATH, Content(given))


def test_no_labels_are_said_to_be_none():
    with pytest.raises(UserError, match=r"must be a list of whole numbers, got shape \(0,\)"):
        label_table(PATH, Content([]))
