import errno
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from orchestrator import conduct as conduct_module
from orchestrator.cli.commands.sweeps import app
from orchestrator.conduct import INTERRUPTED, TOO_MANY_FAILED, _seconds_left, conclude, conduct
from orchestrator.record.folder import folder_of, held, journal_of, load_folder
from orchestrator.record.forecasts import Forecast, load_forecast
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_trials
from orchestrator.record.stop_requests import Stop
from orchestrator.sweep import parse_sweep
from orchestrator.tracking.tracker import NullTracker
from tests.orchestrator.fake_run import make_store, without_ray
from tests.orchestrator.finished import finished
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import SMALL
from trainables.contract.disk import write_json
from trainables.contract.errors import OutOfSpace, UserError

pytestmark = pytest.mark.usefixtures("quick_end")

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
budget: {hours: 2}
"""
UNTRACKED = TEXT + "tracking: {uri: none}\n"
CHANGED = UNTRACKED + "resources: {cpus: 99}\n"
REFUSED = TEXT + "tracking: {uri: 'ftp://nobody'}\n"


def sweep_of(text=UNTRACKED, *overrides):
    return parse_sweep("small.yaml", text, overrides)


def quiet(text):
    pass


def kinds(run):
    return [event["event"] for event in read_journal(run / "journal.jsonl")]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def running(monkeypatch):
    """What stands for Ray: replace `running.trials` to say what a run of the trials does."""
    stage = SimpleNamespace(trials=lambda context: None, contexts=[])

    def run_trials(context):
        stage.contexts.append(context)
        return stage.trials(context)

    without_ray(monkeypatch, run_trials)
    return stage


def test_the_time_budget_is_of_all_runs_together():
    events = [
        {"event": "sweep_started", "time": 0, "elapsed": 0},
        {"event": "sweep_interrupted", "time": 1, "elapsed": 1000},
    ]
    assert _seconds_left(sweep_of(), events) == 6200
    assert _seconds_left(sweep_of(TEXT.replace("hours: 2", "hours: 0.1")), events) == 0
    assert _seconds_left(sweep_of(TEXT.replace("budget: {hours: 2}", "")), events) is None


@pytest.fixture
def unfinished():
    return recorded(sweep_of())[0]


def test_the_test_split_is_not_opened_before_every_trial_has_ended(unfinished):
    with pytest.raises(UserError, match=r"1 trials have not ended .* --partial"):
        conclude(unfinished, partial=False)
    assert "test_read" not in kinds(unfinished)
    assert not (unfinished / "evaluation.json").exists()


def test_nothing_is_concluded_beside_a_running_sweep(unfinished):
    with held(unfinished), pytest.raises(UserError, match="is being run by process"):
        conclude(unfinished, partial=True)


def test_all_trials_are_proposed_before_the_first_one_runs(running):
    conduct(sweep_of(), None, quiet)
    (context,) = running.contexts
    assert kinds(context.folder)[:2] == ["sweep_started", "trial_proposed"]
    assert load_proposals(context.folder) == tuple(t.proposal for t in context.trials)
    conduct(sweep_of(), None, quiet)
    assert kinds(context.folder).count("trial_proposed") == 1


def test_a_run_that_ends_before_its_trials_is_no_finished_sweep(running):
    outcome = conduct(sweep_of(), None, quiet)
    assert outcome.exit_code == INTERRUPTED
    assert outcome.evaluation is None
    assert outcome.messages == (
        "stopped: the run ended although 1 of 1 trials have not",
        "continue with: orchestrate resume small",
    )
    assert "test_read" not in kinds(outcome.run)
    assert kinds(outcome.run)[-1] == "sweep_interrupted"


def test_a_run_that_ends_early_says_where_a_tracker_shows_it_that_came_later(running, monkeypatch):
    tracker = NullTracker()
    tracker.link = lambda: "#/experiments/1" if running.contexts else ""  # away at the start
    monkeypatch.setattr(conduct_module, "_tracker", lambda *_: tracker)
    outcome = conduct(sweep_of(), None, quiet)
    events = read_journal(outcome.run / "journal.jsonl")
    assert events[0]["mlflow"] == ""
    assert events[-1]["mlflow"] == "#/experiments/1"


def test_hints_repeat_where_the_sweep_is_and_runs(running):
    outcome = conduct(sweep_of(UNTRACKED + "storage: else where\n"), "head:6379", quiet)
    hint = "orchestrate resume small --storage 'else where' --address head:6379"
    assert outcome.messages[-1] == f"continue with: {hint}"
    status = CliRunner().invoke(app, ["status", "small", "--storage", "else where"])
    assert hint in status.stdout
    running.trials = lambda context: Stop("budget", "budget.hours used up")
    outcome = conduct(sweep_of(), None, quiet)
    assert outcome.messages[-1] == ("continue with: orchestrate resume small --set budget.hours=H")


def fail(context):
    for trial in context.trials:
        proposal = trial.proposal
        write_json(proposal.folder(context.folder).failure_file, {"reason": "loss is nan"})
        context.journal.append(
            "trial_failed", trial=proposal.trial, cell=proposal.cell, reason="loss is nan"
        )


def test_a_plan_that_was_made_is_not_made_again(running, monkeypatch):
    def never(*_):
        raise AssertionError("planned twice")

    monkeypatch.setattr(conduct_module, "plan", never)
    expected = Forecast(1, (2, 3), (0.5, 1.0), 0.1, "this machine")
    made = SimpleNamespace(done=0, trials=1, forecast=expected)
    run = conduct(sweep_of(), None, quiet, planned=made).run
    noted = load_forecast(read_journal(run / "journal.jsonl"))
    assert noted is not None
    assert replace(noted, hours=expected.hours) == expected
    assert noted.hours == pytest.approx(expected.hours, abs=0.1)


def test_failed_trials_are_tried_again_when_asked(running, monkeypatch):
    expected = []  # trials that were left when it was said what the run is expected to need
    monkeypatch.setattr(
        conduct_module,
        "_forecast",
        lambda context, planned: expected.append(
            sum(not each.ended for each in load_trials(context.folder))
        ),
    )
    running.trials = fail
    outcome = conduct(sweep_of(), None, quiet)
    assert outcome.exit_code == TOO_MANY_FAILED
    assert "orchestrate resume small --retry-failed" in outcome.messages[-1]
    running.trials = lambda context: states.extend(load_trials(context.folder))
    states = []
    conduct(load_folder(outcome.run), None, quiet)
    assert [state.ending for state in states] == ["failed"]
    states = []
    conduct(load_folder(outcome.run), None, quiet, start="retry failed")
    assert [state.ending for state in states] == [None]
    assert expected == [1, 0, 1]


def test_a_full_disk_ends_the_sweep_resumably(running):
    def full(context):
        raise OutOfSpace("runs/small/x", OSError(errno.ENOSPC, "No space left on device"))

    running.trials = full
    outcome = conduct(sweep_of(), None, quiet)
    assert outcome.exit_code == INTERRUPTED
    assert outcome.messages[0] == (
        "stopped: runs/small/x: cannot be written: No space left on device"
    )


def test_a_journal_that_cannot_be_written_does_not_hide_the_error_before_it(running, monkeypatch):
    def end(context):
        def refuse(event, **fields):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(Journal, "append", lambda self, event, **fields: refuse(event))
        raise ValueError("the first")

    closed = []
    tracker = NullTracker()
    tracker.finish_sweep = lambda *told: closed.append(told[0]) or ()
    monkeypatch.setattr(conduct_module, "_tracker", lambda sweep, mark: tracker)
    running.trials = end
    with pytest.raises(ValueError, match="the first"):
        conduct(sweep_of(), None, quiet)
    assert closed == ["failed"]


def test_an_ensemble_made_later_costs_nothing_of_the_budget(running):
    run = conduct(sweep_of(), None, quiet).run
    journal_of(run).append("ensemble_built", ensemble="later")
    path = run / "journal.jsonl"
    path.write_text(path.read_text().replace('{"time": 1', '{"time": 9'))  # centuries
    conduct(sweep_of(), None, quiet)
    assert running.contexts[-1].seconds_left == pytest.approx(7200, abs=60)


@pytest.mark.parametrize("lost", [(), ("end of trial x",)])
def test_checkpoints_that_waited_for_the_tracker_go_at_the_end(monkeypatch, lost):
    """finished() stands for trials that ran; a tracker that lacks something keeps dense ones."""
    run = finished(Path(), SMALL + "retain: {checkpoints: none}\ntracking: {uri: none}\n")
    for proposal in load_proposals(run):
        checkpoint = proposal.folder(run).checkpoint_file
        checkpoint.parent.mkdir()
        checkpoint.write_bytes(b"weights")
    without_ray(monkeypatch)
    monkeypatch.setattr(conduct_module, "write_bundle", lambda *told: None)
    tracker = NullTracker()
    tracker.finish_sweep = lambda *told: lost
    monkeypatch.setattr(conduct_module, "_tracker", lambda sweep, mark: tracker)
    assert conduct(load_folder(run), None, quiet, run=run).exit_code == 0
    left = {
        proposal.axes["sparsity.level"]
        for proposal in load_proposals(run)
        if proposal.folder(run).checkpoint_file.exists()
    }
    assert left == ({0} if lost else set())


# --- what is made and undone


@pytest.mark.parametrize("text", [UNTRACKED, REFUSED])
@pytest.mark.parametrize("name", ["thesis.tex", "dataset.json", "sweep.yaml", "runs/deep/x"])
def test_a_folder_that_no_sweep_made_is_refused_and_left_as_it_is(running, text, name):
    file = Path("runs/small") / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    first = name.partition("/")[0]
    with pytest.raises(UserError, match=rf"runs/small: must be a sweep's folder.*holds {first}"):
        conduct(sweep_of(text), None, quiet)
    assert file.read_text() == "mine"
    assert [path for path in Path("runs").rglob("*") if path.is_file()] == [file]


def test_a_start_that_is_refused_leaves_no_folder():
    with pytest.raises(UserError, match=r"tracking\.uri: must be an MLflow store that answers"):
        conduct(sweep_of(REFUSED), None, quiet)
    assert list(Path("runs").iterdir()) == []


def test_a_tracker_is_opened_once_nothing_can_fail_untold(running, monkeypatch):
    """Whatever was started there would run for ever."""

    def full(*told):
        raise OutOfSpace(Path("journal.jsonl"), OSError(errno.ENOSPC, "No space left on device"))

    opened = []
    monkeypatch.setattr(conduct_module, "warm_up", full)
    monkeypatch.setattr(conduct_module, "_tracker", lambda *told: opened.append(told))
    with pytest.raises(OutOfSpace):
        conduct(sweep_of(), None, quiet)
    assert opened == []
    assert list(Path("runs").iterdir()) == []


def refuse(context):
    raise UserError("resources: one trial must fit on one node")


def start_and_end(context):
    context.begin()
    raise ValueError("later")


@pytest.mark.parametrize(
    ("text", "trials", "kept"),
    [(REFUSED, refuse, True), (CHANGED, refuse, True), (CHANGED, start_and_end, False)],
    ids=["tracking", "resources", "a trial started"],
)
def test_a_refused_run_of_a_sweep_leaves_its_settings_as_they_were(running, text, trials, kept):
    run = conduct(sweep_of(), None, quiet).run
    files = [run / "resolved.json", run / "sweep.yaml"]
    before = [file.read_bytes() for file in files]
    running.trials = trials
    with pytest.raises((UserError, ValueError)):
        conduct(sweep_of(text), None, quiet)
    assert ([file.read_bytes() for file in files] == before) is kept
    running.trials = lambda context: None
    assert conduct(load_folder(run), None, quiet).exit_code == INTERRUPTED


def test_an_empty_folder_may_be_used_and_stays():
    run = Path("runs/small")
    run.mkdir(parents=True)
    (run / ".lock").touch()  # of a start that was killed
    (run / ".resolved.json.0123abcd.partial").touch()
    with pytest.raises(UserError, match=r"tracking\.uri"):
        conduct(sweep_of(REFUSED), None, quiet)
    assert [path.name for path in run.iterdir()] == []  # what a killed write left is removed


def test_what_others_put_there_meanwhile_is_not_undone(running):
    def end(context):
        (context.folder / "notes.txt").write_text("mine")
        raise UserError("no")

    running.trials = end
    with pytest.raises(UserError, match="no"):
        conduct(sweep_of(), None, quiet)
    assert [path.name for path in Path("runs/small").iterdir()] == ["notes.txt"]


def test_a_refusal_keeps_the_folder_of_a_sweep_that_was_there_before(unfinished):
    with pytest.raises(UserError, match=r"tracking\.uri"):
        conduct(sweep_of(REFUSED), None, quiet)
    assert len(load_proposals(unfinished)) == 1


def test_a_storage_that_cannot_be_a_folder_is_one_clear_error():
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"file/small: must be a folder"):
        conduct(sweep_of(TEXT + "storage: file\n"), None, quiet)


# --- a folder, or a store, at another place


def test_a_moved_folder_goes_on_where_it_lies(running):
    run = conduct(sweep_of(), None, quiet).run
    shutil.move("runs", "elsewhere")
    Path("elsewhere/small").rename("elsewhere/renamed")
    moved = Path("elsewhere/renamed")
    outcome = conduct(load_folder(moved), None, quiet, run=moved)
    assert running.contexts[-1].folder == outcome.run == moved
    assert not run.exists()
    assert load_folder(moved).storage == "elsewhere"
    assert load_folder(moved).name == "small"  # by which MLflow knows it


def test_a_store_with_the_same_content_may_be_told(running):
    make_store(Path("nowhere"))
    run = conduct(sweep_of(), None, quiet).run
    names = [proposal.trial for proposal in load_proposals(run)]
    shutil.move("nowhere", "somewhere")
    conduct(load_folder(run, ["data.store=somewhere"]), None, quiet, run=run)
    context = running.contexts[-1]
    assert context.trials[0].config.data.store == "somewhere"
    assert [trial.proposal.trial for trial in context.trials] == names
    make_store(Path("other"), copies=2)
    with pytest.raises(UserError, match=r"data\.store: was 'somewhere', is now 'other'"):
        conduct(load_folder(run, ["data.store=other"]), None, quiet, run=run)


def test_resume_takes_settings_that_may_change(running):
    make_store(Path("nowhere"))
    selected = UNTRACKED.replace("xsub}", "xsub, selection: {kind: protocol}}")
    run = conduct(sweep_of(selected), None, quiet).run
    layout = ["--set", "budget.hours=7", "--set", "resources.cpus=2"]
    CliRunner().invoke(app, ["resume", "small", *layout])
    sweep = load_folder(run)
    assert (sweep.budget.hours, sweep.resources.cpus) == (7, 2)
    refused = CliRunner().invoke(app, ["resume", "small", "--set", "train.lr=0.5"])
    assert str(refused.exception).splitlines() == [
        "runs/small: cannot go on with other trials; undo these changes, or make a sweep of another"
        " name with them (orchestrate sweep FILE --name OTHER --set ...):",
        "  train.lr: was 0.1, is now 0.5",
    ]
    shutil.move("nowhere", "somewhere")
    refused = CliRunner().invoke(app, ["resume", "small"])
    first, *_, last = str(refused.exception).splitlines()
    assert first.startswith("runs/small/resolved.json:1 data.store: nowhere: must be a store")
    assert last == (
        "  (where the store was moved, orchestrate resume small --set data.store=PLACE says its"
        " place)"
    )
    for setting in ("name=other", "storage=other"):
        refused = CliRunner().invoke(app, ["resume", "small", "--set", setting])
        assert "move the folder and name the new place" in str(refused.exception)
    assert folder_of(sweep) == run
