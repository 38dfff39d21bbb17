import shutil

import numpy as np
import pytest

from orchestrator.ensembling.bundle import Bundle, _combined, write_bundle
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.errors import UserError


def softmax(rows):
    shifted = np.exp(rows - rows.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_an_ensemble_of_ensembles_is_combined_level_by_level():
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(5, 3)).astype(np.float32) for name in "abc"}
    inner = {"combine": "probabilities", "sources": [[1.0, {"trial": "a"}], [3.0, {"trial": "b"}]]}
    outer = {"combine": "probabilities", "sources": [[0.5, inner], [0.5, {"trial": "c"}]]}
    mean = (softmax(logits["a"]) + 3 * softmax(logits["b"])) / 4
    expected = (mean + softmax(logits["c"])) / 2
    assert np.allclose(softmax(_combined(outer, logits)), expected, atol=1e-6)  # float32 scores
    summed = {"combine": "logits", "sources": [[1.1, {"trial": "a"}], [0.9, {"trial": "c"}]]}
    assert np.allclose(_combined(summed, logits), 1.1 * logits["a"] + 0.9 * logits["c"], atol=1e-6)


def test_a_folder_without_a_bundle_is_named(tmp_path):
    with pytest.raises(UserError, match=r"must be a bundle with a readable bundle\.json"):
        Bundle.load(tmp_path)


def test_the_network_of_another_trial_is_not_bundled(tmp_path):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0)]
    run = make_run(tmp_path, trials)
    sweep = make_sweep({"name": "final", "over": "data.stream"})
    evaluation = finalize(run, sweep, collect(run, sweep), {})
    mine, others = (run / "trials" / trial.name / "deploy.pt" for trial in trials)
    others.write_bytes(b"another network")
    shutil.copyfile(others, mine)
    with pytest.raises(UserError, match=rf"{trials[0].name}/deploy\.pt: must be the file"):
        write_bundle(run, evaluation)
