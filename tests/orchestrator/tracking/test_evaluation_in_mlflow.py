"""What MLflow shows of the final evaluation of a sweep: figures, pictures and ensembles."""

from __future__ import annotations

import json

import pytest

from tests.orchestrator.tracking.mlflow_cases import (
    BOTH,
    evaluated,
    opened,
    runs,
    told,
)

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = [
    pytest.mark.usefixtures("quick_end"),
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
        "ignore:.*multi-threaded, use of fork:DeprecationWarning",
    ),
]


def test_networks_have_a_test_accuracy_and_ensembles_sizes_and_recipe(uri, tmp_path):
    run, evaluation = evaluated(tmp_path, BOTH)
    for _ in range(2):  # the second time as after a crash: nothing is there twice
        tracker = told(opened(uri, "evaluated"), run)
        tracker.log_evaluation(run, evaluation, None)
        assert tracker.finish_sweep("finished", {"final/test_top1": 1.0}, None) == ()
    client, found = runs(uri, "evaluated")
    assert sorted(r.data.tags["kind"] for r in found) == ["ensemble", "sweep", "trial", "trial"]
    rows = {row.name: row for row in evaluation.rows}
    tops = {row.trials[0]: row.test.top1 for row in rows.values() if row.kind == "member"}
    for r in found:
        assert r.info.status == "FINISHED"
        for key in r.data.metrics:
            steps = [(m.step, m.timestamp) for m in client.get_metric_history(r.info.run_id, key)]
            assert len({step for step, _ in steps}) == len(steps), key
        if r.data.tags["kind"] == "trial":
            assert r.data.metrics["test_top1"] == tops[r.data.tags["trial"]]
            assert len(r.data.metrics) <= 20
    ensemble = next(r for r in found if r.data.tags["kind"] == "ensemble")
    size = rows["both"].size
    expected = {
        "test_top1": rows["both"].test.top1,
        "best/selection_top1": 1.0,
        "members": 2,
        "details/nonzero_params": size.nonzero_params,
        "deploy_nonzero_params": size.deploy_nonzero_params,
        "deploy_gmacs": size.deploy_gmacs,
        "deploy_latency_ms": size.latency_ms,
    }
    assert {key: ensemble.data.metrics[key] for key in expected} == pytest.approx(expected)
    assert ensemble.data.tags["stream"] == "joint + bone"
    assert ensemble.data.tags["mlflow.runName"] == "both (ensemble of 2)"
    pictures = [item.path for item in client.list_artifacts(ensemble.info.run_id, "figures")]
    assert pictures == ["figures/confusion.png"]
    assert ensemble.data.params["method"] == "mean"
    assert json.loads(ensemble.data.params["weights"]) == rows["both"].weights
    artifacts = {item.path for item in client.list_artifacts(ensemble.info.run_id)}
    assert {"members.json", "weights.json", "result.json", "scores.parquet"} <= artifacts


@pytest.mark.usefixtures("drawn_pictures")
def test_the_networks_of_the_final_evaluation_have_pictures(uri, tmp_path):
    run, evaluation = evaluated(tmp_path)
    tracker = told(opened(uri, "pictures"), run)
    tracker.log_evaluation(run, evaluation, None)
    assert tracker.finish_sweep("finished", {}, None) == ()
    client, found = runs(uri, "pictures")
    for each in (r for r in found if r.data.tags["kind"] == "trial"):
        pictures = {item.path for item in client.list_artifacts(each.info.run_id, "figures")}
        assert pictures == {"figures/curves.png", "figures/confusion.png", "figures/kept.png"}


def test_an_ensemble_that_was_evaluated_anew_replaces_its_run(uri, tmp_path):
    run, evaluation = evaluated(tmp_path, BOTH)
    for change in ("", " "):
        result = run / "ensembles" / "both" / "result.json"
        result.write_text(result.read_text() + change)
        tracker = told(opened(uri, "anew"), run)
        tracker.log_evaluation(run, evaluation, None)
        tracker.finish_sweep("finished", {}, None)
    _, found = runs(uri, "anew")
    assert [r.data.tags["kind"] for r in found].count("ensemble") == 1
