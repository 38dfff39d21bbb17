"""`orchestrate extend`, without Ray: what is run, what is made anew, what is refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import conduct as conduct_module
from orchestrator.record.folder import held
from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.record.states import load_trials
from orchestrator.record.status import load_status
from orchestrator.record.stop_requests import Stop
from tests.orchestrator import fake_run
from tests.orchestrator.finished import finished
from tests.orchestrator.in_process import run_captured
from tests.orchestrator.sweep_files import SMALL
from trainables.contract.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_end")

TEXT = SMALL + "tracking: {uri: none}\nresources: {gpus: 0}\n"
RANDOM = TEXT.replace("model:", "  train.lr: {min: 0.05, max: 0.1}\nmodel:") + (
    "method: {name: random, trials_per_cell: 2}\n"
)


def complete(context):
    """Every trial that has not ended ends with a result."""
    for number, state in enumerate(load_trials(context.folder)):
        if state.ended:
            continue
        trial = next(each for each in context.trials if each.proposal.trial == state.proposal.trial)
        context.journal.append("trial_started", trial=trial.proposal.trial)
        made = fake_run.Trial(
            stream=str(trial.config.data.stream),
            level=float(trial.config.sparsity.level),
            wrong_selection=(0, number % fake_run.SELECTION),
            wrong_test=(0,),
        )
        made.name = trial.proposal.trial
        fake_run._write_trial(
            trial.proposal.folder(context.folder), trial.config, made, held_out=True
        )


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """What stands for Ray: replace `stage.trials` to say what a run of the trials does."""
    monkeypatch.chdir(tmp_path)
    stage = SimpleNamespace(trials=complete, contexts=[])

    def run_trials(context):
        stage.contexts.append(context)
        return stage.trials(context)

    fake_run.without_ray(monkeypatch, run_trials)
    monkeypatch.setattr(conduct_module, "write_bundle", lambda *told: None)
    monkeypatch.setattr("orchestrator.planning.check._check_graphs", lambda *told: [])
    monkeypatch.setattr("orchestrator.planning.check._check_layout", lambda *told: [])
    return stage


def made(text):
    """A finished sweep in runs/small."""
    return finished(Path(), text)


def kinds(run):
    return [event["event"] for event in read_journal(run / "journal.jsonl")]


def results(run):
    return {path: path.stat().st_mtime_ns for path in run.glob("trials/*/result.json")}


def test_a_finished_sweep_goes_on_and_repeats_nothing(stage, capsys):
    run = made(RANDOM)
    before, proposals = results(run), load_proposals(run)
    assert len(before) == 8
    code, out, said = run_captured(capsys, "extend", "small", "--trials", "1")
    assert code == 0, said
    assert "Final scores" in out
    assert "extended  small: method.trials_per_cell: was 2, is now 3" in said
    after = results(run)
    assert len(after) == 12
    assert {path: after[path] for path in before} == before
    assert load_proposals(run)[:8] == proposals
    started = [e["trial"] for e in read_journal(run / "journal.jsonl") if "started" in e["event"]]
    assert len(started) == len(set(started)) == 4
    assert {e.trial for e in proposals}.isdisjoint(started)
    assert kinds(run).count("test_read") == 1
    assert load_status(run).state == "finished"
    assert (run / "report" / "report.md").is_file()


def test_an_extension_that_is_interrupted_goes_on_with_resume_and_with_its_file(stage, capsys):
    run = made(RANDOM)
    Path("small.yaml").write_text((run / "sweep.yaml").read_text())
    stage.trials = lambda context: Stop("person", "received SIGINT")
    code, _, said = run_captured(capsys, "extend", "small", "--trials", "1")
    assert code == 130
    assert "continue with: orchestrate resume small" in said
    assert load_status(run).state == "not running"
    changes = [f"data.store={Path('store')}", "data.selection={kind: protocol}", "storage=runs"]
    options = [part for change in changes for part in ("--set", change)]
    code, _, said = run_captured(capsys, "sweep", "small.yaml", *options)
    assert code == 130
    assert "small was extended since: method.trials_per_cell: was 2, is now 3" in said
    stage.trials = complete
    code, *_ = run_captured(capsys, "resume", "small")
    assert code == 0
    assert len(results(run)) == 12
    assert kinds(run).count("sweep_extended") == 1
    later = "trials were added after the first time, when test figures could be known"
    assert later not in (run / "report" / "report.md").read_text()
    code, *_ = run_captured(capsys, "extend", "small", "--trials", "2")
    assert code == 0
    assert f"; 8 {later}" in (run / "report" / "report.md").read_text()
    assert len(results(run)) == 20
    assert kinds(run).count("sweep_extended") == 2


def test_a_search_that_asks_gets_more_slots(stage, capsys):
    run = made(RANDOM.replace("name: random", "name: qmc"))
    stage.trials = lambda context: Stop("person", "received SIGINT")
    code, _, said = run_captured(capsys, "extend", "small", "--trials", "3")
    assert code == 130, said
    [context] = stage.contexts
    assert set(context.slots.values()) == {5}
    assert [trial.proposal for trial in context.trials] == list(load_proposals(run))
    assert sum(cell.total for cell in load_status(run).cells) == 20
    assert load_status(run).state == "not running"


def test_a_grid_gets_more_cells_and_ensembles_of_them(stage, capsys):
    run = made(TEXT)
    change = "parameters.sparsity.level.values=[0, 0.8, 0.9]"
    code, out, said = run_captured(capsys, "extend", "small", "--set", change)
    assert code == 0, said
    assert len(results(run)) == 6
    assert "0.9" in out
    assert len(stage.contexts) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("small", "--trials", "0"),
            "Invalid value for '--trials': Input should be greater",
        ),
        (("other", "--trials", "1"), "other: must be a sweep in runs/ or a sweep's folder"),
        (("small",), "nothing would be added"),
        (("small", "--set", "train.lr=0.7"), "  train.lr: was 0.1, is now 0.7"),
        (
            ("small", "--set", "parameters.sparsity.level.values=[0]"),
            "  parameters.sparsity.level.values: was [0.0, 0.8], is now [0.0]",
        ),
        (("small", "--trials", "1"), "--trials: small has tried every combination (method grid)"),
        (
            ("small", "--set", "parameters.sparsity.level.values=[0, 0.8, 2]"),
            "must be less than 1",
        ),
    ],
)
def test_what_cannot_be_is_one_error_and_changes_nothing(stage, capsys, arguments, said):
    run = made(TEXT)
    before = {path: path.read_bytes() for path in run.glob("[a-z]*.*")}
    assert len(before) == 3
    code, _, errors = run_captured(capsys, "extend", *arguments)
    assert code == 2
    assert said in errors
    assert {path: path.read_bytes() for path in run.glob("[a-z]*.*")} == before
    assert stage.contexts == []


def test_a_running_sweep_cannot_be_extended(stage, capsys):
    run = made(RANDOM)
    with held(run):
        code, _, errors = run_captured(capsys, "extend", "small", "--trials", "1")
    assert code == 2
    assert "is being run by" in errors


def test_an_extension_is_within_the_budget(stage, capsys):
    made(RANDOM + "budget: {trials: 9}\n")
    code, _, errors = run_captured(capsys, "extend", "small", "--trials", "1")
    assert code == 2
    assert "budget.trials" in errors
    code, *_ = run_captured(capsys, "extend", "small", "--trials", "1", "--set", "budget.trials=12")
    assert code == 0


def refused(context):
    raise UserError("resources: no node can hold a trial")


@pytest.mark.parametrize("text", [RANDOM, RANDOM.replace("name: random", "name: qmc")])
def test_an_extension_that_is_refused_when_its_trials_should_start_is_none(stage, capsys, text):
    run = made(text)
    before = {path: path.read_bytes() for path in run.glob("[a-z]*.*")}
    stage.trials = refused
    for _ in range(2):
        code, _, errors = run_captured(capsys, "extend", "small", "--trials", "1")
        assert code == 2
        assert "no node can hold a trial" in errors
        assert {path: path.read_bytes() for path in run.glob("[a-z]*.*")} == before


def test_an_extension_whose_trials_have_begun_stays_when_it_fails(stage, capsys):
    def begin(context):
        context.begin()
        refused(context)

    run, stage.trials = made(RANDOM), begin
    code, *_ = run_captured(capsys, "extend", "small", "--trials", "1")
    assert code == 2
    assert kinds(run).count("sweep_extended") == 1
    assert len(load_proposals(run)) == 12
