"""Tables of logits: what is written comes back, sorted by id; what does not fit is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

LOGITS = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -3.0]], np.float32)


@pytest.mark.parametrize("labels", [None, np.array([2, 0])])
def test_what_is_written_comes_back(tmp_path, labels):
    Scores(("a", "b"), LOGITS, labels).save(tmp_path / "scores.parquet")
    read = Scores.load(tmp_path / "scores.parquet")
    assert read.ids == ("a", "b")
    assert read.logits.dtype == np.float32
    assert np.array_equal(read.logits, LOGITS)
    assert (read.labels is None) == (labels is None)
    assert labels is None or read.labels.tolist() == [2, 0]


def test_rows_are_sorted_by_id():
    scores = Scores.of(["b", "a"], LOGITS.astype(np.float64), np.array([1, 2], np.int16))
    assert scores.ids == ("a", "b")
    assert scores.logits.tolist() == LOGITS[::-1].tolist()
    assert (scores.logits.dtype, scores.labels.dtype) == (np.float32, np.int64)
    assert scores.labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("ids", "logits", "labels", "message"),
    [
        (("a", "b"), LOGITS[:1], None, r"one row per id, got \(1, 3\) for 2 ids"),
        (("a", "b"), LOGITS[0, :2], None, r"one row per id, got \(2,\) for 2 ids"),
        (("b", "a"), LOGITS, None, "ids must be sorted and unique"),
        (("a", "a"), LOGITS, None, "ids must be sorted and unique"),
        (("a", "b"), LOGITS, np.array([1]), r"one entry per id, got \(1,\) for 2 ids"),
    ],
)
def test_rows_ids_and_labels_must_fit(ids, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        Scores(ids, logits, labels)


def test_files_that_are_no_score_tables_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"missing\.parquet: must be a score table, got no such"):
        Scores.load(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"text\.parquet: not a readable score table"):
        Scores.load(tmp_path / "text.parquet")
    pq.write_table(pa.table({"id": ["a"], "label": [1]}), tmp_path / "bare.parquet")
    with pytest.raises(UserError, match=r"lacks column logits, has \['id', 'label'\]"):
        Scores.load(tmp_path / "bare.parquet")
