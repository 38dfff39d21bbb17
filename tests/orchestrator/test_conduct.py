from pathlib import Path

import pytest

from orchestrator.conduct import _seconds_left, conclude, conduct
from orchestrator.record.folder import held, journal_of
from orchestrator.record.journal import read_journal
from orchestrator.sweep import parse_sweep
from tests.orchestrator.recorded import recorded
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
budget: {hours: 2}
"""


def event(kind, time):
    return {"event": kind, "time": time}


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([], 7200),
        ([event("sweep_started", 100), event("trial_finished", 1100)], 6200),
        (
            [
                event("sweep_started", 0),
                event("trial_started", 600),
                event("sweep_resumed", 9000),
                event("sweep_interrupted", 9400),
            ],
            6200,
        ),
        ([event("sweep_started", 0), event("sweep_interrupted", 8000)], 0),
    ],
)
def test_the_time_budget_is_of_all_runs_together_and_pauses_do_not_count(events, left):
    assert _seconds_left(parse_sweep("small.yaml", TEXT), events) == left


def test_no_budget_is_no_limit():
    assert (
        _seconds_left(parse_sweep("small.yaml", TEXT.replace("budget: {hours: 2}", "")), []) is None
    )


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", TEXT)
    return recorded(sweep)[0]


def test_the_test_split_is_not_opened_before_every_trial_has_ended(unfinished):
    with pytest.raises(UserError, match=r"1 trials have not ended .* --partial"):
        conclude(unfinished, partial=False)
    assert not any(
        event["event"] == "test_read" for event in read_journal(journal_of(unfinished).path)
    )
    assert not (unfinished / "evaluation.json").exists()


def test_nothing_is_concluded_beside_a_running_sweep(unfinished):
    with held(unfinished), pytest.raises(UserError, match="is being run by another process"):
        conclude(unfinished, partial=True)


def test_a_sweep_refused_before_its_first_trial_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = parse_sweep("small.yaml", TEXT + "tracking: {uri: 'ftp://nobody'}\n")
    with pytest.raises(UserError, match=r"tracking\.uri: must be an MLflow store that answers"):
        conduct(sweep, None, lambda _: None)
    assert list(Path("runs").iterdir()) == []


def test_a_refusal_keeps_the_folder_of_a_sweep_that_had_begun(unfinished):
    journal_of(unfinished).append("trial_started", trial="t", cell="c")
    sweep = parse_sweep("small.yaml", TEXT + "tracking: {uri: 'ftp://nobody'}\n")
    with pytest.raises(UserError, match=r"tracking\.uri"):
        conduct(sweep, None, lambda _: None)
    assert (unfinished / "resolved.json").is_file()


def test_a_storage_that_cannot_be_a_folder_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"file/small: must be a folder that can be written to"):
        conduct(parse_sweep("small.yaml", TEXT + "storage: file\n"), None, lambda _: None)
