"""An evaluation is made once: its files, what makes it again, and what it says of the journal."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.ensembling import final
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import evaluate, finalize
from orchestrator.ensembling.members import SWEEP
from orchestrator.ensembling.pools import Pool
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.report.writing import write_report
from tests.orchestrator.ensembling.test_final import FINAL, LEVELS, complete, grid
from tests.orchestrator.fake_run import (
    SELECTION,
    TEST,
    Trial,
    make_run,
    make_store,
    make_sweep,
    note_digests,
    scores,
)
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores

pytestmark = pytest.mark.usefixtures("quick_end")


def test_files_of_an_ensemble(tmp_path):
    run = make_run(tmp_path, grid())
    complete(run, make_sweep(LEVELS, FINAL))
    folder = run / "ensembles" / "multi_level.joint"
    assert Scores.load(folder / "scores.parquet").labels is None
    assert len(json.loads((folder / "members.json").read_text())["members"]) == 3
    assert set(json.loads((folder / "weights.json").read_text())["weights"]) == {
        "joint-0",
        "joint-0.6",
        "joint-0.95",
    }
    assert json.loads((folder / "result.json").read_text())["test"]["right"] == TEST


def test_test_labels_are_read_once_until_something_changes(tmp_path):
    run, sweep = make_run(tmp_path, grid()), make_sweep(LEVELS)
    first = complete(run, sweep)
    assert complete(run, sweep) == first == FinalEvaluation.load(run)
    events = [event["event"] for event in read_journal(run / "journal.jsonl")]
    assert events.count("test_read") == 1
    assert events.index("ensemble_built") < events.index("test_read")
    complete(run, make_sweep(LEVELS, FINAL))
    assert [event["event"] for event in read_journal(run / "journal.jsonl")].count("test_read") == 2


def test_a_latency_that_takes_part_in_choosing_is_looked_at_again(tmp_path):
    """Where an ensemble must be fast it is chosen again; elsewhere the new figure is noted."""
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.6), Trial("joint", 0.8)])
    greedy = {"name": "fast", "over": "sparsity.level", "method": "greedy"}
    fast, free = make_sweep({**greedy, "budget": {"latency_ms": 4}}), make_sweep(LEVELS)
    before = complete(run, fast).headline
    timed_again(run, 3.0)
    after = complete(run, fast).headline
    assert (before.size.latency_ms, after.size.latency_ms) == (1.5, 3.0)
    timed_again(run, 5.0)
    evaluation = complete(run, fast)
    assert "none of its sources fits into the budget" in evaluation.skipped["fast"]
    complete(run, free)
    timed_again(run, 6.0)
    complete(run, free)
    events = [event["event"] for event in read_journal(run / "journal.jsonl")]
    assert events.count("test_read") == 4


def test_a_sweep_that_chooses_by_latency_is_evaluated_again_after_new_timings(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0)])
    sweep = make_sweep(objectives=[("deploy_latency_ms", "minimize")])
    complete(run, sweep)
    timed_again(run, 3.0)
    complete(run, sweep)
    events = [event["event"] for event in read_journal(run / "journal.jsonl")]
    assert events.count("test_read") == 2


def timed_again(run, milliseconds):
    """All networks of the sweep take so long by now."""
    for proposal in load_proposals(run):
        file = proposal.folder(run).result_file
        result = json.loads(file.read_text())
        result["cost"]["deploy_latency_ms"] = milliseconds
        file.write_text(json.dumps(result))


def test_a_trial_that_was_trained_again_is_evaluated_again(tmp_path):
    run, sweep = (
        make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.0, seed=1)]),
        make_sweep(),
    )
    assert complete(run, sweep).rows[0].seeds.test_mean == 1.0
    second = next(each for each in load_proposals(run) if each.seed == 1)
    scores("c", TEST, (0, 1, 2), labelled=False).save(second.folder(run).test_scores)
    note_digests(second.folder(run))
    assert complete(run, sweep).rows[0].seeds.test_mean == pytest.approx(1 - 1.5 / TEST)


def test_a_store_with_another_content_is_evaluated_again_and_it_is_noted(tmp_path):
    run, sweep = make_run(tmp_path, grid()), make_sweep(LEVELS)
    info = tmp_path / "store" / "dataset.json"
    for folder in (proposal.folder(run) for proposal in load_proposals(run)):
        result = folder.load()
        noted = json.loads(info.read_text())["checksums"]
        folder.result_file.write_text(
            result.model_copy(update={"store_checksums": noted}).model_dump_json()
        )
    first = complete(run, sweep)
    assert first.splits[0].same_store
    shutil.rmtree(tmp_path / "store")
    assert complete(run, sweep) == first  # nothing to compare with
    make_store(tmp_path / "store", copies=3)
    second = complete(run, sweep)
    assert second.splits[0].clean_clips == TEST - 3
    assert second.splits[0].same_store is False
    assert "**The store has changed** since" in write_report(run).read_text()
    assert complete(run, sweep) == second
    assert [event["event"] for event in read_journal(run / "journal.jsonl")].count("test_read") == 2


def test_lost_files_of_ensembles_are_written_again_without_a_look_at_the_labels(tmp_path):
    run, sweep = make_run(tmp_path, grid()), make_sweep(LEVELS, FINAL)
    first = complete(run, sweep)
    folder = run / "ensembles"
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    shutil.rmtree(folder / "final")
    (folder / "multi_level.joint" / "result.json").unlink()
    assert complete(run, sweep) == first
    assert {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()} == before
    assert [event["event"] for event in read_journal(run / "journal.jsonl")].count("test_read") == 1


def test_another_reason_of_a_missing_cell_is_noted_without_another_look_at_the_labels(tmp_path):
    run, sweep = make_run(tmp_path, grid(bone_06="unfinished")), make_sweep(LEVELS)
    first = complete(run, sweep)
    assert "not finished" in first.missing["bone-0.6"]
    Journal(run / "journal.jsonl").append(
        "trial_failed", trial=first.missing["bone-0.6"].split()[0], reason="the worker died"
    )
    second = complete(run, sweep)
    assert "the worker died" in second.missing["bone-0.6"]
    assert second.rows == first.rows
    assert FinalEvaluation.load(run) == second
    assert [event["event"] for event in read_journal(run / "journal.jsonl")].count("test_read") == 1


def test_without_members_nothing_is_read(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0, state="failed")])
    found = complete(run, make_sweep(LEVELS))
    assert found.rows == ()
    assert "loss is nan" in found.missing["joint-0"]
    assert read_journal(run / "journal.jsonl") == []


def purposes(run):
    """What the test labels were read for, one by one."""
    return [event["purpose"] for event in read_journal(run / "journal.jsonl") if "purpose" in event]


def test_the_papers_way_of_choosing_is_found_where_it_is_asked_for(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.0), Trial("joint", 0.0, lr=0.2)])
    sweep, members = make_sweep(), collect(run, make_sweep())
    assert finalize(run, sweep, members, {}).paper_style == ()
    assert FinalEvaluation.load(run).paper_style == ()
    assert finalize(run, sweep, members, {}, paper_style=True).paper_style
    assert finalize(run, sweep, members, {}).paper_style == ()  # it stays in the file
    assert FinalEvaluation.load(run).paper_style
    assert finalize(run, sweep, members, {}, paper_style=True).paper_style
    assert purposes(run) == ["final evaluation", "final evaluation, paper style"]


def test_every_sweep_of_a_pool_notes_that_its_labels_were_read(tmp_path, monkeypatch):
    first = make_run(tmp_path, [Trial("joint", 0.0)]).rename(tmp_path / "first")
    runs, sweep = (first, make_run(tmp_path, [Trial("bone", 0.0)])), make_sweep()
    members = tuple(
        replace(member, axes={SWEEP: run.name, **member.axes})
        for run in runs
        for member in collect(run, sweep)
    )
    cells = {member.cell: member.axes for member in members}
    out = tmp_path / "out"
    for module in ("final", "whole_choice"):
        monkeypatch.setattr(f"orchestrator.ensembling.{module}.load_folder", lambda run: sweep)
    found = evaluate(out, sweep, Pool(members, cells, {}, runs), "an ensemble")
    assert [row.name for row in found.rows] == ["joint-0", "bone-0"]
    assert found.fronts == ()  # they are of one sweep's own trials
    assert [purposes(folder) for folder in (out, *runs)] == [["an ensemble"]] * 3


def test_a_cell_that_has_no_member_any_more_is_another_evaluation(tmp_path):
    run, sweep = make_run(tmp_path, grid()), make_sweep(LEVELS)
    members = collect(run, sweep)
    finalize(run, sweep, members, {})
    found = finalize(run, sweep, members, {"bone-0.7": "failed"})
    assert found.missing == {"bone-0.7": "failed"}
    assert len(purposes(run)) == 2


@pytest.mark.parametrize("relative", [False, True])
def test_a_store_that_was_moved_is_said_with_what_helps(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    run = make_run(Path() if relative else tmp_path, grid())
    members = collect(run, make_sweep(LEVELS))
    shutil.move("store", "elsewhere")
    with pytest.raises(UserError) as caught:
        finalize(run, make_sweep(LEVELS), members, {})
    [said] = caught.value.problems
    assert "; where it was moved, `orchestrate resume run " in said
    assert "--set data.store=PLACE" in said
    assert said.endswith(
        "` says its place, or run this where store leads to it" if relative else "` says its place"
    )


def test_the_splits_of_an_evaluation_say_how_many_clips_and_classes(tmp_path):
    (split,) = complete(make_run(tmp_path, grid(), copies=2), make_sweep()).splits
    assert (split.classes, split.selection_clips, split.test_clips) == (3, SELECTION, TEST)
    assert (split.clean_clips, split.clean_classes, split.same_store) == (TEST - 2, 3, None)
    again = make_run(tmp_path / "none", grid(), kind="none")
    assert complete(again, make_sweep()).splits[0].selection_clips == 0


def test_new_latencies_are_noted_of_networks_and_of_ensembles(tmp_path):
    run, sweep = make_run(tmp_path, grid()), make_sweep(LEVELS)
    before = {row.name: row.size.latency_ms for row in complete(run, sweep).rows}
    timed_again(run, 7.0)
    after = {row.name: row.size.latency_ms for row in complete(run, sweep).rows}
    assert before["joint-0"] == 1.5
    assert after["joint-0"] == 7.0
    assert after["multi_level.joint"] == 3 * 7.0
    assert len(purposes(run)) == 1


def test_an_evaluation_whose_files_are_there_builds_nothing_again(tmp_path, monkeypatch):
    run, sweep = make_run(tmp_path, grid()), make_sweep(LEVELS, FINAL)
    first = complete(run, sweep)
    monkeypatch.setattr(final, "build_ensembles", lambda *_: pytest.fail("it built them again"))
    assert complete(run, sweep) == first
