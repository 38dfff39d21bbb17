"""Weights of score files that are chosen: cross-fitted, and never on a clip and its copy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.ensembling.cross_fitting import cross_fitted
from orchestrator.ensembling.score_files import FilesRequest, evaluate_files
from orchestrator.ensembling.strategies.greedy import Options, choose
from tests.orchestrator.ensembling.strategies.made_sources import made
from trainables.contract.errors import UserError


def written(folder, sources, copies=1):
    """A file of logits per source and one of labels, each repeated."""
    paths = []
    for name, rows in zip(sources.members, sources.values, strict=True):
        paths.append(folder / f"{name}.npy")
        np.save(paths[-1], np.tile(rows, (copies, 1)))
    np.save(folder / "labels.npy", np.tile(sources.labels, copies))
    return tuple(paths), folder / "labels.npy"


def test_the_figures_are_those_of_clips_that_had_no_part_in_choosing(tmp_path):
    sources = made(4, 120, combine="logits")
    paths, labels = written(tmp_path, sources)
    request = FilesRequest(paths, labels, method="greedy", options={"rounds": 8}, folds=3, seed=2)
    found = evaluate_files(request)
    twin = cross_fitted(sources, lambda part: choose(part, Options(rounds=8)), 3, 2)
    assert found.ensemble.right == (twin.rows.argmax(axis=1) == sources.labels).sum()
    assert found.weights == pytest.approx(twin.mean_weights(sources.members))
    plain = evaluate_files(FilesRequest(paths, labels))
    assert found.chosen is not None
    assert found.chosen.mean == plain.ensemble
    content = json.loads(json.dumps(found.to_json()))
    assert content["options"]["rounds"] == 8
    assert content["mean"]["correct"] == plain.ensemble.right
    assert (content["method"], content["folds"], content["seed"]) == ("greedy", 3, 2)


def test_copies_of_a_clip_are_one_clip_before_folds_are_drawn(tmp_path):
    sources = made(3, 60)
    once, many = tmp_path / "once", tmp_path / "many"
    found = []
    for folder, copies in ((once, 1), (many, 5)):
        folder.mkdir()
        paths, labels = written(folder, sources, copies)
        found.append(evaluate_files(FilesRequest(paths, labels, method="greedy")))
    assert found[1].ensemble == found[0].ensemble
    assert found[1].weights == found[0].weights
    assert found[1].ensemble.clips == 60


def test_stacking_sums_the_logarithms_of_probabilities(tmp_path):
    sources = made(3, 80)
    powers = np.exp(sources.values.astype(np.float64))
    paths = []
    for name, rows in zip("abc", powers, strict=True):
        paths.append(tmp_path / f"{name}.npy")
        np.save(paths[-1], rows / rows.sum(axis=1, keepdims=True))
    np.save(tmp_path / "labels.npy", sources.labels)
    request = FilesRequest(tuple(paths), tmp_path / "labels.npy", method="stacking")
    found = evaluate_files(request)
    assert found.combine == "logits"
    assert any("their logarithms are summed" in note for note in found.notes)
    (tmp_path / "logits").mkdir()
    same = evaluate_files(FilesRequest(*written(tmp_path / "logits", sources), method="stacking"))
    assert found.ensemble.right == same.ensemble.right


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"method": "gredy"}, "--method: must be mean, .* did you mean 'greedy'"),
        ({"method": "weights"}, "--method: weights takes weights: give them with --weights alone"),
        ({"method": "greedy", "weights": (1.0, 1.0)}, "--weights: must not be given where --meth"),
        ({"method": "greedy", "options": {"round": 3}}, "--option round: .*not permitted"),
        ({"method": "greedy", "options": {"rounds": 0}}, "--option rounds: .*than or equal to 1"),
        ({"method": "greedy", "folds": 1}, "--cross-fit: must be at least 2 .* look better than"),
        ({"method": "greedy", "folds": 41}, "--cross-fit: must be at least 2 and at most the 40"),
        ({"method": "stacking", "combine": "probabilities"}, "--combine: must be logits for met"),
    ],
)
def test_what_cannot_be_chosen_is_refused(tmp_path, said, message):
    paths, labels = written(tmp_path, made(2, 40))
    with pytest.raises(UserError, match=message):
        evaluate_files(FilesRequest(paths, labels, **said))
