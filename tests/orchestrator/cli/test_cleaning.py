"""The command `clean`: what it refuses, what it says, and that a sweep is whole afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import conduct as conduct_module
from orchestrator.record.folder import held
from orchestrator.record.journal import read_journal
from orchestrator.record.states import load_trials
from tests.orchestrator.fake_run import without_ray
from tests.orchestrator.finished import finished
from tests.orchestrator.record.test_cleaning import UNTRACKED, files, with_checkpoints

pytestmark = pytest.mark.usefixtures("quick_end")

TWO = UNTRACKED + "method: {name: random, trials_per_cell: 2}\n"
TWO = TWO.replace("  sparsity.level", "  train.lr: {min: 0.1, max: 0.2}\n  sparsity.level")


@pytest.fixture
def run(tmp_path) -> Path:
    return with_checkpoints(finished(tmp_path, TWO))


def test_a_dry_run_removes_nothing_and_says_what_would_go(run, orchestrate) -> None:
    before = files(run)
    code, out, err = orchestrate("clean", "small", "--checkpoints", "best_per_cell", "--dry-run")
    assert (code, err) == (0, "")
    assert "small: can go" in out
    assert "checkpoints of finished trials      8  400 bytes" in out
    assert files(run) == before
    code, out, _ = orchestrate("clean", "small", "--dry-run", "--json")
    assert json.loads(out) == {"sweep": "small", "found": [], "freed": None, "notes": []}


def test_what_is_left_is_a_sweep_that_does_all_that_it_did(run, orchestrate, monkeypatch) -> None:
    best = load_trials(run)
    code, out, _ = orchestrate("clean", "small", "--checkpoints", "none", "--json")
    assert code == 0
    assert json.loads(out)["freed"] == 800
    assert load_trials(run) == best
    assert read_journal(run / "journal.jsonl")[-1]["event"] == "space_freed"
    assert orchestrate("clean", "small", "--checkpoints", "none")[1] == (
        "small: there is nothing to give back\n"
    )
    assert not any(each.startswith("checkpoint") for each in files(run))
    without_ray(monkeypatch)
    monkeypatch.setattr(conduct_module, "write_bundle", lambda *told: None)
    assert orchestrate("ensemble", "small")[0] == 0
    assert orchestrate("resume", "small")[0] == 0
    assert "small: finished" in orchestrate("status", "small")[1]
    assert orchestrate("report", "small")[0] == 0
    assert load_trials(run) == best
    orchestrate("clean", "small")
    assert "small: finished" in orchestrate("status", "small")[1]


def test_a_sweep_that_runs_is_refused(run, orchestrate) -> None:
    before = files(run)
    for options in ((), ("--dry-run",), ("--all", "--yes"), ("--all",)):
        with held(run):
            code, _, err = orchestrate("clean", "small", *options)
        assert code == 2
        assert "is being run by process" in err
    assert files(run) - {".lock", ".lease.1", ".lease.2", ".lease.3", ".lease.4"} == before


def test_a_folder_that_is_no_sweep_is_refused(run, orchestrate) -> None:
    (run.parent / "other").mkdir()
    (run.parent / "other" / "checkpoint.pt").touch()
    for options in ((), ("--all", "--yes")):
        code, _, err = orchestrate("clean", "other", *options)
        assert code == 2
        assert "other: must be a sweep in runs/ or a sweep's folder" in err
    assert (run.parent / "other" / "checkpoint.pt").exists()


def test_a_whole_sweep_goes_on_request_alone(run, orchestrate, monkeypatch) -> None:
    before = files(run)
    code, _, err = orchestrate("clean", "small", "--all")
    assert (code, err) == (2, "--all: removes a whole sweep, so it must be confirmed with --yes\n")
    code, _, err = orchestrate("clean", "small", "--all", "--checkpoints", "none")
    assert (code, err.startswith("--checkpoints: has no effect with --all")) == (2, True)
    assert files(run) == before
    code, out, _ = orchestrate("clean", "small", "--all", "--yes")
    assert code == 0
    assert "the whole sweep" in out
    assert not run.exists()


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(run, orchestrate, monkeypatch, answer) -> None:
    asked = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(
        "orchestrator.cli.commands.cleaning.typer.confirm",
        lambda text, err: asked.append(text) or answer,
    )
    code, _, err = orchestrate("clean", "small", "--all")
    assert asked[0].startswith("Remove runs/small with all its results, ")
    assert run.exists() is not answer
    assert (code, "nothing was removed" in err) == ((0, False) if answer else (2, True))
