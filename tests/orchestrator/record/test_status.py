import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands.sweeps import app
from orchestrator.record.folder import held, is_running, journal_of
from orchestrator.record.states import load_trials
from orchestrator.record.status import load_status
from orchestrator.record.stop_requests import StopRequests
from orchestrator.sweep import parse_sweep
from tests.orchestrator.recorded import recorded
from trainables.contract.artifacts import write_json
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.6, 0.8]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A sweep of three trials: one failed, one under way, one waiting."""
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", TEXT)
    folder, trials = recorded(sweep)
    planned = [trial.proposal for trial in trials]
    journal = journal_of(folder)
    journal.append("sweep_started", name="small")
    for trial in planned[:2]:
        journal.append("trial_started", trial=trial.trial, cell=trial.cell)
    write_json(planned[0].folder(folder).failure_file, {"reason": "train_loss must be finite"})
    journal.append(
        "trial_failed",
        trial=planned[0].trial,
        cell=planned[0].cell,
        reason="train_loss must be finite",
    )
    return folder


def test_a_running_sweep_counts_running_trials_and_failures(run):
    with held(run):
        status = load_status(run)
    assert status.state == "running"
    assert [(cell.total, cell.done, cell.failed, cell.running) for cell in status.cells] == [
        (1, 0, 1, 0),
        (1, 0, 0, 1),
        (1, 0, 0, 0),
    ]
    assert list(status.failures.values()) == ["train_loss must be finite"]
    assert "orchestrate stop small" in status.next_step


def test_trials_that_wait_for_what_they_start_from_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", TEXT + "sparsity: {from: dense}\n")
    folder, trials = recorded(sweep)
    planned = [trial.proposal for trial in trials]
    assert [cell.waiting for cell in load_status(folder).cells] == [0, 1, 1]
    shown = CliRunner().invoke(app, ["status", "small"]).stdout
    assert "waiting" in shown
    write_json(planned[0].folder(folder).failure_file, {"reason": "train_loss must be finite"})
    assert [cell.waiting for cell in load_status(folder).cells] == [0, 0, 0]
    assert "waiting" not in CliRunner().invoke(app, ["status", "small"]).stdout


def test_a_dead_sweep_has_no_running_trials(run):
    status = load_status(run)
    assert not is_running(run)
    assert status.state == "not running"
    assert [cell.running for cell in status.cells] == [0, 0, 0]
    assert "orchestrate resume small" in status.next_step


def test_a_trial_given_up_after_restarts_is_a_failure(run):
    trial = load_trials(run)[1].proposal
    journal_of(run).append(
        "trial_failed", trial=trial.trial, cell=trial.cell, reason="the worker died"
    )
    status = load_status(run)
    assert status.failures[trial.trial] == "the worker died"
    assert [cell.failed for cell in status.cells] == [1, 1, 0]


def test_a_finished_sweep_stays_finished_whatever_is_made_of_it_later(run):
    journal = journal_of(run)
    journal.append("sweep_finished")
    journal.append("ensemble_built", ensemble="later")
    journal.append("test_read", purpose="final evaluation")
    assert load_status(run).state == "finished"
    journal.append("sweep_resumed")
    assert load_status(run).state == "not running"


def test_stop_and_cancel_write_requests_for_a_running_sweep_only(run):
    runner = CliRunner()
    with held(run):
        assert runner.invoke(app, ["stop", "small"]).exit_code == 0
        assert StopRequests(run).drain_file.exists()
        assert not StopRequests(run).cancel_file.exists()
        assert runner.invoke(app, ["cancel", "small"]).exit_code == 0
        assert StopRequests(run).cancel_file.exists()
    refused = runner.invoke(app, ["stop", "small"])
    assert isinstance(refused.exception, UserError)
    assert "is not running" in str(refused.exception)
