"""Ensembles that no cheaper one is as good as."""

from __future__ import annotations

import json
import shutil

import pytest

from orchestrator.ensembling import fronts
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.fronts import front, front_point
from orchestrator.ensembling.pools import Pool
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import load_proposals
from orchestrator.report.content import Table
from orchestrator.report.sections.fronts import fronts as fronts_in_words
from orchestrator.report.sections.words import NONE
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import Trial, make_run, make_sweep

pytestmark = pytest.mark.usefixtures("quick_end")

ALL = {"name": "all", "over": ["data.stream", "sparsity.level"]}
TIMES = (10.0, 20.0, 40.0, 5.0)


def pool_of(path, *, kind="protocol", copies=0, latencies=(1.5, 1.5, 1.5, 1.5)) -> Pool:
    """The smaller a network, the more it errs; two errors of the small ones cancel."""
    trials = [
        Trial("joint", 0.0, wrong_selection=(0,), wrong_test=(0,)),
        Trial("bone", 0.0, wrong_selection=(1,), wrong_test=(1,)),
        Trial("joint", 0.6, wrong_selection=(2, 3, 4), wrong_test=(2, 3)),
        Trial("bone", 0.6, wrong_selection=(5, 6, 7)),
    ]
    for trial, latency in zip(trials, latencies, strict=True):
        trial.latency = latency
    run = make_run(path, trials, kind=kind, copies=copies)
    cells = {each.cell: each.axes for each in load_proposals(run)}
    return Pool(collect(run, make_sweep()), cells, {}, (run,))


def test_every_point_is_better_than_all_cheaper_ones(tmp_path):
    pool = pool_of(tmp_path)
    found = front(pool, "nonzero_params")
    costs = [each.cost["nonzero_params"] for each in found]
    right = [front_point(each, "nonzero_params").selection.right for each in found]
    assert costs == sorted(set(costs))
    assert right == sorted(set(right))
    assert costs[0] == 200  # a small network alone
    assert right[-1] == 12
    assert all(each.cost["nonzero_params"] <= each.limits["nonzero_params"] for each in found)
    assert all(front_point(each, "nonzero_params").test is None for each in found)


def test_networks_are_counted(tmp_path):
    found = front(pool_of(tmp_path), "members")
    assert found[0].cost["members"] == 1
    assert len({each.cost["members"] for each in found}) == len(found)


def test_one_network_makes_no_front(tmp_path):
    pool = pool_of(tmp_path)
    assert front(pool.without([*pool.cells][1:]), "nonzero_params") == ()


def test_there_is_no_front_without_figures_or_held_out_clips(tmp_path):
    assert front(pool_of(tmp_path / "held"), "bytes") == ()  # noted of none of them
    assert front(pool_of(tmp_path / "paper", kind="none"), "nonzero_params") == ()


def test_the_final_evaluation_has_the_fronts_and_the_report_shows_them(tmp_path, monkeypatch):
    pool = pool_of(tmp_path)
    (run,) = pool.runs
    found = finalize(run, make_sweep(), pool.members, {})
    points = [point for point in found.fronts if point.measure == "nonzero_params"]
    assert len(points) > 1
    assert all(point.test.clips == 30 for point in points)
    assert {point.measure for point in found.fronts} == {"nonzero_params", "latency_ms"}
    report = write_report(run)
    text = report.read_text()
    assert "## Accuracy against cost" in text
    assert (report.parent / "figures" / "front_nonzero_params.png").is_file()
    lines = (report.parent / "tables" / "fronts.csv").read_text().splitlines()
    assert len(lines) == 1 + len(found.fronts)
    monkeypatch.setattr(fronts, "MOST_MEMBERS", 3)
    again = finalize(run, make_sweep(), pool.members[:3], {})
    assert again.fronts
    monkeypatch.setattr(fronts, "MOST_MEMBERS", 1)
    assert not finalize(run, make_sweep(), pool.members[:2], {}).fronts


def timed_again(run, latencies):
    """The networks of the sweep take so long by now."""
    for proposal, latency in zip(load_proposals(run), latencies, strict=True):
        file = proposal.folder(run).result_file
        record = json.loads(file.read_text())
        record["cost"] |= {"deploy_latency_ms": latency, "deploy_batch64_latency_ms": 20 * latency}
        file.write_text(json.dumps(record))


@pytest.mark.parametrize("rows_only", [False, True])
def test_fronts_and_results_follow_new_latencies_without_reading_labels(tmp_path, rows_only):
    """As if they had been evaluated with these latencies; rows_only: also where nothing but the
    rows was renewed before.
    """
    pool, sweep = pool_of(tmp_path / "old", copies=3), make_sweep(ALL)
    (run,) = pool.runs
    old = finalize(run, sweep, pool.members, {})
    result = run / "ensembles" / "all" / "result.json"
    first = result.read_bytes()
    timed_again(run, TIMES)
    found = finalize(run, sweep, collect(run, sweep), {})
    if rows_only:
        found.model_copy(update={"fronts": old.fronts}).save(run)
        result.write_bytes(first)
        found = finalize(run, sweep, collect(run, sweep), {})
    fresh = pool_of(tmp_path / "new", copies=3, latencies=TIMES)
    expected = finalize(fresh.runs[0], sweep, fresh.members, {})
    assert found.fronts == expected.fronts
    cheapest = next(point for point in found.fronts if point.measure == "latency_ms")
    assert (cheapest.cost, cheapest.weights.keys()) == (5.0, {"bone-0.6"})
    assert (cheapest.test.right, cheapest.clean.right, cheapest.clean.clips) == (30, 27, 27)
    assert FinalEvaluation.load(run) == found
    assert json.loads(result.read_text())["size"]["latency_ms"] == 75.0
    events = [event["event"] for event in read_journal(run / "journal.jsonl")]
    assert events.count("test_read") == 1


def test_a_new_point_says_what_it_can_where_the_store_is_gone(tmp_path):
    """Which clips are copies stands in the store alone."""
    pool, sweep = pool_of(tmp_path, copies=3), make_sweep()
    (run,) = pool.runs
    finalize(run, sweep, pool.members, {})
    shutil.rmtree(tmp_path / "store")
    timed_again(run, TIMES)
    found = finalize(run, sweep, collect(run, sweep), {})
    new, kept, mixed = (each for each in found.fronts if each.measure == "latency_ms")
    assert (new.test.right, new.clean) == (mixed.test.right, mixed.clean) == (30, None)
    assert (kept.test.right, kept.clean.clips) == (29, 27)
    table = [each for each in fronts_in_words(found, {}) if isinstance(each, Table)][-1]
    assert table.rows[0]["test-clean %"] == NONE
