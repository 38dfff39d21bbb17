"""The list of a sweep's trials: what is written down, and what cannot be believed."""

from __future__ import annotations

import shutil

import pytest

from orchestrator.record.proposals import load_proposals
from orchestrator.record.status import load_statuses
from tests.orchestrator.finished import finished
from tests.orchestrator.in_process import run_captured
from tests.orchestrator.sweep_files import SMALL
from trainables.contract.errors import UserError


def cut(journal):
    """Its first two lines, and half of the third."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join((*lines[:2], lines[2][:40])))


@pytest.fixture
def run(tmp_path):
    return finished(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda journal: journal.write_bytes(b""),
        lambda journal: journal.unlink(),
        lambda journal: journal.write_bytes(b"SQLite format 3\0" + bytes(100)),
        cut,
    ],
    ids=["emptied", "gone", "another file", "cut"],
)
@pytest.mark.parametrize("command", ["status", "resume", "report", "ensemble"])
def test_a_journal_that_does_not_know_the_trials_is_refused(
    run, change, command, monkeypatch, capsys
):
    change(run / "journal.jsonl")
    monkeypatch.chdir(run.parents[1])
    code, _, said = run_captured(capsys, command, "small")
    assert code == 2
    (line,) = [line for line in said.splitlines() if "does not know" in line]
    assert "journal.jsonl: does not know " in line
    assert "put the sweep's own journal back" in line


def test_the_journal_of_another_sweep_is_refused_and_the_others_are_shown(run, tmp_path):
    other = finished(tmp_path, SMALL.replace("name: small", "name: other").replace("0.8", "0.7"))
    shutil.copy(other / "journal.jsonl", run / "journal.jsonl")
    with pytest.raises(UserError, match=r"small/journal\.jsonl: does not know \d+ trials? of"):
        load_proposals(run)
    states = {status.name: status.state for status in load_statuses(str(run.parent))}
    assert states.keys() == {"other", "small"}
    assert states["small"] == "damaged" != states["other"]


def test_folders_beside_the_trials_are_nobodys_business(run):
    known = load_proposals(run)
    (run / "trials" / "notes").mkdir()
    (run / "trials" / "read.me").write_text("mine")
    assert load_proposals(run) == known
