"""A sweep that version 0.2 began and left unfinished, as its folder was: without weights, scores
and curves. Two of six trials are finished, two are interrupted, two had not started.
"""

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.conduct import INTERRUPTED, conduct
from orchestrator.record.folder import folder_of, known_proposals, load_folder
from orchestrator.record.journal import read_journal, running_seconds
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_trials
from orchestrator.record.status import load_status
from orchestrator.report.writing import write_report
from orchestrator.trials.space import all_trials
from tests.orchestrator.fake_run import without_ray
from trainables.contract.config import TrialConfig

FINISHED = ["joint-level0-08c78e04", "joint-level0.6-02e1ef24"]
INTERRUPTED_TRIALS = ["joint-level0.9-83108c8f", "bone-level0-28ac3200"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path("runs/quickstart")
    shutil.copytree(Path(__file__).with_name("version_0_2"), run)
    return run


def test_it_loads_with_the_state_of_every_trial(run):
    states = load_trials(run)
    assert [state.proposal.trial for state in states if state.ending == "finished"] == FINISHED
    assert [
        state.proposal.trial for state in states if state.ending == "interrupted"
    ] == INTERRUPTED_TRIALS
    assert sum(state.ending is None for state in states) == 2
    assert states[0].result.form == 1


def test_its_status_and_report_are_shown(run):
    status = load_status(run)
    assert sum(cell.done for cell in status.cells) == 2
    assert status.next_step == "continue with: orchestrate resume quickstart"
    assert "2 finished, 0 failed, 4 unfinished" in write_report(run).read_text()


def test_its_running_time_is_known(run):
    assert running_seconds(read_journal(run / "journal.jsonl")) == pytest.approx(102.3, abs=0.1)


def test_its_trials_keep_their_names_and_their_configurations(run):
    sweep = load_folder(run)
    names = [proposal.trial for proposal in load_proposals(run)]
    assert [proposal.trial for proposal in known_proposals(sweep, folder_of(sweep))] == names
    trials = all_trials(sweep, load_proposals(run))
    assert [trial.proposal.trial for trial in trials] == names
    for trial in trials:
        folder = trial.proposal.folder(run)
        if folder.config_file.is_file():
            written = TrialConfig.model_validate_json(folder.config_file.read_bytes())
            assert trial.config == written


def test_it_is_resumed_with_the_trials_it_has(run, monkeypatch):
    contexts = []

    def run_trials(context):
        contexts.append(context)

    without_ray(monkeypatch, run_trials)
    before = load_proposals(run)
    outcome = conduct(load_folder(run, ["tracking.uri=none"]), None, lambda text: None, run=run)
    assert outcome.exit_code == INTERRUPTED  # nothing was trained
    (context,) = contexts
    assert tuple(trial.proposal for trial in context.trials) == before == load_proposals(run)
    events = [event["event"] for event in read_journal(run / "journal.jsonl")]
    assert "trial_proposed" not in events
    assert events[-2:] == ["sweep_resumed", "sweep_interrupted"]
    assert len(json.loads((run / "resolved.json").read_text())["trials"]) == 6
