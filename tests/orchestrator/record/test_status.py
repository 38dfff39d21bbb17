import errno
import io
import os
import re
from functools import partial

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator.cli.commands.sweeps import app
from orchestrator.cli.printing.status import print_status
from orchestrator.record import status as status_module
from orchestrator.record.folder import held, is_running, journal_of
from orchestrator.record.running import Running, RunningTrial, write_running
from orchestrator.record.states import load_trials
from orchestrator.record.status import load_status
from orchestrator.record.stop_requests import StopRequests
from orchestrator.sweep import parse_sweep
from tests.orchestrator.fake_run import Trial, make_run
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import THREE_LEVELS
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A sweep of three trials: one failed, one under way, one waiting."""
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", THREE_LEVELS)
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


def test_a_node_that_gets_no_more_trials_is_shown(run, capsys):
    journal_of(run).append("node_excluded", node="50844853ab", host="10.0.0.7", reason="it fails")
    status = load_status(run)
    assert status.to_json()["excluded"] == {"50844853ab": "10.0.0.7: it fails"}
    print_status(status)
    assert "excluded node 50844853 on 10.0.0.7: it fails" in capsys.readouterr().out


def test_trials_that_wait_for_what_they_start_from_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", THREE_LEVELS + "sparsity: {from: dense}\n")
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
    for state in load_trials(run):
        write_json(state.proposal.folder(run).failure_file, {"reason": "train_loss"})
    journal = journal_of(run)
    journal.append("sweep_finished")
    journal.append("ensemble_built", ensemble="later")
    journal.append("test_read", purpose="final evaluation")
    status = load_status(run)
    assert (status.state, status.next_step) == ("finished", f"see {run}/report/index.html")
    journal.append("sweep_resumed")
    assert load_status(run).state == "not running"


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_a_sweep_that_lost_a_result_is_not_finished(tmp_path, content):
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("bone", 0.0)])
    journal_of(run).append("sweep_finished")
    assert load_status(run).state == "finished"
    result = load_trials(run)[0].proposal.folder(run).result_file
    result.unlink()
    if content is not None:
        result.write_text(content)
    status = load_status(run)
    assert status.state == "not running"
    assert "orchestrate resume" in status.next_step


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


def test_the_best_of_a_cell_is_that_of_its_finished_trials(tmp_path):
    trials = [
        Trial("joint", 0.0, lr=lr, wrong_selection=tuple(range(wrong)))
        for lr, wrong in ((0.1, 6), (0.2, 3), (0.3, 9))
    ]
    [cell] = load_status(make_run(tmp_path, trials)).cells
    assert (cell.done, cell.best) == (3, 0.75)


def running(run, *, epoch=12, left=3000.0):
    """A sweep whose second trial runs, and was restarted once."""
    trial = load_trials(run)[1].proposal
    journal_of(run).append(
        "trial_restarted", trial=trial.trial, cell=trial.cell, attempt=1, of=3, reason="it died"
    )
    now = RunningTrial(trial.trial, trial.cell, 65, epoch, 1.2, 0.561, 0.6, left)
    write_running(run, Running((now,), 7200.0))
    return now


def test_running_trials_say_how_far_they_are(run):
    now = running(run)
    with held(run):
        status = load_status(run)
    cell = status.cells[1]
    assert (cell.now, cell.running, cell.restarts) == ((now,), 1, 1)
    assert [each.running for each in status.cells] == [0, 1, 0]
    assert status.seconds_left == 7200.0
    assert status.to_json()["cells"][1]["now"][0]["epoch"] == 12


def test_a_first_epoch_that_takes_minutes_shows_its_steps(run, monkeypatch):
    trial = load_trials(run)[1].proposal
    now = RunningTrial(trial.trial, trial.cell, 65, step=40, steps=600)
    write_running(run, Running((now,)))
    with held(run):
        assert "0/65, step 40/600" in invoked(monkeypatch, "status", "small", width=100)


def test_a_record_of_a_dead_driver_or_of_an_ended_trial_is_not_shown(run):
    now = running(run)
    assert load_status(run).cells[1].now == ()  # nobody holds the folder
    assert load_status(run).seconds_left is None
    write_json(TrialDir(run / "trials" / now.trial).failure_file, {"reason": "loss"})
    with held(run):
        assert load_status(run).cells[1].now == ()


def invoked(monkeypatch, *arguments, width=80):
    """What the command prints on a terminal of that width."""
    screen = io.StringIO()
    monkeypatch.setattr(
        "orchestrator.cli.printing.tables.Console",
        partial(Console, file=screen, force_terminal=True, width=width, no_color=True),
    )
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, found.output
    return re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())


@pytest.mark.parametrize("width", [40, 80, 100, 140])
def test_no_column_is_lost_on_a_narrow_terminal(run, monkeypatch, width):
    running(run)
    with held(run):
        text = invoked(monkeypatch, "status", "small", width=width)
    for word in "cell done failed restarts epoch top-1 left best 12/65 56.1 0/1".split():
        assert word in text
    assert "50 min" in text
    assert "about 2.0 h left" in text
    if width >= 80:
        table = text[: text.index("failed  ")]
        assert max(len(line.rstrip()) for line in table.splitlines()) <= width


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"epochs": 12, "best_top1": 0.561}, "at epoch 12, best 56.1 %"),
        ({"epochs": 12, "best_top1": None}, "at epoch 12"),
        ({}, None),
    ],
)
def test_a_stopped_sweep_says_how_far_its_trials_are(run, told, words):
    trial = load_trials(run)[1].proposal
    journal_of(run).append("trial_interrupted", trial=trial.trial, cell=trial.cell, **told)
    assert load_status(run).stopped == ({} if words is None else {trial.trial: words})
    shown = CliRunner().invoke(app, ["status", "small"]).stdout
    assert ("stopped " in shown) == (words is not None)
    with held(run):
        assert load_status(run).stopped == {}


def test_watch_prints_until_the_sweep_ends(run, monkeypatch):
    running(run)
    states, paused = iter([True, True, False]), []
    monkeypatch.setattr("orchestrator.record.status.is_running", lambda *told: next(states))
    monkeypatch.setattr("orchestrator.cli.commands.status.time.sleep", paused.append)
    text = invoked(monkeypatch, "status", "small", "--watch")
    assert (text.count("small: running"), text.count("small: not running")) == (2, 1)
    assert paused == [5.0, 5.0]


def test_ctrl_c_ends_watching_without_an_error(run, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.record.status.is_running", lambda *told: True)
    monkeypatch.setattr("orchestrator.cli.commands.status.time.sleep", interrupt)
    assert "small: running" in invoked(monkeypatch, "status", "small", "--watch")


def test_watching_needs_a_name(run):
    refused = CliRunner().invoke(app, ["status", "--watch"])
    assert isinstance(refused.exception, UserError)


@pytest.mark.parametrize("content", ["", '{"sweep"', "[]", '{"sweep": 1}', "[" * 100_000])
def test_a_damaged_sweep_hides_no_other(run, content):
    damaged = run.parent / "broken" / "resolved.json"
    damaged.parent.mkdir()
    damaged.write_text(content)
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0
    assert "damaged" in shown.stdout
    assert "small" in shown.stdout
    assert str(damaged) in shown.stdout
    for command in (["status", "broken"], ["resume", "broken"], ["report", "broken"]):
        refused = CliRunner().invoke(app, command)
        assert isinstance(refused.exception, UserError)
        assert str(damaged) in str(refused.exception)


def test_a_folder_that_may_not_be_read_is_said(run, monkeypatch):
    """Whether the folder is closed or a file in it."""
    for name in ("closed", "half"):
        (run.parent / name).mkdir()
    (run.parent / "half" / "resolved.json").write_text("{}")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.name != "closed" and access(path, mode)
    )
    journal = status_module.read_journal

    def read_journal(path):
        if path.parent.name == "half":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return journal(path)

    monkeypatch.setattr(status_module, "read_journal", read_journal)
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0
    assert shown.stdout.count("unreadable") == 2
    assert "small" in shown.stdout
    assert "runs/closed: cannot be read: Permission denied" in shown.stdout
    assert "runs/half/journal.jsonl: cannot be read: Permission denied" in shown.stdout


def test_a_sweep_that_was_asked_to_stop_says_so_once(run):
    with held(run):
        assert CliRunner().invoke(app, ["stop", "small"]).exit_code == 0
        assert load_status(run).next_step == "asked to stop: by orchestrate stop"
        assert CliRunner().invoke(app, ["cancel", "small"]).exit_code == 0
        assert load_status(run).next_step == "asked to stop: by orchestrate cancel"


def test_a_place_without_sweeps_says_so_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for options, place in (((), "runs"), (("--storage", "empty"), "empty")):
        shown = CliRunner().invoke(app, ["status", *options])
        assert (shown.exit_code, shown.stdout) == (0, f"no sweep in {place} yet\n")
        listed = CliRunner().invoke(app, ["status", "--json", *options])
        assert (listed.exit_code, listed.stdout) == (0, "[]\n")
    (tmp_path / "file").touch()
    for place, wrong in (
        ("absent", "is not there"),
        ("file:///absent", "is not there"),
        ("file", "is a file"),
    ):
        for options in ((), ("--json",)):
            refused = CliRunner().invoke(app, ["status", "--storage", place, *options])
            assert str(refused.exception) == (
                f"--storage: must be a folder of sweeps, but {place} {wrong}"
            )


def test_a_stop_request_stands_whatever_its_file_holds(run):
    requests = StopRequests(run)
    for content in ("", "[]", '{"by": "person"}'):
        requests.cancel_file.write_text(content)
        assert requests.stop().reason == "the file cancel was found"


def test_trials_that_are_not_needed_are_counted_for_themselves(run):
    trial = load_trials(run)[2].proposal
    journal_of(run).append("trial_discarded", trial=trial.trial, cell=trial.cell)
    cells = load_status(run).cells
    assert [(cell.total, cell.failed, cell.discarded, cell.pruned) for cell in cells] == [
        (1, 1, 0, 0),
        (1, 0, 0, 0),
        (1, 0, 1, 0),
    ]


def test_only_what_this_driver_started_and_has_not_ended_runs(run):
    journal, (_, second, third) = journal_of(run), [each.proposal for each in load_trials(run)]

    def runs():
        with held(run):
            return [cell.running for cell in load_status(run).cells]

    journal.append("test_read", purpose="report")
    journal.append("trial_restarted", trial=second.trial, attempt=1, of=3, reason="it died")
    assert runs() == [0, 1, 0]
    journal.append("trial_interrupted", trial=second.trial)
    assert runs() == [0, 0, 0]
    journal.append("trial_started", trial=third.trial)
    assert runs() == [0, 0, 1]
    journal.append("trial_warned", trial=third.trial, text="level 0.99 leaves no weight")
    assert runs() == [0, 0, 1]
    journal.append("sweep_resumed")
    assert runs() == [0, 0, 0]


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_a_sweep_is_continued_on_the_cluster_it_last_ran_on(run, address):
    journal_of(run).append("sweep_resumed", address=address)
    journal_of(run).append("sweep_interrupted", reason="a person")
    next_step = load_status(run).next_step
    assert next_step.startswith("continue with: orchestrate resume small")
    assert next_step.endswith(f" --address {address}") == (address is not None)


def test_how_far_stopped_trials_are(run):
    _, second, third = (each.proposal.trial for each in load_trials(run))
    for trial, known in ((second, {"epochs": 12, "best_top1": 0.561}), (third, {"epochs": 3})):
        journal_of(run).append("trial_interrupted", trial=trial, **known)
    assert load_status(run).stopped == {second: "at epoch 12, best 56.1 %", third: "at epoch 3"}
    journal_of(run).append("trial_interrupted", trial=third, epochs=0)
    assert list(load_status(run).stopped) == [second]
    with held(run):
        assert load_status(run).stopped == {}


def test_what_a_sweep_waits_for_is_said_while_it_runs(run, capsys):
    write_running(run, Running(seconds_left=9.0, waits_for="a node with 4 CPUs for a trial"))
    assert load_status(run).waits_for == ""
    with held(run):
        status = load_status(run)
    assert status.to_json()["waits_for"] == "a node with 4 CPUs for a trial"
    print_status(status)
    said = capsys.readouterr().out
    assert "waits for a node with 4 CPUs for a trial" in said
    assert " left at the pace" not in said
