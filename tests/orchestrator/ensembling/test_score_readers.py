"""Score files of any origin: every form read, aligned by id where there are ids, and what does not
belong together refused.
"""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from orchestrator.ensembling.readers import evaluate_files, read_labels, read_scores
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

LOGITS = np.array(
    [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.5, 0.0, 0.2], [0.0, 0.1, 0.3]], dtype=np.float32
)
LABELS = np.array([0, 1, 2, 2])
NAMES = ["d", "b", "a", "c"]


def dump(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def scores_file(folder, kind, logits=LOGITS, names=NAMES):
    path = folder / f"scores_{kind}"
    if kind == "parquet":
        Scores.of(names, logits).save(path.with_suffix(".parquet"))
        return path.with_suffix(".parquet")
    if kind == "npy":
        np.save(path.with_suffix(".npy"), logits)
        return path.with_suffix(".npy")
    if kind == "dict":
        return dump(path.with_suffix(".pkl"), dict(zip(names, logits, strict=True)))
    return dump(path.with_suffix(".pkl"), list(logits))


def labels_file(folder, kind):
    path = folder / f"labels_{kind}"
    if kind == "csv":
        path.write_text(
            "label,id\n" + "".join(f"{y},{n}\n" for n, y in zip(NAMES, LABELS, strict=True))
        )
        return path.rename(path.with_suffix(".csv"))
    if kind == "parquet":
        Scores.of(NAMES, LOGITS, LABELS).save(path.with_suffix(".parquet"))
        return path.with_suffix(".parquet")
    if kind == "records":
        return dump(
            path.with_suffix(".pkl"),
            [{"file_name": n, "label": int(y)} for n, y in zip(NAMES, LABELS, strict=True)],
        )
    if kind == "pair":
        return dump(path.with_suffix(".pkl"), (NAMES, LABELS.tolist()))
    if kind == "npy":
        np.save(path.with_suffix(".npy"), LABELS)
        return path.with_suffix(".npy")
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), y_test=np.eye(3)[LABELS])
        return path.with_suffix(".npz")
    path.with_suffix(".json").write_text(
        json.dumps({"preds": [0, 1, 0, 2], "labels": LABELS.tolist()})
    )
    return path.with_suffix(".json")


@pytest.mark.parametrize("scores", ["parquet", "dict"])
@pytest.mark.parametrize("labels", ["csv", "parquet", "records", "pair"])
def test_files_with_ids_align_by_id(tmp_path, scores, labels):
    found = evaluate_files([scores_file(tmp_path, scores)], labels_file(tmp_path, labels))
    assert found.aligned == "by id"
    assert found.ensemble.right == 3


@pytest.mark.parametrize("scores", ["npy", "list"])
@pytest.mark.parametrize("labels", ["npy", "npz", "json"])
def test_files_without_ids_align_by_position(tmp_path, scores, labels):
    found = evaluate_files([scores_file(tmp_path, scores)], labels_file(tmp_path, labels))
    assert found.aligned == "by position"
    assert found.ensemble.right == 3


def test_rows_in_another_order_meet_by_id(tmp_path):
    shuffled = scores_file(tmp_path, "dict", LOGITS[::-1].copy(), NAMES[::-1])
    found = evaluate_files(
        [shuffled, scores_file(tmp_path, "parquet")], labels_file(tmp_path, "csv")
    )
    assert [each.right for each in found.members.values()] == [3, 3]


def test_weights_decide(tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, np.roll(LOGITS, 1, axis=1))  # wrong but for one clip
    paths = [scores_file(tmp_path, "npy"), other]
    labels = labels_file(tmp_path, "npy")
    assert evaluate_files(paths, labels, [1.0, 0.0]).ensemble.right == 3
    mixed = evaluate_files(paths, labels, [0.0, 1.0])
    assert mixed.ensemble.right == mixed.members["other"].right < 3
    assert mixed.best == "scores_npy"
    assert mixed.against_best.difference == pytest.approx((mixed.ensemble.right - 3) / 4)


def test_integer_keys_are_ids_too(tmp_path):
    scores = dump(tmp_path / "s.pkl", dict(enumerate(LOGITS)))
    labels = dump(tmp_path / "l.pkl", {i: np.int64(y) for i, y in enumerate(LABELS)})
    assert evaluate_files([scores], labels).ensemble.right == 3


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_any_pickle_protocol(tmp_path, protocol):
    path = dump(tmp_path / "s.pkl", {"a": LOGITS[0], "b": LOGITS[1]}, protocol)
    assert np.array_equal(read_scores(path).logits, LOGITS[:2])


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/should-not-exist",)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    path = dump(tmp_path / "s.pkl", {"a": Malicious()})
    with pytest.raises(UserError, match=r"it asks for (posix|os)\.system"):
        read_scores(path)


def test_numpy_object_archives_are_refused(tmp_path):
    path = tmp_path / "s.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="not readable as scores"):
        read_scores(path)


def test_ids_on_one_side_only_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"either all files or none.*scores_npy\.npy"):
        evaluate_files([scores_file(tmp_path, "npy")], labels_file(tmp_path, "csv"))


def test_different_samples_are_named(tmp_path):
    other = scores_file(tmp_path, "dict", LOGITS, ["d", "z", "a", "c"])
    with pytest.raises(
        UserError,
        match=r"labels_csv\.csv: must hold a label of every scored sample, lacks 1 \['z'\]",
    ):
        evaluate_files([other], labels_file(tmp_path, "csv"))


def test_score_files_of_different_samples_are_named(tmp_path):
    first = scores_file(tmp_path, "dict", LOGITS, ["d", "b", "a", "c"])
    second = (
        first.rename(tmp_path / "first.pkl"),
        scores_file(tmp_path, "dict", LOGITS, ["d", "z", "a", "c"]),
    )
    with pytest.raises(UserError, match=r"lacks 1 \['b'\], adds 1 \['z'\]"):
        evaluate_files(second, labels_file(tmp_path, "csv"))


def test_labels_of_a_whole_data_set_do_for_the_part_that_was_scored(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\na,0\nb,1\nc,0\nd,1\ne,1\nf,0\n")
    part = evaluate_files([scores_file(tmp_path, "dict", LOGITS, ["d", "b", "a", "c"])], labels)
    assert part.ensemble.clips == 4


def test_label_names_are_refused_with_where_numbers_are(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\na,wave\nb,jump\nc,wave\nd,jump\n")
    with pytest.raises(
        UserError, match=r"labels must be class numbers, got 'jump'.*clips\.parquet"
    ):
        evaluate_files([scores_file(tmp_path, "dict", LOGITS, ["d", "b", "a", "c"])], labels)


def test_different_row_counts_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"same number of rows.*3"):
        evaluate_files([scores_file(tmp_path, "npy", LOGITS[:3])], labels_file(tmp_path, "npy"))


def test_one_based_labels_are_shifted_and_it_is_said(tmp_path):
    labels = tmp_path / "l.npy"
    np.save(labels, LABELS + 1)
    found = evaluate_files([scores_file(tmp_path, "npy")], labels)
    assert found.ensemble.right == 3
    assert "1-based" in found.notes[0]


def test_a_test_set_written_five_times_counts_once(tmp_path):
    np.save(tmp_path / "s.npy", np.tile(LOGITS, (5, 1)) + np.float32(1e-6))
    np.save(tmp_path / "l.npy", np.tile(LABELS, 5))
    found = evaluate_files([tmp_path / "s.npy"], tmp_path / "l.npy")
    assert found.ensemble.clips == 4
    assert "repeat 5 times" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.txt", b"1 2", r"must be a file of type .*\.npy.*got '\.txt'"),
        ("s.npy", b"nonsense", "not readable as scores"),
        ("s.pkl", b"\x80\x04", "not readable as scores"),
        ("s.pkl", pickle.dumps({"a": [1.0, 2.0], "b": [1.0]}), "same number of classes"),
        ("s.parquet", b"PAR1", "not a readable score table"),
    ],
)
def test_damaged_files_are_one_clear_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.npy: no such file"):
        read_labels(tmp_path / "absent.npy")


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path):
    np.save(tmp_path / "l.npy", np.array([0.5, 1.0]))
    with pytest.raises(UserError, match="whole numbers"):
        read_labels(tmp_path / "l.npy")
