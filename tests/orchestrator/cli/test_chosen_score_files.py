"""Weights of score files that are chosen on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture
def score_files(tmp_path):
    """Two files of scores and one of labels, and the options that name them."""
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=60)
    arguments = ["--labels", "labels.npy"]
    np.save(tmp_path / "labels.npy", labels)
    for name in ("joint", "bone"):
        logits = draw.normal(size=(60, 3)) + 1.5 * np.eye(3)[labels]
        np.save(tmp_path / f"{name}.npy", logits)
        arguments += ["--scores", f"{name}.npy"]
    return arguments


def test_weights_of_score_files_are_chosen_on_other_clips(orchestrate, score_files):
    method = ("--method", "greedy", "--option", "rounds=5", "--option", "metric=log_loss")
    code, out, err = orchestrate("ensemble", *score_files, *method, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["folds"], found["seed"], found["options"]["rounds"]) == (2, 0, 5)
    assert found["interval"][0] < found["top1"] < found["interval"][1]
    assert any("covers about 90 % of planted cases" in each for each in found["notes"])
    code, out, _ = orchestrate("ensemble", *score_files, *method, "--cross-fit", "3", "--seed", "1")
    assert code == 0
    assert "weights chosen by greedy: each of 3 folds" in out
    assert "mean of all" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "greedy", "--cross-fit", "1"), "--cross-fit: must be at least 2"),
        (("--partial",), "--partial and --storage go with the name of a sweep"),
        (("--method", "mean"), "--method: mean chooses no weights: leave it out"),
        (("--weights", "nan,1"), "--weights: weights must be numbers with a positive sum"),
        (("--cross-fit", "2"), "--option, --cross-fit and --seed go with --method"),
        (("--method", "greedy", "--option", "rounds"), "--option: must be NAME=VALUE"),
        (("--method", "greedy", "--budget", "members=1"), "--budget, --over, --per, --called"),
        (("--method", "greedy", "--paper-style"), "--paper-style goes with the name of one sweep"),
    ],
)
def test_wrong_choices_of_score_files(orchestrate, score_files, arguments, message):
    code, out, err = orchestrate("ensemble", *score_files, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_several_weights_of_score_files_stand_side_by_side(orchestrate, score_files):
    count = score_files.count("--scores")
    first, second = ",".join(["1"] * count), ",".join(["1"] + ["0"] * (count - 1))
    weights = ("--weights", first, "--weights", second)
    code, out, err = orchestrate("ensemble", *score_files, *weights)
    assert code == 0, err
    assert f"with weights {second}" in out
    code, out, _ = orchestrate("ensemble", *score_files, *weights, "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found["others"][0]["weights"].values()) == [1.0] + [0.0] * (count - 1)
    assert found["others"][0]["samples"] == found["samples"]
    code, _, err = orchestrate("ensemble", "small", *weights)
    assert (code, err) == (2, "--weights: must be given once for a sweep's networks\n")
