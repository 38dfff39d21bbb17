"""Rows of score files: which of them belong together, and how doubt about their order is said."""

from __future__ import annotations

import numpy as np
import pytest

from tests.orchestrator.ensembling.test_score_files import (
    LABELS,
    LOGITS,
    NAMES,
    dump,
    evaluate,
    labels_file,
    scores_file,
)
from trainables.contract.errors import UserError


def test_rows_without_names_are_matched_with_named_labels_only_when_asked(tmp_path):
    scores, labels = scores_file(tmp_path, "npy"), labels_file(tmp_path, "csv")
    found = evaluate([scores], labels, by_position=True)
    assert (found.aligned, found.ensemble.right) == ("by position", 3)
    assert "in the order of labels_csv.csv, as asked" in found.notes[0]
    assert found.predictions.misclassified("ensemble") == [("a", 2, 0)]
    with pytest.raises(UserError, match="goes with files without names"):
        evaluate([scores_file(tmp_path, "dict")], labels, by_position=True)
    with pytest.raises(UserError, match=r"same number of rows.*3"):
        evaluate([scores_file(tmp_path, "npy", LOGITS[:3])], labels, by_position=True)
    shuffled = scores_file(tmp_path, "dict", names=NAMES[::-1])
    with pytest.raises(UserError, match="must have them in one order"):
        evaluate([scores_file(tmp_path, "npy"), shuffled], labels, by_position=True)


def test_labels_named_by_their_rows_are_put_into_that_order(tmp_path):
    order = [2, 0, 3, 1]
    labels = dump(tmp_path / "l.pkl", {f"test_{row}": int(LABELS[row]) for row in order})
    found = evaluate([scores_file(tmp_path, "npy")], labels)
    assert (found.aligned, found.ensemble.right) == ("by position", 3)


def test_a_wrong_order_of_rows_looks_like_guessing_and_that_is_said(tmp_path):
    labels = np.arange(60) % 3
    np.save(tmp_path / "l.npy", labels)
    np.save(tmp_path / "right.npy", np.eye(3)[labels] * 5)
    np.save(tmp_path / "shuffled.npy", np.eye(3)[np.random.default_rng(0).permutation(labels)] * 5)
    found = evaluate([tmp_path / "right.npy", tmp_path / "shuffled.npy"], tmp_path / "l.npy")
    assert found.notes == (
        "shuffled is not clearly better than guessing: are its rows in the order of the labels?",
    )


def test_classes_in_another_order_are_no_shift(tmp_path):
    labels = np.random.default_rng(0).integers(10, size=464)
    rows = np.eye(10)[labels] * 5 + np.random.default_rng(1).normal(size=(464, 10))
    np.save(tmp_path / "l.npy", labels)
    np.save(tmp_path / "right.npy", rows)
    np.save(tmp_path / "reversed.npy", rows[:, ::-1])
    (note,) = evaluate(
        [tmp_path / "right.npy", tmp_path / "reversed.npy"], tmp_path / "l.npy"
    ).notes
    assert note.startswith("reversed is far worse than guessing: are its classes in another order")


def test_a_test_set_written_five_times_counts_once(tmp_path):
    np.save(tmp_path / "s.npy", np.tile(LOGITS, (5, 1)) + np.float32(1e-6))
    np.save(tmp_path / "l.npy", np.tile(LABELS, 5))
    found = evaluate([tmp_path / "s.npy"], tmp_path / "l.npy")
    assert found.ensemble.clips == 4
    assert found.notes[0] == (
        "s.npy, l.npy: rows repeat 5 times: only the first 4 are used, so that the standard"
        " error is of distinct clips"
    )


@pytest.mark.parametrize("copied", ["scores", "labels", "named rows"])
def test_a_test_set_is_folded_to_the_length_of_the_other_files(tmp_path, copied):
    """2320 rows of scores with 464 labels, and the other way round."""
    rows = np.tile(LOGITS, (5, 1)) if copied != "labels" else LOGITS
    labels = np.tile(LABELS, 5) if copied == "labels" else LABELS
    if copied == "named rows":
        first = dump(tmp_path / "s.pkl", {f"test_{i}": row for i, row in enumerate(rows)})
    else:
        first = tmp_path / "s.npy"
        np.save(first, rows)
    np.save(tmp_path / "other.npy", LOGITS)
    np.save(tmp_path / "l.npy", labels)
    found = evaluate([first, tmp_path / "other.npy"], tmp_path / "l.npy")
    assert (found.ensemble.clips, found.ensemble.right) == (4, 3)
    name = "l.npy" if copied == "labels" else first.name
    assert f"{name}: rows repeat 5 times: only the first 4 are used" in " ".join(found.notes)


def test_rows_that_do_not_repeat_are_not_folded(tmp_path):
    rows = np.tile(LOGITS, (5, 1))
    rows[7] += 1e-2
    np.save(tmp_path / "s.npy", rows)
    with pytest.raises(UserError, match=r"same number of rows, got \{'s.npy': 20, 'labels_npy"):
        evaluate([tmp_path / "s.npy"], labels_file(tmp_path, "npy"))


def dump_of_mmaction(path, labels, names=None):
    return dump(
        path,
        [
            {"pred_score": row, "gt_label": np.array([y]), **({} if names is None else {"id": n})}
            for row, y, n in zip(LOGITS, labels, names or labels, strict=True)
        ],
    )


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([0, 1, 2, 1], "got others for 1 of 4 clips, such as row 3: 1 and not 2; is it the label"),
        ([2, 0, 1, 2], "got others for 3 of 4.*they are the same when they are shifted by one"),
        ([0, 2, 1, 2], "got others for 2 of 4.*the same labels in another order"),
    ],
)
def test_the_labels_that_a_score_file_holds_are_held_against_the_label_file(tmp_path, own, message):
    labels = labels_file(tmp_path, "npy")
    assert evaluate([dump_of_mmaction(tmp_path / "s.pkl", LABELS)], labels).ensemble.right == 3
    with pytest.raises(UserError, match=r"s\.pkl: the labels it holds must be.*" + message):
        evaluate([dump_of_mmaction(tmp_path / "s.pkl", own)], labels)


def test_labels_in_a_score_file_may_count_from_another_number(tmp_path):
    scores = dump_of_mmaction(tmp_path / "s.pkl", LABELS + 1)
    assert evaluate([scores], labels_file(tmp_path, "npy")).ensemble.right == 3


def test_labels_in_a_score_file_of_named_clips_are_compared_by_name(tmp_path):
    labels = labels_file(tmp_path, "csv")
    order = [2, 0, 3, 1]
    path = tmp_path / "s.npz"
    np.savez(
        path, scores=LOGITS[order], labels=LABELS[order], ids=np.array(NAMES)[order].astype("S")
    )
    assert evaluate([path], labels).ensemble.right == 3
    np.savez(path, scores=LOGITS[order], labels=LABELS, ids=np.array(NAMES)[order])
    with pytest.raises(
        UserError, match="got others for 3 of 4 clips, such as 'a': 0 and not 2; one of the two"
    ):
        evaluate([path], labels)
    with pytest.raises(UserError, match="others for 2 of 4 clips, such as 'a': 0"):
        evaluate([dump_of_mmaction(tmp_path / "m.pkl", LABELS, ["a", "b", "d", "c"])], labels)


def sorted_runs(classes=10, each=40, right=0.9, seed=0):
    """Labels in runs, as of sorted clips, and scores that mostly have them right."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    firsts = np.where(
        generator.random(len(labels)) < right, labels, generator.integers(classes, size=len(labels))
    )
    return labels, np.eye(classes)[firsts] * 4 + generator.normal(size=(len(labels), classes)) / 4


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("runs", [1, 2, 40])
def test_rows_shifted_by_one_are_refused(tmp_path, runs, step):
    """Also where clips of a class follow one another, so that few rows tell."""
    labels, rows = sorted_runs(each=runs, classes=800 // (runs * 4) if runs < 40 else 60)
    np.save(tmp_path / "l.npy", labels)
    np.save(tmp_path / "right.npy", rows)
    np.save(tmp_path / "bone.npy", np.roll(rows, step, axis=0))
    assert not evaluate([tmp_path / "right.npy"], tmp_path / "l.npy").notes
    side = "before" if step > 0 else "after"
    with pytest.raises(
        UserError,
        match=f"bone: rows look shifted by one: of bone .* taken for the clip {side} it",
    ):
        evaluate([tmp_path / "right.npy", tmp_path / "bone.npy"], tmp_path / "l.npy")
    np.save(tmp_path / "l.npy", np.roll(labels, -step))
    np.save(tmp_path / "bone.npy", rows + 1e-3)
    with pytest.raises(UserError, match="the labels: rows look shifted by one: of right, bone"):
        evaluate([tmp_path / "right.npy", tmp_path / "bone.npy"], tmp_path / "l.npy")


def test_labels_of_other_clips_are_refused_where_files_agree_with_one_another(tmp_path):
    labels, rows = sorted_runs()
    generator = np.random.default_rng(1)
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "b.npy", rows + generator.normal(size=rows.shape))
    np.save(tmp_path / "l.npy", generator.permutation(labels))
    with pytest.raises(UserError, match=r"the labels: must be of the scored clips.*a and b agree"):
        evaluate([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "l.npy")
    guesses = [generator.normal(size=rows.shape) for _ in range(2)]  # nothing is known of these
    np.save(tmp_path / "a.npy", guesses[0])
    np.save(tmp_path / "b.npy", guesses[1])
    assert len(evaluate([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "l.npy").notes) == 2
