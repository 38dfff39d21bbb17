"""Every form that score and label files come in gives the same numbers, and nothing else does."""

from __future__ import annotations

import csv
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from orchestrator.ensembling.readers.files import read_labels, read_scores
from trainables.contract.errors import UserError

ROWS = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.5, 0.0, 4.0]], dtype=np.float32)
LABELS = [0, 1, 2]
NAMES = ("S001C001P001R001A001", "S001C001P001R001A002", "S001C001P001R001A003")


def written(path, content):
    if path.suffix == ".json":
        path.write_text(json.dumps(content))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as stream:
            csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(content)
    elif path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".parquet":
        pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), path)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


def dumped(wrap, label="gt_label", score="pred_score", item=False):
    """What MMAction2 writes of test results: a record per clip, arrays or tensors."""
    return [
        {
            "frame_dir": name,
            score: {"item": wrap(row)} if item else wrap(row),
            label: {"item": wrap(np.array([y]))} if item else wrap(np.array([y])),
            "num_classes": 3,
        }
        for name, row, y in zip(NAMES, ROWS, LABELS, strict=True)
    ]


PAIRS = list(zip(ROWS.tolist(), LABELS, strict=True))
NAMED = [[name, *row] for name, row in zip(NAMES, ROWS.tolist(), strict=True)]
EMPTY = pa.array([], pa.list_(pa.float32()))
NEWER = {"label": "gt_labels", "score": "pred_scores", "item": True}
SCORES = {
    "npy": ("s.npy", ROWS, False),
    "npy one view": ("s.npy", ROWS[:, None], False),
    "pyskl list": ("s.pkl", list(ROWS), False),
    "pyskl list of one view": ("s.pkl", [row[None] for row in ROWS], False),
    "named": ("s.pkl", dict(zip(NAMES, ROWS, strict=True)), True),
    "array": ("s.pickle", ROWS, False),
    "json": ("s.json", ROWS.tolist(), False),
    "json named": ("s.json", dict(zip(NAMES, ROWS.tolist(), strict=True)), True),
    "mmaction arrays": ("s.pkl", dumped(np.asarray), True),
    "mmaction tensors": ("s.pkl", dumped(torch.from_numpy), True),
    "mmaction items": ("s.pkl", dumped(torch.from_numpy, **NEWER), True),
    "mmaction item arrays": ("s.pkl", dumped(np.asarray, **NEWER), True),
    "mmaction json": ("s.json", [{"pred_score": row, "gt_label": [y]} for row, y in PAIRS], False),
    "npz": ("s.npz", {"scores": ROWS}, False),
    "npz of one array": ("s.npz", {"arr_0": ROWS}, False),
    "npz whole": ("s.npz", {"logits": ROWS, "y": np.array(LABELS), "ids": np.array(NAMES)}, True),
    "npz bytes": ("s.npz", {"pred": ROWS, "names": np.array(NAMES, "S"), "y": LABELS}, True),
    "npz one-hot": ("s.npz", {"x": ROWS, "y_test": np.eye(3)[LABELS]}, False),
    "record": ("s.pkl", {"scores": ROWS, "labels": LABELS, "ids": NAMES}, True),
    "json record": ("s.json", {"scores": ROWS.tolist(), "labels": LABELS, "ids": NAMES}, True),
    "csv": ("s.csv", [["id", "0", "1", "2"], *NAMED], True),
    "csv without header": ("s.csv", NAMED, True),
    "csv without names": ("s.csv", ROWS.tolist(), False),
    "csv numbered": ("s.csv", [[0, 1, 2], *ROWS.tolist()], False),
    "csv labels": (
        "s.csv",
        [
            ["file_name", "label", "sit", "walk", "wave"],
            *([name, y, *row] for name, y, row in zip(NAMES, LABELS, ROWS.tolist(), strict=True)),
        ],
        True,
    ),
    "csv of pandas": ("s.csv", [["", "class_0", "class_1", "class_2"], *NAMED], True),
    "tsv": ("s.tsv", [["id", "1", "2", "3"], *NAMED], True),
    "parquet": ("s.parquet", {"id": NAMES, "logits": ROWS.tolist(), "label": LABELS}, True),
    "parquet nameless": ("s.parquet", {"anything": ROWS.tolist()}, False),
    "parquet columns": ("s.parquet", {"id": NAMES, **dict(zip("012", ROWS.T, strict=True))}, True),
    "parquet of pandas": (
        "s.parquet",
        {"b": ROWS[:, 0], "c": ROWS[:, 1], "a": ROWS[:, 2], "__index_level_0__": NAMES},
        True,
    ),
}
WITH_LABELS = [
    *("npz whole", "npz bytes", "npz one-hot", "record", "json record", "csv labels", "parquet"),
    *(kind for kind in SCORES if kind.startswith("mmaction")),
]


@pytest.mark.parametrize("kind", WITH_LABELS)
def test_labels_that_a_score_file_holds_are_read(tmp_path, kind):
    name, content, _ = SCORES[kind]
    found = read_scores(written(tmp_path / name, content))
    assert found.truth.labels.tolist() == LABELS


def test_numbered_columns_are_classes_in_the_order_of_their_numbers(tmp_path):
    """As a table sorted by the names of its columns has them: c1, c10, c2, ..."""
    header = ["id", *(f"c{i}" for i in (1, 10, 2, 3, 4, 5, 6, 7, 8, 9))]
    path = written(tmp_path / "s.csv", [header, ["a", 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]])
    assert read_scores(path).values.tolist() == [list(range(10))]
    columns = {name: [float(name[1:])] for name in header[1:]}
    path = written(tmp_path / "s.parquet", columns)
    assert read_scores(path).values.tolist() == [list(range(1, 11))]


@pytest.mark.parametrize("kind", SCORES)
def test_scores_of_every_format(tmp_path, kind):
    name, content, named = SCORES[kind]
    found = read_scores(written(tmp_path / name, content))
    assert np.array_equal(found.values, ROWS)
    assert (found.ids is not None) == named
    if named:
        assert found.ids == NAMES


PYSKL = {
    "split": {"xsub_train": [NAMES[1]], "xsub_val": [NAMES[2], NAMES[0]]},
    "annotations": [
        {"frame_dir": name, "label": y, "total_frames": 3, "keypoint": np.zeros((1, 3, 17, 2))}
        for name, y in zip(NAMES, LABELS, strict=True)
    ],
}
TABLE = [["id", "label"], *zip(NAMES, LABELS, strict=True)]
TRUTH = {
    "npy": ("l.npy", np.array(LABELS), False),
    "npy column": ("l.npy", np.array(LABELS)[:, None], False),
    "npy floats": ("l.npy", np.array(LABELS, dtype=np.float64), False),
    "npy one-hot": ("l.npy", np.eye(3)[LABELS], False),
    "npy one-hot booleans": ("l.npy", np.eye(3, dtype=np.uint8)[LABELS], False),
    "npz": ("l.npz", {"x_test": np.zeros(2), "y_test": np.eye(3)[LABELS]}, False),
    "csv": ("l.csv", TABLE, True),
    "csv without names": ("l.csv", [["label"], [0], [1], [2]], False),
    "csv file names": ("l.csv", [["file_name", "label"], *TABLE[1:]], True),
    "npz named": ("l.npz", {"labels": np.array(LABELS), "ids": np.array(NAMES)}, True),
    "record": ("l.pkl", {"labels": LABELS, "ids": NAMES, "scores": ROWS}, True),
    "parquet": ("l.parquet", {"id": NAMES, "label": LABELS}, True),
    "mmaction json": ("l.json", [{"pred_score": row, "gt_label": [y]} for row, y in PAIRS], False),
    "tsv": ("l.tsv", TABLE, True),
    "json": ("l.json", {"preds": [1, 1, 1], "labels": LABELS}, False),
    "json named": ("l.json", {"labels": LABELS, "ids": NAMES}, True),
    "json list": ("l.json", LABELS, False),
    "json columns": ("l.json", [[0], [1], [2]], False),
    "json one-hot": ("l.json", np.eye(3)[LABELS].tolist(), False),
    "list": ("l.pkl", LABELS, False),
    "array": ("l.pkl", np.array(LABELS), False),
    "named": ("l.pkl", dict(zip(NAMES, LABELS, strict=True)), True),
    "st-gcn pair": ("l.pkl", (list(NAMES), LABELS), True),
    "pyskl": ("l.pkl", PYSKL, True),
    "pyskl list": ("l.pkl", PYSKL["annotations"], True),
    "mmaction arrays": ("l.pkl", dumped(np.asarray), True),
    "mmaction tensors": ("l.pkl", dumped(torch.from_numpy), True),
    "mmaction items": ("l.pkl", dumped(torch.from_numpy, **NEWER), True),
}


@pytest.mark.parametrize("kind", TRUTH)
def test_labels_of_every_format(tmp_path, kind):
    name, content, named = TRUTH[kind]
    found = read_labels(written(tmp_path / name, content))
    assert found.labels.tolist() == LABELS
    assert found.ids == (NAMES if named else None)
    assert found.one_hot == ("one-hot" in kind or kind == "npz")  # CTR-GCN's


def test_a_part_of_a_pyskl_file_has_the_order_in_which_it_is_tested(tmp_path):
    path = written(tmp_path / "ntu60.pkl", PYSKL)
    found = read_labels(path, "xsub_val")
    assert (found.ids, found.labels.tolist()) == ((NAMES[0], NAMES[2]), [0, 2])
    assert found.parts == {"xsub_train": 1, "xsub_val": 2}
    with pytest.raises(UserError, match="--split: must be 'xsub_train' or 'xsub_val', got 'xsub'"):
        read_labels(path, "xsub")
    with pytest.raises(UserError, match="--split: goes with a PYSKL annotation file"):
        read_labels(written(tmp_path / "l.pkl", LABELS), "xsub_val")
    with pytest.raises(UserError, match="--split: goes with a PYSKL annotation file"):
        read_labels(written(tmp_path / "l.npy", LABELS), "xsub_val")


WRONG_LABELS = {
    "two columns": ("l.npy", np.array([[0, 1], [1, 2]]), "must be one-hot.*another row at 1"),
    "no one in a row": ("l.npy", np.zeros((2, 3)), "must be one-hot.*another row at 0"),
    "two ones": ("l.npy", np.array([[1, 0], [1, 1]]), "must be one-hot.*another row at 1"),
    "soft": ("l.npy", np.full((2, 2), 0.5), "must be one-hot"),
    "three axes": ("l.npy", np.zeros((2, 2, 2)), "must be a list of whole numbers"),
    "empty": ("l.npy", np.zeros(0), "must be a list of whole numbers"),
    "fractions": ("l.npy", np.array([0.5, 1.0]), "must be whole numbers, got 0.5 in row 0"),
    "nan": ("l.npy", np.array([0.0, np.nan]), "must be whole numbers, got nan in row 1"),
    "huge": ("l.npy", np.array([0, 2**40]), "must be whole numbers, got 1099511627776 in row 1"),
    "names too few": ("l.json", {"labels": LABELS, "ids": NAMES[:2]}, "got 2 names, 3 rows"),
    "names too many": ("l.pkl", ([*NAMES, "d"], LABELS), "got 4 names, 3 rows"),
    "names twice": ("l.pkl", (["a", "b", "a"], LABELS), "must occur once.*such as 'a'"),
    "words": ("l.json", ["walk", "jump"], "a label is 'walk'"),
    "no label": ("l.pkl", [{"file_name": "a"}], "must have an entry label or gt_label"),
    "multi-label": ("l.pkl", [{"gt_label": np.array([1, 1])}], "must be one-hot"),
    "no y_test": ("l.npz", {"y_train": np.zeros(2)}, "must hold the labels as y_test"),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_labels_that_mean_nothing_are_refused(tmp_path, kind):
    name, content, message = WRONG_LABELS[kind]
    with pytest.raises(UserError, match=message):
        read_labels(written(tmp_path / name, content))


WRONG_SCORES = {
    "one class": ("s.npy", np.zeros((3, 1)), "two or more classes"),
    "classes": ("s.npy", np.zeros(3), "two or more classes"),
    "views": ("s.npy", np.zeros((3, 10, 4)), r"got shape \(3, 10, 4\): average the views"),
    "nan": ("s.npy", np.array([[0.0, 1.0], [np.nan, 0.0]]), "NaN or infinity in row 1"),
    "text": ("s.npy", np.array([["a", "b"]]), "scores must be numbers, got <U1$"),
    "complex": ("s.npy", np.ones((3, 2), complex), "scores must be numbers, got complex128$"),
    "words": ("s.json", [["a", "b"]], "must be score vectors"),
    "ragged": ("s.pkl", [ROWS[0], ROWS[1][:2]], "must be score vectors of the same number"),
    "annotations": ("s.pkl", PYSKL, "got one of annotations: --labels"),
    "labels": ("s.pkl", PYSKL["annotations"], "must have an entry pred_score or pred_scores"),
    "nothing": ("s.pkl", [], "must be score vectors"),
    "per cent": ("s.npy", np.full((2, 4), 25.0), "sum to 100 as per cent do: divide them by 100"),
    "data": (
        "s.npz",
        {"x_test": np.zeros((3, 4, 150)), "y_train": np.eye(3), "y_test": np.eye(3)},
        r"must hold one table of scores.*has 'x_test' \(3, 4, 150\), 'y_train' \(3, 3\)",
    ),
    "two tables": ("s.npz", {"a": ROWS, "b": ROWS}, "must hold one table of scores"),
    "labels too few": ("s.npz", {"a": ROWS, "y": [1]}, "one per row of its scores, got 1 for 3"),
    "multi-label": ("s.npz", {"a": ROWS, "y": np.ones((3, 3))}, "labels of shape.*one-hot"),
    "csv words": (
        "s.csv",
        [["id", "0", "1"], ["a", 1, "x"]],
        "line 2, '1': scores must be numbers, got 'x'$",
    ),
    "csv short line": ("s.csv", [[1, 2, 3], [1, 2]], "line 2: must have 3 entries.* got 2$"),
    "csv nan": ("s.csv", [[1.5, 2], ["nan", 2]], "NaN or infinity in row 1"),
    "csv gap": ("s.csv", [["id", "c0", "c2"], ["a", 1, 2]], "numbered from 0 or 1 without a gap"),
    "csv more": ("s.csv", [["id", "0", "1", "pred"], ["a", 1, 2, 0]], "got 'pred' beside numbered"),
    "csv counted": ("s.csv", [[i, 1.5, 2.5] for i in range(4)], "the first column counts the rows"),
    "csv twice": ("s.csv", [["id", "0", "0"], ["a", 1, 2]], "must be unique, got '0' twice"),
    "csv other name": (
        "s.csv",
        [["ID", "0", "1", "2"], ["a", 1, 2, 3]],
        "got 'ID' beside numbered",
    ),
    "csv header alone": ("s.csv", [["id", "0", "1"]], "must be score vectors"),
    "csv semicolons": ("s.csv", [["a;1;2"], ["b;2;1"]], "separated by commas, got 'column 1'$"),
    "parquet ragged": ("s.parquet", {"x": [[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]]}, "score vectors"),
    "parquet missing": ("s.parquet", {"x": [[1.0, 2.0], None]}, "score vectors"),
    "parquet hole": ("s.parquet", {"x": [[1.0, 2.0], [1.0, None]]}, "NaN or infinity in row 1"),
    "parquet text": ("s.parquet", {"id": ["a"], "0": ["x"], "1": ["y"]}, "a column of string"),
    "parquet records": ("s.parquet", {"x": [{"a": 1.0, "b": 2.0}]}, "score vectors"),
    "parquet twice": (
        "s.parquet",
        pa.table([[1.0], [2.0], [3.0]], names=["0", "1", "1"]),
        "must be a Parquet table of scores, but .*: Multiple matches",
    ),
    "parquet no clip": ("s.parquet", {"id": pa.array([], pa.string()), "x": EMPTY}, "vectors"),
    "parquet alone": ("s.parquet", {"id": ["a"]}, "must be score vectors"),
    "parquet many": ("s.parquet", {"x": [[1, 2]], "z": [[1, 2]]}, "one column of vectors, or"),
}


@pytest.mark.parametrize("kind", WRONG_SCORES)
def test_scores_that_mean_nothing_are_refused(tmp_path, kind):
    name, content, message = WRONG_SCORES[kind]
    with pytest.raises(UserError, match=message):
        read_scores(written(tmp_path / name, content))
