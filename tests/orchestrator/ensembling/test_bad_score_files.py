"""What people do to score and label files by accident, and worse: one clear error each, which names
the file and says what to do.
"""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from orchestrator.ensembling.score_files import FilesRequest, evaluate_files
from trainables.contract.errors import UserError

CLASSES, CLIPS = 5, 300
LABELS = np.arange(CLIPS) % CLASSES
RANDOM = np.random.default_rng(0)
ROWS = np.eye(CLASSES)[LABELS] * 3 + RANDOM.normal(size=(CLIPS, CLASSES))
OTHER = ROWS + RANDOM.normal(size=ROWS.shape) / 2
NAMES = [f"clip{number:03d}" for number in range(CLIPS)]


class Hostile:
    def __reduce__(self):
        return os.system, ("touch ran",)


def with_nan():
    rows = ROWS.copy()
    rows[7, 2] = np.nan
    return rows


def named(rows, names=NAMES):
    return json.dumps(dict(zip(names, rows.tolist(), strict=True))).encode()


def labelled(names):
    return "".join(["id,label\n", *(f"{n},{y}\n" for n, y in zip(names, LABELS, strict=True))])


SCORES = {
    "another length": (
        "s.npy",
        ROWS[:-1],
        r"same number of rows, got .*'s.npy': 299.*give files of one split, or files that name",
    ),
    "shifted by one": (
        "s.npy",
        np.roll(ROWS, 1, axis=0),
        "rows look shifted by one: .*of s .*write the file again in the order of the others",
    ),
    "NaN": ("s.npy", with_nan(), "NaN or infinity in row 7: .*leave it out, or write it again"),
    "other classes": (
        "s.npy",
        np.hstack([ROWS, ROWS[:, :1]]),
        r"s\.npy: must have a score for each of the classes of good\.npy.*of one data set",
    ),
    "hostile": ("s.pkl", pickle.dumps({"a": Hostile()}), "only arrays and plain containers"),
    "hostile list": ("s.pkl", pickle.dumps([ROWS[0], Hostile()]), r"it asks for (posix|os)\.sys"),
    "empty": ("s.npy", b"", r"s\.npy: must be a file of scores, got an empty one: copy or write"),
    "no clip": ("s.npy", ROWS[:0], r"scores must be a table .* got shape \(0, 5\)"),
    "no numbers": ("s.npy", np.array([["a", "b"]] * CLIPS), "scores must be numbers"),
    "probabilities": (
        "s.npy",
        np.exp(ROWS) / np.exp(ROWS).sum(axis=1, keepdims=True),
        "must be probabilities where files hold them.*s.npy holds probabilities.*good.npy logits",
    ),
    "per cent": ("s.npy", np.full((CLIPS, 5), 20.0), "divide them by 100"),
    "names": ("s.json", named(ROWS), "either all files or none must name.*--by-position takes"),
    "another kind": ("s.pt", b"PK", r"must be a file of type .*\.npz.*got '\.pt'"),
    "a folder": ("s.npy", None, "it is a folder"),
}
LABEL_FILES = {
    "another split": ("l.npy", LABELS[:250], "'l.npy': 250.*give files of one split"),
    "other clips": (
        "l.npy",
        RANDOM.permutation(LABELS),
        "the labels: must be of the scored clips.*is it the label file of another split",
    ),
    "shifted": ("l.npy", np.roll(LABELS, 1), "the labels: rows look shifted by one: of good, s"),
    "fewer classes": ("l.npy", LABELS % 5 + 1, "say --labels-from 1"),
    "more classes": ("l.npy", np.arange(CLIPS) % 7, "must be class numbers 0 to 4, got 0 to 6"),
    "empty": ("l.csv", b"", r"l\.csv: must be a file of labels, got an empty one"),
    "hostile": ("l.pkl", pickle.dumps([Hostile()]), "only arrays and plain containers"),
}


def put(path, content):
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    return path


@pytest.mark.parametrize("kind", SCORES)
def test_a_bad_score_file_is_one_clear_error(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    name, content, message = SCORES[kind]
    files = (put(tmp_path / "good.npy", ROWS), put(tmp_path / name, content))
    with pytest.raises(UserError, match=message):
        evaluate_files(FilesRequest(files, put(tmp_path / "l.npy", LABELS)))
    assert not (tmp_path / "ran").exists()  # what the hostile file asks for


@pytest.mark.parametrize("kind", LABEL_FILES)
def test_a_bad_label_file_is_one_clear_error(tmp_path, kind):
    name, content, message = LABEL_FILES[kind]
    files = (put(tmp_path / "good.npy", ROWS), put(tmp_path / "s.npy", OTHER))
    with pytest.raises(UserError, match=message):
        evaluate_files(FilesRequest(files, put(tmp_path / name, content)))


def test_labels_of_other_named_clips_are_one_clear_error(tmp_path):
    scores = put(tmp_path / "s.json", named(ROWS))
    (tmp_path / "l.csv").write_text(labelled([f"other{number}" for number in range(CLIPS)]))
    with pytest.raises(UserError, match=r"lacks 300 \['clip000'.*is it of another split"):
        evaluate_files(FilesRequest((scores,), tmp_path / "l.csv"))
    (tmp_path / "l.csv").write_text(labelled(NAMES))
    part = put(tmp_path / "part.json", named(ROWS[:10], NAMES[:10]))
    with pytest.raises(UserError, match=r"part\.json: .*lacks 290 .*give files of one split"):
        evaluate_files(FilesRequest((scores, part), tmp_path / "l.csv"))


def test_good_files_are_none(tmp_path):
    files = (put(tmp_path / "good.npy", ROWS), put(tmp_path / "s.npy", OTHER))
    found = evaluate_files(FilesRequest(files, put(tmp_path / "l.npy", LABELS)))
    assert found.notes == ()
