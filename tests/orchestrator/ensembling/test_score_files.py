"""Score files of any origin: every form read, aligned by id where there are ids, and what does not
belong together refused.
"""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from orchestrator.ensembling.readers.files import read_labels, read_scores
from orchestrator.ensembling.score_files import FilesRequest, evaluate_files
from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

LOGITS = np.array(
    [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.5, 0.0, 0.2], [0.0, 0.1, 0.3]], dtype=np.float32
)
LABELS = np.array([0, 1, 2, 2])
NAMES = ["d", "b", "a", "c"]


def evaluate(scores, labels, **said):
    return evaluate_files(FilesRequest(tuple(scores), labels, **said))


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
    found = evaluate([scores_file(tmp_path, scores)], labels_file(tmp_path, labels))
    assert found.aligned == "by id"
    assert found.ensemble.right == 3


@pytest.mark.parametrize("scores", ["npy", "list"])
@pytest.mark.parametrize("labels", ["npy", "npz", "json"])
def test_files_without_ids_align_by_position(tmp_path, scores, labels):
    found = evaluate([scores_file(tmp_path, scores)], labels_file(tmp_path, labels))
    assert found.aligned == "by position"
    assert found.ensemble.right == 3


def test_rows_in_another_order_meet_by_id(tmp_path):
    shuffled = scores_file(tmp_path, "dict", LOGITS[::-1].copy(), NAMES[::-1])
    found = evaluate([shuffled, scores_file(tmp_path, "parquet")], labels_file(tmp_path, "csv"))
    assert [each.right for each in found.members.values()] == [3, 3]


def test_weights_decide(tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, np.roll(LOGITS, 1, axis=1))  # wrong but for one clip
    paths = [scores_file(tmp_path, "npy"), other]
    labels = labels_file(tmp_path, "npy")
    assert evaluate(paths, labels, weights=(1.0, 0.0)).ensemble.right == 3
    mixed = evaluate(paths, labels, weights=(0.0, 1.0))
    assert mixed.ensemble.right == mixed.members["other"].right < 3
    assert list(mixed.against_best) == ["scores_npy"]
    assert mixed.against_best["scores_npy"].difference == pytest.approx(
        (mixed.ensemble.right - 3) / 4
    )


def test_integer_keys_are_ids_too(tmp_path):
    scores = dump(tmp_path / "s.pkl", dict(enumerate(LOGITS)))
    labels = dump(tmp_path / "l.pkl", {i: np.int64(y) for i, y in enumerate(LABELS)})
    assert evaluate([scores], labels).ensemble.right == 3


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_any_pickle_protocol(tmp_path, protocol):
    path = dump(tmp_path / "s.pkl", {"a": LOGITS[0], "b": LOGITS[1]}, protocol)
    assert np.array_equal(read_scores(path).values, LOGITS[:2])


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
    with pytest.raises(UserError, match="must be an array of numbers or text, got Python objects"):
        read_scores(path)


def test_ids_on_one_side_only_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"either all files or none.*scores_npy\.npy"):
        evaluate([scores_file(tmp_path, "npy")], labels_file(tmp_path, "csv"))


def test_different_samples_are_named(tmp_path):
    other = scores_file(tmp_path, "dict", LOGITS, ["d", "z", "a", "c"])
    with pytest.raises(
        UserError,
        match=r"labels_csv\.csv: must hold a label of every scored sample, lacks 1 \['z'\]",
    ):
        evaluate([other], labels_file(tmp_path, "csv"))


def test_score_files_of_different_samples_are_named(tmp_path):
    first = scores_file(tmp_path, "dict", LOGITS, ["d", "b", "a", "c"])
    second = (
        first.rename(tmp_path / "first.pkl"),
        scores_file(tmp_path, "dict", LOGITS, ["d", "z", "a", "c"]),
    )
    with pytest.raises(UserError, match=r"lacks 1 \['b'\], adds 1 \['z'\]"):
        evaluate(second, labels_file(tmp_path, "csv"))


def test_labels_of_a_whole_data_set_do_for_the_part_that_was_scored(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\na,0\nb,1\nc,0\nd,1\ne,1\nf,0\n")
    part = evaluate([scores_file(tmp_path, "dict", LOGITS, ["d", "b", "a", "c"])], labels)
    assert part.ensemble.clips == 4


def test_labels_of_a_data_set_of_more_classes_do_too(tmp_path):
    """NTU-60's clips are among NTU-120's."""
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\na,2\nb,1\nc,2\nd,0\ne,7\n")
    scores = scores_file(tmp_path, "dict")
    assert evaluate([scores], labels).ensemble.right == 3
    labels.write_text("id,label\na,2\nb,1\nc,3\nd,0\n")
    with pytest.raises(UserError, match="must be class numbers 0 to 2, got 0 to 3"):
        evaluate([scores], labels)


def test_label_names_are_refused_with_where_numbers_are(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\na,wave\nb,jump\nc,wave\nd,jump\n")
    with pytest.raises(
        UserError, match=r"labels must be class numbers, got 'jump'.*clips\.parquet"
    ):
        evaluate([scores_file(tmp_path, "dict", LOGITS, ["d", "b", "a", "c"])], labels)


def test_different_row_counts_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"same number of rows.*3"):
        evaluate([scores_file(tmp_path, "npy", LOGITS[:3])], labels_file(tmp_path, "npy"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3, 3], "run from 1 to 3, which is how labels that count from 1 look: say"),
        ([1, 2, 2, 2], "run from 1 to 2, so it is not known whether they count from 0 or from 1"),
        ([0, 1, 2, 3], "must be class numbers 0 to 2, got 0 to 3"),
        ([-1, 0, 1, 1], "must be class numbers 0 to 2, got -1 to 1"),
        ([1, 2, 3, 4], "run from 1 to 4, so it is not known whether they count"),
    ],
)
def test_the_number_of_the_first_class_is_never_guessed(tmp_path, labels, message):
    np.save(tmp_path / "l.npy", labels)
    with pytest.raises(UserError, match=message):
        evaluate([scores_file(tmp_path, "npy")], tmp_path / "l.npy")


def test_the_number_of_the_first_class_is_said(tmp_path):
    scores = scores_file(tmp_path, "npy")
    np.save(tmp_path / "one.npy", LABELS + 1)
    assert evaluate([scores], tmp_path / "one.npy", labels_from=1).ensemble.right == 3
    np.save(tmp_path / "none_is_0.npy", np.array([1, 1, 2, 2]))
    assert evaluate([scores], tmp_path / "none_is_0.npy", labels_from=0).ensemble.right == 2
    assert evaluate([scores], tmp_path / "none_is_0.npy", labels_from=1).ensemble.right == 1
    np.save(tmp_path / "zero.npy", LABELS)
    with pytest.raises(UserError, match="must be class numbers 1 to 3, got 0 to 2"):
        evaluate([scores], tmp_path / "zero.npy", labels_from=1)
    np.save(tmp_path / "one_hot.npy", np.eye(3)[[1, 1, 2, 2]])  # says it by itself
    assert evaluate([scores], tmp_path / "one_hot.npy").ensemble.right == 2
    with pytest.raises(UserError, match="one-hot labels have no numbers"):
        evaluate([scores], tmp_path / "one_hot.npy", labels_from=1)


def softmax(rows):
    powers = np.exp(rows)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_no_softmax_is_taken_of_probabilities(tmp_path, kind):
    """Twice is nearly uniform: the mean of the two would be another class."""
    sure, other = softmax(8 * LOGITS), softmax(2 * np.roll(LOGITS, 1, axis=1))
    np.save(tmp_path / "a.npy", sure.astype(kind))
    np.save(tmp_path / "b.npy", other.astype(kind))
    paths, labels = [tmp_path / "a.npy", tmp_path / "b.npy"], labels_file(tmp_path, "npy")
    expected = int(((sure + other).argmax(axis=1) == LABELS).sum())
    found = evaluate(paths, labels)
    assert (found.combine, found.ensemble.right) == ("probabilities", expected)
    assert "every file holds probabilities" in found.notes[0]
    asked = evaluate(paths, labels, combine="probabilities")
    assert asked.ensemble == found.ensemble
    assert asked.members["a"].cross_entropy == pytest.approx(
        -np.log(sure[range(4), LABELS]).mean(), rel=1e-2
    )


def test_logits_and_probabilities_are_mixed_only_where_it_is_asked_for(tmp_path):
    np.save(tmp_path / "soft.npy", softmax(LOGITS))
    paths = [scores_file(tmp_path, "npy"), tmp_path / "soft.npy"]
    labels = labels_file(tmp_path, "npy")
    for combine in (None, "logits", "normalised"):
        with pytest.raises(UserError, match=r"soft\.npy holds probabilities .*scores_npy\.npy"):
            evaluate(paths, labels, combine=combine)
    found = evaluate(paths, labels, combine="probabilities")
    assert found.notes[0].startswith("soft.npy holds probabilities")
    assert found.ensemble == found.members["soft"].model_copy(
        update={"cross_entropy": pytest.approx(found.members["soft"].cross_entropy)}
    )
    with pytest.raises(UserError, match="--combine: must be probabilities where files hold them"):
        evaluate(paths[1:], labels, combine="logits")


def test_rows_that_are_not_all_probabilities_are_refused(tmp_path):
    rows = softmax(LOGITS)
    rows[2] *= 2
    np.save(tmp_path / "s.npy", rows)
    with pytest.raises(UserError, match="3 of 4 that sum to 1, and row 2 that does not"):
        read_scores(tmp_path / "s.npy")


def test_ctr_gcn_files_are_fused(tmp_path):
    """A pickle {test_0: logits, ...} for each stream, and the archive with y_test."""
    order = [2, 0, 3, 1]
    for name, rows in {"joint": LOGITS, "bone": np.roll(LOGITS, 1, axis=1)}.items():
        dump(tmp_path / f"{name}.pkl", {f"test_{i}": rows[i] for i in order})
    np.savez(tmp_path / "NTU60_CS.npz", x_test=np.zeros((4, 1)), y_test=np.eye(3)[LABELS])
    found = evaluate(
        [tmp_path / "joint.pkl", tmp_path / "bone.pkl"],
        tmp_path / "NTU60_CS.npz",
        weights=(0.6, 0.1),
    )
    fused = np.float32(0.6) * LOGITS + np.float32(0.1) * np.roll(LOGITS, 1, axis=1)
    assert found.ensemble.right == (fused.argmax(axis=1) == LABELS).sum()
    assert "numbers of the rows" in found.notes[0]


def test_files_that_are_equally_good_are_each_compared(tmp_path):
    paths = [scores_file(tmp_path, "npy"), scores_file(tmp_path, "list")]
    found = evaluate(paths, labels_file(tmp_path, "npy"))
    assert list(found.against_best) == ["scores_npy", "scores_list"]
    content = json.loads(json.dumps(found.to_json()))
    assert content["correct"] == 3
    figures = {"top1", "top5", "mean_class", "correct", "samples", "stderr", "interval"}
    assert figures <= content.keys()
    assert all(figures <= row.keys() for row in content["members"].values())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.txt", b"1 2", r"must be a file of type .*\.npy.*got '\.txt'"),
        ("s.npy", b"nonsense", r"must be a NumPy array \(\.npy\), but it is damaged"),
        *((f"s{end}", b"", ".") for end in (".npy", ".npz", ".pkl", ".parquet", ".json", ".csv")),
        ("s.pkl", b"\x80\x04", "must be a pickle of scores, but it is damaged or cut short"),
        ("s.pkl", pickle.dumps({"a": [1.0, 2.0], "b": [1.0]}), "same number of classes"),
        ("s.parquet", b"PAR1", "must be a Parquet table of scores, but it is damaged"),
    ],
)
def test_damaged_files_are_one_clear_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / name)


@pytest.mark.parametrize("label", ["9" * 5000, "\u00b2", "+", "1.0"])
def test_a_label_that_is_no_class_number_is_shown_in_short(tmp_path, label):
    (tmp_path / "l.csv").write_text(f"id,label\na,{label}\n")
    with pytest.raises(UserError, match=r"l\.csv: labels must be class numbers, got '") as caught:
        read_labels(tmp_path / "l.csv")
    assert len(str(caught.value)) < 250 + len(str(tmp_path))


def test_a_json_file_that_scores_a_sample_twice_is_refused(tmp_path):
    (tmp_path / "s.json").write_text('{"a": [1, 2], "b": [2, 1], "a": [2, 1]}')
    with pytest.raises(UserError, match=r"s\.json: must be .*'a' occurs 2 times"):
        read_scores(tmp_path / "s.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"absent\.npy: must be a NumPy array .*, but it is not there"
    ):
        read_labels(tmp_path / "absent.npy")


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path):
    np.save(tmp_path / "l.npy", np.array([0.5, 1.0]))
    with pytest.raises(UserError, match="whole numbers"):
        read_labels(tmp_path / "l.npy")


def test_files_of_others_are_combined_with_the_networks_of_a_sweep_by_name(tmp_path):
    """A trial's table, a foreign archive in another order, and the labels of the store."""
    trial = Trial("joint", 0.0, wrong_test=(0, 1, 2))
    run = make_run(tmp_path, [trial])
    own = TrialDir(run / "trials" / trial.name).test_scores
    ours = Scores.load(own)
    np.savez(tmp_path / "theirs.npz", logits=2 * ours.logits[::-1], ids=np.array(ours.ids[::-1]))
    found = evaluate([own, tmp_path / "theirs.npz"], tmp_path / "store" / "clips.parquet")
    assert (found.aligned, found.ensemble.clips) == ("by id", 30)
    assert [each.right for each in (*found.members.values(), found.ensemble)] == [27, 27, 27]


def test_one_file_is_not_compared_with_itself(tmp_path):
    found = evaluate([scores_file(tmp_path, "npy")], labels_file(tmp_path, "npy"))
    assert found.against_best == {}


def test_several_weights_are_compared(tmp_path):
    """Each as if it were given alone; one pass over the files counts them all."""
    files = [scores_file(tmp_path, kind, LOGITS + step) for kind, step in (("npy", 0), ("dict", 0))]
    files[1] = dump(files[1], dict(zip(NAMES, LOGITS[:, ::-1], strict=True)))
    labels = labels_file(tmp_path, "csv")
    files[0] = scores_file(tmp_path, "parquet")
    several = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (2.0, 0.5))
    found = evaluate(files, labels, weights=several[0], others=several[1:])
    alone = [evaluate(files, labels, weights=each) for each in several]
    assert found.ensemble == alone[0].ensemble
    for (given, accuracy), other in zip(found.others, alone[1:], strict=True):
        assert given == other.weights
        assert accuracy == other.ensemble
    content = found.to_json()
    assert [each["correct"] for each in content["others"]] == [
        each.to_json()["correct"] for each in alone[1:]
    ]
    assert any("the best of several weights looks better" in note for note in content["notes"])
    assert "others" not in alone[0].to_json()
    with pytest.raises(UserError, match="--weights: must be one per score file, got 3 for 2"):
        evaluate(files, labels, others=((1.0, 1.0, 1.0),))
