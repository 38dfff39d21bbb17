"""`orchestrate predict`: what is typed, printed and refused."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from orchestrator.ensembling.bundle import Bundle
from orchestrator.ensembling.bundling import write_bundle
from tests.orchestrator.ensembling.shipped import evaluated_storage

CLIP = np.random.default_rng(0).uniform(0.1, 1.7, size=(6, 2, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A storage folder with a finished sweep and its bundle, and three clips beside it."""
    place = tmp_path_factory.mktemp("runs")
    run, evaluation = evaluated_storage(place)
    write_bundle(run, evaluation)
    (place / "clips").mkdir()
    for number in range(3):
        np.save(place / "clips" / f"{number}.npy", CLIP + np.float32(number / 10))
    return place


@pytest.fixture
def predict(runs, orchestrate):
    def run(*arguments):
        return orchestrate("predict", *arguments, "--storage", runs)

    return run


def test_a_table_json_and_csv_say_the_same(runs, predict, tmp_path):
    clips = [np.load(file) for file in sorted((runs / "clips").iterdir())]
    expected = Bundle.load(runs / "run/ensembles/final/model").predict(clips)
    code, out, err = predict("run", runs / "clips", "--json", "--batch", 2)
    assert (code, err) == (0, "")
    records = json.loads(out)
    assert [each["clip"] for each in records] == [str(runs / f"clips/{k}.npy") for k in range(3)]
    classes = ("sit", "stand", "wave")
    for each, row in zip(records, expected, strict=True):
        assert each["class"] == classes[int(row.argmax())]
        assert list(each["probabilities"]) == [classes[k] for k in np.argsort(-row)]
        for k, name in enumerate(classes):
            assert each["probabilities"][name] == pytest.approx(row[k], abs=1e-9)
    code, out, _ = predict("run/final", runs / "clips", "--out", tmp_path / "p.csv")
    assert (code, out) == (0, f"{tmp_path}/p.csv: 3 clips\n")
    header, *rows = csv.reader(io.StringIO((tmp_path / "p.csv").read_text()))
    assert header == ["clip", "class", "probability", "p(sit)", "p(stand)", "p(wave)"]
    assert [row[:2] for row in rows] == [[each["clip"], each["class"]] for each in records]
    np.testing.assert_allclose(np.array([row[3:] for row in rows], float), expected, atol=1e-5)
    code, out, _ = predict("run", runs / "clips", "--top", 1)
    assert code == 0
    assert [each["class"] in out for each in records] == [True] * 3
    predict("run", runs / "clips/0.npy", "--top", 2, "--out", tmp_path / "p.json")
    (one,) = json.loads((tmp_path / "p.json").read_text())
    assert len(one["probabilities"]) == 2
    predict("run", runs / "clips/0.npy", "--top", 2, "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().startswith("clip,class_1,probability_1,class_2,prob")


def test_pack_takes_the_names_that_predict_takes(runs, orchestrate, tmp_path):
    trial = min(folder.name for folder in (runs / "run/trials").iterdir())
    packed = tmp_path / "p.pt"
    code, out, err = orchestrate("pack", f"run/{trial}", packed, "--storage", runs)
    assert (code, err) == (0, "")
    assert out.startswith(f"{runs}/run/trials/{trial}/deploy.pt: ")
    assert packed.is_file()
    code, _, err = orchestrate("pack", "run/final", packed, "--storage", runs)
    assert code == 2
    rule = "must be SWEEP/TRIAL, the folder of a trial or a deploy form's file"
    assert err == f"run/final: {rule}, got ensemble\n"
    code, _, err = orchestrate("pack", "run/none", packed, "--storage", runs)
    assert code == 2
    assert err == f"run/none: {rule}, and there is none of that name\n"


def frames(count, **more):
    return b"".join(
        json.dumps({"persons": [{"joints": (CLIP[0] + t / 100).tolist()}], "time": t / 10}).encode()
        + b"\n"
        for t in range(count)
    )


@pytest.fixture
def typed(monkeypatch):
    """What comes on standard input."""

    def comes(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return comes


def test_a_stream_answers_in_lines_of_json(predict, typed):
    typed(frames(25))
    code, out, err = predict("run", "--stream", "--window", 1, "--top", 1)
    assert (code, err) == (0, "2 answers\n")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(each["line"], each["frames"], each["full"]) for each in answers] == [
        *((10, 10, False), (20, 11, True))
    ]
    assert all(each["class"] in ("sit", "stand", "wave") for each in answers)
    assert all(each["latency_ms"] > 0 and len(each["probabilities"]) == 1 for each in answers)


def test_a_bad_line_of_a_stream_is_one_error_or_is_left_out(predict, typed):
    typed(frames(4) + b"{\n" + frames(4))
    code, out, err = predict("run", "--stream", "--every", 2)
    assert code == 2
    assert len(out.splitlines()) == 2  # what came before it is answered
    assert err.splitlines()[0] == "2 answers"
    assert err.splitlines()[1].startswith("line 5: must be a frame as JSON, but")
    typed(frames(4) + b"{\n" + b"x" * 5_000_000 + b"\n")
    code, out, err = predict("run", "--stream", "--every", 2, "--skip-bad")
    assert (code, len(out.splitlines())) == (0, 2)
    assert err.splitlines()[1] == "left out: line 6: a frame must have at most 4194304 bytes"
    assert "Traceback" not in err


def test_ctrl_c_ends_a_stream_without_a_word_too_many(predict, monkeypatch):
    class Keyboard:
        """Frames, then Ctrl-C."""

        def __init__(self):
            self.buffer, self._lines = self, iter(frames(10).splitlines(keepends=True))

        def isatty(self):
            return True

        def readline(self, most):
            line = next(self._lines, None)
            if line is None:
                raise KeyboardInterrupt
            return line

    monkeypatch.setattr("sys.stdin", Keyboard())
    code, out, err = predict("run", "--stream")
    assert (code, len(out.splitlines())) == (130, 1)
    assert err.splitlines()[1:] == ["1 answer", "interrupted"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "CLIPS: must name at least one file, folder or pattern, got none"),
        (["unheard", "{clips}"], "unheard: must be a model, "),
        (["run", "nowhere.npy"], "nowhere.npy: must be a clip's file, a folder or a pattern that"),
        (["run", "{clips}", "--out", "a.txt"], "--out: must end in .csv or .json, got a.txt"),
        (["run", "{clips}", "--fps", "30"], "--window, --every and --fps: have no effect without"),
        (["run", "{clips}", "--unit", "px"], "--unit: must be m, cm or mm for positions in space"),
        (["run", "{clips}", "--tracking", "x"], "--tracking: has no effect on "),
        (["run", "{clips}", "--stream"], "CLIPS: must be left out with --stream, which reads stan"),
        (["run", "--stream", "--json"], "--out, --json and --batch: have no effect with --stream"),
        (
            ["run", "--stream", "--batch", "64"],
            "--out, --json and --batch: have no effect with --s",
        ),
        (["run", "--stream", "--window", "0"], "--window: must be more than 0 and at most 3600"),
        (["run", "--stream", "--window", "nan"], "--window: must be more than 0 and at most 3600"),
        (
            ["run", "--stream", "--window", "3600", "--fps", "30"],
            "--window: must hold at most 10000 frames, got 108000 (3600 s at 30 a second)",
        ),
        (["run", "--stream", "--fps", "-1"], "--fps: must be more than 0 and at most 100000, got"),
        (
            ["models:/net@champion", "{clips}"],
            "models:/net@champion: there is no MLflow store at sqlite:///mlflow.db; --tracking",
        ),
    ],
)
def test_wrong_use_is_one_clear_error(runs, predict, arguments, message, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, out, err = predict(*(each.format(clips=runs / "clips") for each in arguments))
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert len(err.splitlines()) == 1


def test_where_answers_go_is_tried_before_the_first_clip(runs, predict, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("predicted in vain")

    monkeypatch.setattr("orchestrator.ensembling.predicting.predict_files", never)
    (tmp_path / "x.csv").mkdir()
    (tmp_path / "file").touch()
    for out, rule in (
        (tmp_path / "x.csv", "must be the name of a file to write, got that of a folder"),
        (tmp_path / "file/deep/p.csv", "cannot be written: Not a directory"),
    ):
        code, _, err = predict("run", runs / "clips", "--out", out)
        assert (code, err) == (2, f"{out}: {rule}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.csv"]
    monkeypatch.setattr("orchestrator.ensembling.predicting.predict_files", lambda *_: [])
    out = tmp_path / f"{'x' * 250}.csv"  # what cannot be seen before names the file, too
    code, _, err = predict("run", runs / "clips", "--out", out)
    assert (code, err) == (2, f"{out}: cannot be written: File name too long\n")


def test_a_damaged_clip_leaves_nothing_half_written(runs, predict, tmp_path):
    (tmp_path / "bad.npy").write_text("x")
    given = ("run", runs / "clips", tmp_path / "bad.npy", "--out", tmp_path / "p.csv")
    code, out, err = predict(*given)
    assert (code, out) == (2, "")
    assert err.startswith(f"{tmp_path}/bad.npy: must be a NumPy array (.npy), but")
    assert not (tmp_path / "p.csv").exists()
    code, out, err = predict(*given, "--skip-bad")
    assert (code, out) == (0, f"{tmp_path}/p.csv: 3 clips\n")
    assert err.startswith(f"left out: {tmp_path}/bad.npy: ")
