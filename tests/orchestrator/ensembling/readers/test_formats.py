"""Every form that score and label files come in gives the same numbers, and nothing else does."""

from __future__ import annotations

import csv
import json
import pickle

import numpy as np
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
}


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
    assert found.one_hot == ("one-hot" in kind or kind == "npz")


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
    "nan": ("s.npy", np.array([[0.0, 1.0], [np.nan, 0.0]]), "NaN or infinity in row 1"),
    "text": ("s.npy", np.array([["a", "b"]]), "scores must be numbers, got <U1$"),
    "complex": ("s.npy", np.ones((3, 2), complex), "scores must be numbers, got complex128$"),
    "words": ("s.json", [["a", "b"]], "must be score vectors"),
    "ragged": ("s.pkl", [ROWS[0], ROWS[1][:2]], "must be score vectors of the same number"),
    "annotations": ("s.pkl", PYSKL, "got one of annotations: --labels"),
    "labels": ("s.pkl", PYSKL["annotations"], "must have an entry pred_score or pred_scores"),
    "nothing": ("s.pkl", [], "must be score vectors"),
}


@pytest.mark.parametrize("kind", WRONG_SCORES)
def test_scores_that_mean_nothing_are_refused(tmp_path, kind):
    name, content, message = WRONG_SCORES[kind]
    with pytest.raises(UserError, match=message):
        read_scores(written(tmp_path / name, content))
