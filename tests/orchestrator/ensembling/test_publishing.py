"""A published folder runs with torch alone, says what it is, and is whole or not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

from orchestrator.ensembling.bundle import open_bundle
from orchestrator.ensembling.find_model import find_model
from orchestrator.ensembling.open_model import open_model
from orchestrator.ensembling.publishing import FILES, _put_in_place, check_target, publish
from tests.orchestrator.ensembling.shipped import evaluated_storage, shipped
from tests.orchestrator.ensembling.test_exporting import scored
from trainables.contract.disk import write_json
from trainables.contract.errors import GateFailed, UserError

CLIPS = [
    np.random.default_rng(seed).normal(size=(1, 9, 2, 3)).astype(np.float32) for seed in range(3)
]
ALONE = """
import sys, json
sys.path = [path for path in sys.path if path not in ("", ".") and "PYTHONPATH" not in path]
sys.modules["orchestrator"] = sys.modules["trainables"] = None
import torch
from safetensors.torch import load_file
clips = torch.tensor(json.load(sys.stdin))
program = torch.export.load("model.pt2").module()
with torch.no_grad():
    for tensor in program.state_dict().values():
        if tensor.is_floating_point():
            tensor.zero_()
    program.load_state_dict(load_file("model.safetensors"))
    print(json.dumps(program(clips)[1].tolist()))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Storage, folder, and what was said of it."""
    place = tmp_path_factory.mktemp("published")
    run, _ = evaluated_storage(place)
    scored(run)
    notes = []
    said = publish(find_model("run", str(place)), place / "hub", note=notes.append)
    assert notes
    return place, place / "hub", said


def test_it_has_the_layout_of_hubs(published):
    _, folder, said = published
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert said.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert said.largest_difference < 1e-4
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "sit", "1": "stand", "2": "wave"}
    assert config["about"]["check"]["clips"] == said.clips
    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["model-index"][0]["name"] == "final"
    assert 'torch.export.load("model.pt2").module()' in card
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_it_runs_with_torch_and_its_weights_alone(published, tmp_path):
    place, folder, _ = published
    expected = open_bundle(find_model("run", str(place))).predict(CLIPS)
    clips = np.stack(CLIPS).transpose(0, 4, 2, 3, 1)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE],
        input=json.dumps(clips.tolist()),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)


def test_it_predicts_as_what_it_was_made_of(published):
    place, folder, _ = published
    given = [*CLIPS, CLIPS[0][:, :4]]
    expected = open_bundle(find_model("run", str(place))).predict(given)
    np.testing.assert_allclose(
        open_model(find_model(str(folder))).predict(given), expected, atol=1e-5
    )


def test_a_changed_or_missing_file_is_named(published, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(published[1], folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (folder / "model.pt2").unlink()
    with pytest.raises(UserError) as caught:
        open_model(find_model(str(folder)))
    assert caught.value.problems == (
        f"{folder}/model.pt2: is missing, config.json names it",
        f"{weights}: must be the file that config.json names, but it was changed",
    )


def test_a_folder_of_something_else_is_never_written_over(published, tmp_path):
    place, folder, _ = published
    found = find_model("run", str(place))
    with pytest.raises(UserError, match="there is a published model already; --force replaces it"):
        publish(found, folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="must be a new folder or a published one, but holds other"):
        publish(found, tmp_path / "mine", force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file: must be a folder, or not be there yet"):
        publish(found, tmp_path / "file", force=True)
    write_json(tmp_path / "ours" / "config.json", {"orchestrate_model": 1})
    check_target(tmp_path / "ours", force=True)
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"must hold a published model and nothing else .* notes"):
        check_target(tmp_path / "ours", force=True)
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", force=False)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_what_does_not_give_its_stored_logits_leaves_the_folder_as_it_was(tmp_path, quick_end):
    run, evaluation = shipped(tmp_path)  # whose stored scores are made up
    evaluation.save(run)
    with pytest.raises(GateFailed, match="the exported logits must be the stored ones"):
        publish(find_model(str(run)), tmp_path / "hub")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "store"]


def test_the_earlier_folder_is_put_back_where_the_new_one_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.ensembling.publishing.sync_folder", lambda folder: None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserError, match="out: cannot be written: No such file"):
        _put_in_place(tmp_path / "nowhere", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]
