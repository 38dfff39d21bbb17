"""What is exported of a finished sweep, and what it is held to."""

import json

import numpy as np
import pytest
import torch

from orchestrator.cli.commands.networks import COMMANDS
from orchestrator.ensembling.exporting import source_of
from orchestrator.ensembling.find_model import FoundModel, find_model
from tests.orchestrator.ensembling.shipped import FINAL, shipped
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import GateFailed, UserError
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store
from trainables.deploy.form import load_deploy
from trainables.deploy.predict import score_store

pytestmark = pytest.mark.usefixtures("quick_end")


def scored(run):
    """The stored selection scores become those of the networks."""
    for path in sorted((run / "trials").iterdir()):
        trial = TrialDir(path)
        data, stored = trial.load_config().data, Scores.load(trial.selection_scores)
        store = Store.open(data.store)
        place = {name: number for number, name in enumerate(store.column("id").tolist())}
        rows = np.array([place[name] for name in stored.ids])
        form = load_deploy(trial.deploy_file)
        logits = score_store(form, store, rows, data, torch.device("cpu")).logits
        Scores(stored.ids, logits, stored.labels).save(trial.selection_scores)


def test_an_ensemble_is_held_to_the_sum_of_its_stored_scores(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    source = source_of(find_model(str(run)))
    assert (source.name, source.kind, source.split) == ("final", "ensemble", "selection")
    tables = [
        Scores.load(TrialDir(run / "trials" / member.trial).selection_scores)
        for member in source.members
    ]
    assert source.stored.ids == tables[0].ids
    assert [each.split for each in source.accuracy] == ["selection", "test"]
    row = evaluation.headline
    assert source.accuracy[1].top1 == row.test.top1
    assert (source.accuracy[1].low, source.accuracy[1].high) == row.test.interval
    assert source.accuracy[0].low is None  # on clips that were chosen on
    assert source.accuracy[0].top1 == row.selection.top1
    assert not set(source.training) & {
        source.store.column("id").tolist().index(name) for name in source.stored.ids
    }


def test_the_command_writes_what_it_says(tmp_path, capsys):
    run, _evaluation = shipped(tmp_path)
    scored(run)
    (folder,) = (run / "trials").glob("bone-0-*")
    trial, out = str(folder), tmp_path / "model.pt2"
    COMMANDS["export"](trial, out, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == out.stat().st_size
    assert said["name"] == folder.name
    COMMANDS["export"](trial, out, force=True)
    printed = capsys.readouterr().out
    assert f"trial {folder.name}, fp32" in printed
    assert "logits differ from the stored ones by at most" in printed


def test_a_store_that_was_moved_is_said_with_what_helps_and_found_again(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    evaluation.save(run)
    (trial,) = (run / "trials").glob("bone-0-*")
    moved = (tmp_path / "store").rename(tmp_path / "elsewhere")
    for name in (run, trial):
        with pytest.raises(UserError, match=r"resume run --set data\.store=PLACE .* its place\)$"):
            source_of(find_model(str(name)))
    rows = [
        row.model_copy(update={"division": row.division.model_copy(update={"store": str(moved)})})
        for row in evaluation.rows
    ]
    evaluation.model_copy(update={"rows": tuple(rows)}).save(run)
    for name in (run, trial):
        assert source_of(find_model(str(name))).store.info.name


def test_networks_that_do_not_give_the_stored_scores_are_not_exported(tmp_path):
    run, _evaluation = shipped(tmp_path)
    with pytest.raises(
        GateFailed, match=r"bone-0-\w+: the exported logits must be the stored ones"
    ):
        COMMANDS["export"](str(run), tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()


@pytest.mark.parametrize("kind", ["exported", "published", "registered", "bundle"])
def test_what_lies_in_no_sweep_is_refused(tmp_path, kind):
    with pytest.raises(UserError, match="must be a trial or an ensemble in the folder of its"):
        source_of(FoundModel(kind, "one", tmp_path))


def test_an_ending_that_says_no_format_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.pt2, \.onnx, \.xml, got '\.pt'"):
        COMMANDS["export"]("anything", tmp_path / "model.pt")
