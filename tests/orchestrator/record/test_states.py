"""How a trial ended: its own files have the first word, the journal the second."""

import json
from dataclasses import asdict, replace
from math import inf

import pytest

from orchestrator.record.folder import journal_of
from orchestrator.record.states import (
    begun_epochs,
    load_failures,
    load_trials,
    open_slots,
    saved_epochs,
)
from orchestrator.record.status import load_status
from orchestrator.report.writing import write_report
from orchestrator.sweep import parse_sweep
from tests.orchestrator.fake_run import Trial, result_of
from tests.orchestrator.recorded import recorded
from trainables.contract.disk import write_atomic, write_json

TEXT = "{version: 1, name: small, data: {store: nowhere, protocol: xsub}}"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A sweep of a single trial that has not begun."""
    monkeypatch.chdir(tmp_path)
    return recorded(parse_sweep("small.yaml", TEXT))[0]


def tell(run, event, **fields):
    state = load_trials(run)[0]
    journal_of(run).append(event, trial=state.proposal.trial, cell=state.proposal.cell, **fields)


def write_result(run):
    folder = load_trials(run)[0].proposal.folder(run)
    content = result_of(Trial("joint", 0.0)).model_dump_json()
    write_atomic(folder.result_file, content.encode())
    return folder.result_file


PRUNED = ("trial_pruned", {"epochs": 7})
FAILED = ("trial_failed", {"reason": "the worker died"})


@pytest.mark.parametrize(
    ("events", "status", "ended", "described"),
    [
        ([], "unfinished", False, "unfinished"),
        ([("trial_started", {})], "unfinished", False, "unfinished"),
        ([("trial_interrupted", {})], "unfinished", False, "unfinished"),
        ([FAILED], "failed", True, "failed: the worker died"),
        ([FAILED, ("trial_retried", {})], "unfinished", False, "unfinished"),
        ([PRUNED], "pruned", True, "pruned after 7 epochs"),
        (
            [("trial_discarded", {"reason": "the search moved on"})],
            "discarded",
            True,
            "discarded: the search moved on",
        ),
        # without a result it has not finished: the folder was emptied since
        ([("trial_finished", {})], "unfinished", False, "unfinished"),
    ],
)
def test_a_trial_ends_in_one_of_five_ways(run, events, status, ended, described):
    for event, fields in events:
        tell(run, event, **fields)
    (state,) = load_trials(run)
    assert (state.status, state.ended, state.described) == (status, ended, described)
    assert (state.failure is not None) == (status == "failed")
    assert bool(load_failures(run)) == (status == "failed")
    assert f"| {described} |" in write_report(run).read_text()


def test_an_interrupted_trial_says_so_and_goes_on(run):
    tell(run, "trial_interrupted")
    assert load_trials(run)[0].ending == "interrupted"
    tell(run, "trial_started")
    assert load_trials(run)[0].ending is None


@pytest.mark.parametrize("event", [PRUNED, FAILED, ("trial_interrupted", {})])
def test_a_result_has_the_last_word(run, event):
    tell(run, event[0], **event[1])
    write_result(run)
    assert load_trials(run)[0].ending == "finished"
    assert load_status(run).cells[0].done == 1


def test_a_pruned_trial_is_neither_done_nor_failed_nor_left(run):
    tell(run, *PRUNED[:1], **PRUNED[1])
    status = load_status(run)
    (cell,) = status.cells
    assert (cell.total, cell.done, cell.failed, cell.pruned) == (1, 0, 0, 1)
    assert status.failures == {}
    assert "1 pruned" in write_report(run).read_text()
    assert "Early stopping" not in write_report(run).read_text()  # of how many epochs, is not known


def test_what_early_stopping_saved_is_a_line_of_status_and_report(run):
    (state,) = load_trials(run)
    finished = replace(state, ending="finished", result=result_of(Trial("joint", 0.0)))
    tell(run, "trial_pruned", epochs=7, of=20)
    said = "1 of 2 trials was stopped early, which saved 13 of 23 epochs (57 %)"
    assert saved_epochs([*load_trials(run), finished]) == said
    said = "1 of 1 trial was stopped early, which saved 13 of 20 epochs (65 %)"
    assert load_status(run).to_json()["saved"] == said
    assert f"- **Early stopping**: {said}" in write_report(run).read_text()


def test_restarts_are_counted(run):
    for attempt in (1, 2):
        tell(run, "trial_started")
        tell(run, "trial_restarted", attempt=attempt, of=3, reason="the worker died")
    assert load_trials(run)[0].restarts == 2
    assert load_trials(run)[0].ending is None


def test_a_warning_is_no_word_on_where_a_trial_stands(run):
    tell(run, "trial_interrupted", epochs=7, best_top1=0.5)
    tell(run, "trial_warned", text="a batch of 64 did not fit into memory")
    assert load_trials(run)[0].ending == "interrupted"


def test_a_damaged_result_leaves_the_trial_to_be_completed(run):
    path = write_result(run)
    path.write_bytes(path.read_bytes()[:100])
    path.with_name("metrics.parquet").write_bytes(b"PAR1 and no more")
    assert load_trials(run)[0].ending is None
    assert load_status(run).cells[0].done == 0
    write_report(run)


def test_a_failure_of_its_own_goes_before_the_journal(run):
    tell(run, *FAILED[:1], **FAILED[1])
    folder = load_trials(run)[0].proposal.folder(run)
    write_json(folder.failure_file, {"reason": "train_loss must be finite"})
    assert load_trials(run)[0].reason == "train_loss must be finite"
    folder.failure_file.write_text(json.dumps({"reas": 1}))
    assert "is damaged" in load_trials(run)[0].reason


def test_events_of_the_sweep_and_of_its_proposals_say_nothing_of_a_trial(run):
    tell(run, *FAILED[:1], **FAILED[1])
    state = load_trials(run)[0]
    journal = journal_of(run)
    journal.append("trial_proposed", **asdict(state.proposal))
    journal.append("ensemble_built", name="e")
    journal.append("sweep_finished")
    assert load_trials(run) == (state,)


def test_who_goes_on_from_a_checkpoint(run):
    [state] = load_trials(run)
    assert begun_epochs(run, [state]) == {}
    name, checkpoint = state.proposal.trial, state.proposal.folder(run).checkpoint_file
    write_atomic(checkpoint, b"weights")
    tell(run, "trial_started")
    assert begun_epochs(run, load_trials(run)) == {name: inf}  # its process was killed
    tell(run, "trial_interrupted", epochs=7)
    assert begun_epochs(run, load_trials(run)) == {name: 7}
    tell(run, PRUNED[0], **PRUNED[1])
    assert begun_epochs(run, load_trials(run)) == {}


def test_how_far_an_interrupted_trial_was(run):
    tell(run, "trial_interrupted", epochs=7, best_top1=0.25)
    (state,) = load_trials(run)
    assert (state.stopped_at, state.best_top1, state.restarts) == (7, 0.25, 0)
    assert (state.status, state.described) == ("unfinished", "unfinished")


@pytest.mark.parametrize(
    ("event", "described"),
    [(("trial_pruned", {}), "pruned"), (("trial_discarded", {}), "discarded")],
)
def test_an_ending_without_details(run, event, described):
    tell(run, event[0], **event[1])
    assert load_trials(run)[0].described == described


def test_a_failure_without_a_word_says_that(run):
    tell(run, "trial_failed", reason="")
    assert load_trials(run)[0].described == "failed: no reason given"


def test_open_slots_are_those_that_no_trial_took_and_the_search_still_fills():
    def event(name, **fields):
        return {"event": name, **fields}

    started = event("sweep_started", slots={"a": 3, "b": 2, "c": 1})
    first, second = (event("trial_proposed", cell="a", trial=name) for name in ("t1", "t2"))
    assert open_slots([started, first, first]) == {"a": 2, "b": 2, "c": 1}
    assert open_slots([started, first, event("cell_exhausted", cell="a")]) == {"b": 2, "c": 1}
    # what the sweep's last run wrote down counts
    resumed = event("sweep_resumed", slots={"a": 2})
    assert open_slots([started, first, second, resumed]) == {}
    assert open_slots([first, event("trial_finished", cell="a", trial="t1")]) == {}
    # what else happens takes none
    others = [event("trial_finished", cell="b", trial="t9"), event("sweep_finished")]
    assert open_slots([started, *others]) == {"a": 3, "b": 2, "c": 1}
