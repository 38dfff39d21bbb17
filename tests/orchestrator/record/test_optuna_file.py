"""A sweep's trials as an Optuna file, read back with Optuna itself."""

import optuna
import pytest
from optuna.trial import TrialState

from orchestrator.record.folder import journal_of
from orchestrator.record.optuna_file import write_optuna
from orchestrator.sweep import parse_sweep
from tests.orchestrator.recorded import recorded
from tests.orchestrator.simulation.made_curves import made_result
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.9]
  train.lr: {min: 0.1, max: 0.5, step: 0.1, axis: trial}
  train.milestones: {values: [[3], [4, 5]], axis: trial}
train: {epochs: 9}
method: {name: random, trials_per_cell: 5}
constraints: [{metric: params, max: 1000}]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A sweep whose first cell has a trial of every ending."""
    monkeypatch.chdir(tmp_path)
    run, trials = recorded(parse_sweep("small.yaml", TEXT))
    journal = journal_of(run)
    first, pruned, failed, _ = trials[:4]
    for trial in trials[:4]:
        journal.append("trial_started", trial=trial.proposal.trial)
    folder = first.proposal.folder(run)
    folder.path.mkdir(parents=True)
    folder.result_file.write_text(made_result(first, 0.75, params=1500).model_dump_json())
    journal.append("trial_finished", trial=first.proposal.trial)
    known = {"epochs": 4, "values": {"selection_top1": 0.5}}
    journal.append("trial_pruned", trial=pruned.proposal.trial, **known)
    journal.append("trial_failed", trial=failed.proposal.trial, reason="no memory")
    return run


def test_every_cell_is_a_study_with_its_trials_as_they_are(run, tmp_path):
    path = tmp_path / "studies.db"
    assert write_optuna(run, path) == "2 studies with 10 trials"
    url = f"sqlite:///{path}"
    assert optuna.get_all_study_names(url) == ["small/level0", "small/level0.9"]
    study = optuna.load_study(study_name="small/level0", storage=url)
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.metric_names == ["selection_top1"]
    finished, pruned, failed, running, waiting = study.trials
    assert (finished.state, finished.value) == (TrialState.COMPLETE, 0.75)
    assert finished.constraints == {"params max 1000": 0.5}
    assert finished.user_attrs["trial"].startswith("level0-")
    assert finished.datetime_start < finished.datetime_complete
    assert set(finished.params) == {"train.lr", "train.milestones"}
    assert (pruned.state, pruned.intermediate_values) == (TrialState.PRUNED, {4: 0.5})
    assert (failed.state, failed.user_attrs["ending"]) == (TrialState.FAIL, "failed: no memory")
    assert (running.state, waiting.state) == (TrialState.RUNNING, TrialState.WAITING)
    assert len(optuna.load_study(study_name="small/level0.9", storage=url).trials) == 5


def test_the_file_is_whole_or_as_it_was(run, tmp_path, monkeypatch):
    path = tmp_path / "studies.db"
    write_optuna(run, path)
    before = path.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(optuna.Study, "add_trial", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_optuna(run, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if "studies" in each.name] == ["studies.db"]
    write_optuna(run, path)  # anew, not in addition
    assert len(optuna.get_all_study_names(f"sqlite:///{path}")) == 2


@pytest.mark.parametrize("what", ["journal", "text", "others", "empty"])
def test_no_other_file_is_replaced(run, tmp_path, what):
    path = run / "journal.jsonl" if what == "journal" else tmp_path / what
    if what == "text":
        path.write_text("version: 1")
    elif what == "others":
        optuna.create_study(storage=f"sqlite:///{path}", study_name="mine")
    elif what == "empty":
        path.touch()
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"^--optuna: .* is there already and is no file of"):
        write_optuna(run, path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path):
    with pytest.raises(UserError, match=r"--optuna: .*nowhere/a\.db cannot be written"):
        write_optuna(run, tmp_path / "nowhere" / "a.db")
