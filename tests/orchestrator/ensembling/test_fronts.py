"""Ensembles that no cheaper one is as good as."""

from __future__ import annotations

import pytest

from orchestrator.ensembling import fronts
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.fronts import front, front_point
from orchestrator.ensembling.pools import Pool
from orchestrator.record.proposals import load_proposals
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import Trial, make_run, make_sweep

pytestmark = pytest.mark.usefixtures("quick_end")


def pool_of(path, *, kind="protocol", latency=1.5) -> Pool:
    """The smaller a network, the more it errs; two errors of the small ones cancel."""
    run = make_run(
        path,
        [
            Trial("joint", 0.0, wrong_selection=(0,), wrong_test=(0,), latency=latency),
            Trial("bone", 0.0, wrong_selection=(1,), wrong_test=(1,), latency=latency),
            Trial("joint", 0.6, wrong_selection=(2, 3, 4), wrong_test=(2, 3), latency=latency),
            Trial("bone", 0.6, wrong_selection=(5, 6, 7), latency=latency),
        ],
        kind=kind,
    )
    cells = {each.cell: each.axes for each in load_proposals(run)}
    return Pool(collect(run, make_sweep()), cells, {}, (run,))


def test_every_point_is_better_than_all_cheaper_ones(tmp_path):
    pool = pool_of(tmp_path)
    found = front(pool, "nonzero_params")
    costs = [each.cost["nonzero_params"] for each in found]
    right = [front_point(each, "nonzero_params", None).selection.right for each in found]
    assert costs == sorted(set(costs))
    assert right == sorted(set(right))
    assert costs[0] == 200  # a small network alone
    assert right[-1] == 12
    assert all(each.cost["nonzero_params"] <= each.limits["nonzero_params"] for each in found)
    assert all(front_point(each, "nonzero_params", None).test is None for each in found)


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
