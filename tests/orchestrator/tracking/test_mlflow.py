"""What MLflow shows of a sweep, on a real database: one parent, each trial once, nothing lost when
a sweep goes on after a crash.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from orchestrator.tracking import mlflow
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.pages import NOTE
from orchestrator.tracking.tracker import NullTracker, Tracker
from tests.orchestrator.tracking.mlflow_cases import (
    BOTH,
    LATENCY,
    epochs,
    evaluated,
    opened,
    runs,
    start,
    told,
)
from tests.waiting import until

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = [
    pytest.mark.usefixtures("quick_end"),
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
        "ignore:.*multi-threaded, use of fork:DeprecationWarning",
    ),
]


def test_a_sweep_with_a_finished_a_failed_and_an_interrupted_trial(uri, trials, tmp_path):
    tracker = opened(uri, "whole")
    for folder in trials.values():
        start(tracker, folder)
        epochs(tracker, folder, range(3))
    done, failed, cut = trials.values()
    tracker.finish_trial(done.path.name, done, "finished")
    tracker.finish_trial(failed.path.name, failed, "failed", "loss is nan")
    tracker.finish_trial(cut.path.name, cut, "interrupted")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# Sweep")
    assert tracker.finish_sweep("finished", {"final/test_top1": 0.9}, tmp_path / "report") == ()

    client, found = runs(uri, "whole")
    parent = next(run for run in found if run.data.tags["kind"] == "sweep")
    children = {run.data.tags["trial"]: run for run in found if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {
        parent.info.run_id
    }
    assert {name: run.info.status for name, run in children.items()} == {
        done.path.name: "FINISHED",
        failed.path.name: "FAILED",
        cut.path.name: "KILLED",
    }
    assert parent.data.params == {"train.epochs": "3"}
    assert parent.data.metrics == {"final/test_top1": 0.9}
    assert parent.data.tags["mlflow.note.content"].startswith("**Sweep s**: [charts](#/exp")
    assert [item.path for item in client.list_artifacts(parent.info.run_id, "report")] == [
        "report/report.md"
    ]

    trial = children[done.path.name]
    expected = {
        "cell": "cell",
        "backbone": "hpi_gcn_rp",
        "stream": "joint",
        "sparsity": "0.6",
        "stage": "train",
        "mlflow.runName": "cell, lr 0.1",
    }
    assert {key: trial.data.tags[key] for key in expected} == expected
    assert trial.data.params["train.epochs"] == "3"
    assert trial.data.metrics["best/selection_top1"] == pytest.approx(11 / 12)
    assert trial.data.metrics["deploy_nonzero_params"] == 200
    assert (
        trial.data.metrics["details/deploy_batch64_latency_ms"],
        trial.data.metrics["details/deploy_peak_mb"],
    ) == (30, 3.6)
    assert len(trial.data.metrics) <= 20
    assert [
        metric.step for metric in client.get_metric_history(trial.info.run_id, "train_loss")
    ] == [1, 2, 3]
    assert trial.data.metrics["best/epoch"] == 3  # people count from 1: kept_epoch is 2
    kept = {item.path for item in client.list_artifacts(trial.info.run_id)}
    assert {
        "config.json",
        "deploy.pt",
        "scores.selection.parquet",
        "scores.test.parquet",
        "sparsity.json",
        "result.json",
    } <= kept
    assert children[failed.path.name].data.tags["reason"] == "loss is nan"

    assert tracker.delivered(done.path.name)
    again = opened(uri, "whole")
    assert not again.delivered(done.path.name)  # nobody was asked
    ends = zip(trials.values(), ("finished", "failed", "finished"), strict=True)
    assert [again.knows_end(each.path.name, end) for each, end in ends] == [True, True, False]
    assert [again.delivered(folder.path.name) for folder in trials.values()] == [True, True, False]
    again.finish_sweep("finished", {}, None)


def test_a_pruned_trial_is_killed_and_says_where_it_stopped(uri, trials):
    folder, cut = trials["bone-0.6"], trials["joint-0.6"]
    tracker = opened(uri, "pruned")
    for each in (folder, cut):
        start(tracker, each)
        epochs(tracker, each, range(2))
    tracker.finish_trial(folder.path.name, folder, "pruned", "", 2)
    tracker.finish_trial(cut.path.name, cut, "interrupted")
    assert tracker.finish_sweep("interrupted", {}, None) == ()
    client, found = runs(uri, "pruned")
    run = next(run for run in found if run.data.tags.get("trial") == folder.path.name)
    assert (run.info.status, run.data.tags["stopped_at"]) == ("KILLED", "2")
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2  # keeps its curve
    again = opened(uri, "pruned")
    assert again.knows_end(folder.path.name, "pruned")
    assert not again.knows_end(cut.path.name, "pruned")
    again.finish_sweep("interrupted", {}, None)


def test_a_sweep_that_goes_on_shows_each_trial_once_with_each_epoch_once(uri, trials):
    folder, orphan = trials["joint-0.6"], trials["bone-0.6"]
    first = opened(uri, "resumed")
    start(first, folder)
    start(first, orphan)
    epochs(first, folder, [0, 1])
    first._outbox.close(10.0)  # what was told has arrived; then the driver is killed

    second = opened(uri, "resumed")
    start(second, folder)
    epochs(second, folder, [1, 2])  # epoch 1 is trained again: it was after the last checkpoint
    second.finish_trial(folder.path.name, folder, "finished")
    assert second.finish_sweep("finished", {}, None) == ()

    client, found = runs(uri, "resumed")
    assert sorted(run.data.tags["kind"] for run in found) == ["sweep", "trial", "trial"]
    by_trial = {run.data.tags.get("trial"): run for run in found}
    assert by_trial[folder.path.name].info.status == "FINISHED"
    assert by_trial[orphan.path.name].info.status == "KILLED"
    history = client.get_metric_history(by_trial[folder.path.name].info.run_id, "train_loss")
    assert [metric.step for metric in history] == [1, 2, 3]


def test_a_failed_trial_that_is_tried_again_loses_its_reason(uri, trials):
    folder = trials["joint-0.6"]
    for status, reason in (("failed", "loss is nan"), ("finished", "")):
        tracker = opened(uri, "again")
        start(tracker, folder)
        tracker.finish_trial(folder.path.name, folder, status, reason)
        tracker.finish_sweep("finished", {}, None)
    (run,) = (r for r in runs(uri, "again")[1] if r.data.tags["kind"] == "trial")
    assert (run.info.status, run.data.tags.get("reason")) == ("FINISHED", None)


def test_the_end_of_a_trial_that_is_tried_again_is_not_delivered_by_its_earlier_end(uri, trials):
    folder = trials["joint-0.6"]
    first = opened(uri, "tried again")
    start(first, folder)
    first.finish_trial(folder.path.name, folder, "failed", "loss is nan")
    first.finish_sweep("failed", {}, None)
    second = opened(uri, "tried again")
    assert second.knows_end(folder.path.name, "failed")
    # it was tried again in a run whose driver died before that was told
    assert not second.knows_end(folder.path.name, "finished")
    assert second.delivered(folder.path.name)
    start(second, folder)
    assert not second.delivered(folder.path.name)
    second.finish_trial(folder.path.name, folder, "finished")
    second.finish_sweep("finished", {}, None)
    assert second.delivered(folder.path.name)


def test_another_sweep_of_the_same_name_gets_its_own_run(uri):
    for digest in ("abc", "abd", "abc"):
        tracker = MLflowTracker(uri, "names")
        tracker.start_sweep("s", {}, {"digest": digest})
        tracker.finish_sweep("finished", {}, None)
    assert sorted(run.data.tags["digest"] for run in runs(uri, "names")[1]) == ["abc", "abd"]


def test_many_epochs_and_many_params_fit_the_limits_of_a_call(uri, trials):
    folder = trials["joint-0.6"]
    tracker = MLflowTracker(uri, "many")
    tracker.start_sweep("s", {f"p{i}": i for i in range(150)}, {})
    start(tracker, folder)
    epochs(tracker, folder, range(700))
    assert tracker.finish_sweep("finished", {}, None) == ()
    client, found = runs(uri, "many")
    by_kind = {run.data.tags["kind"]: run for run in found}
    assert len(by_kind["sweep"].data.params) == 150
    assert len(client.get_metric_history(by_kind["trial"].info.run_id, "lr")) == 700


def test_both_trackers_keep_the_protocol(uri, trials, tmp_path):
    run, evaluation = evaluated(tmp_path)
    trackers: list[Tracker] = [NullTracker(), MLflowTracker(uri, "protocol")]
    folder = trials["joint-0.6"]
    for tracker in trackers:
        tracker.start_sweep("s", {}, {})
        tracker.start_trial(folder.path.name, "cell", folder.load_config(), {}, {})
        tracker.log_epoch(folder.path.name, 0, {"lr": 0.1})
        tracker.finish_trial(folder.path.name, folder, "finished")
        told(tracker, run).log_evaluation(run, evaluation, None)
        assert tracker.finish_sweep("finished", {}, None) == ()
        assert tracker.finish_sweep("finished", {}, None) == ()
    assert json.loads(folder.result_file.read_text())["epochs"] == 3


def asked_by(tracker):
    """Counts what the tracker asks of MLflow from now on."""
    asked, client = Counter(), tracker._client._client

    class Counted:
        def __getattr__(self, name):
            asked[name] += 1
            return getattr(client, name)

    tracker._client._client = Counted()
    return asked


def test_a_trial_of_a_new_sweep_takes_few_calls_however_many_epochs(uri, trials):
    folder = trials["joint-0.6"]
    tracker = opened(uri, "calls")
    asked = asked_by(tracker)
    start(tracker, folder)
    epochs(tracker, folder, range(50))
    start(tracker, folder)  # its worker died: another goes on
    tracker.finish_trial(folder.path.name, folder, "finished")
    tracker.log_latency(folder.path.name, LATENCY)
    tracker._outbox.close(10.0)
    assert asked.pop("log_artifacts") == 1
    # of the sweep, once: its view, the kind and the note of its experiment
    once = {name: asked.pop(name, 0) for name in ("get_experiment", "set_experiment_tag")}
    assert once == {"get_experiment": 1, "set_experiment_tag": 3}
    assert asked.pop("get_run", 0) == 1  # whether somebody has described the sweep
    # two of log_batch and one of the sweep's description
    assert asked.keys() == {"create_run", "log_batch", "set_terminated"}
    assert asked.total() <= 5
    client, found = runs(uri, "calls")
    (run,) = (r for r in found if r.data.tags["kind"] == "trial")
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 50
    assert run.data.metrics["deploy_latency_ms"] == LATENCY.deploy_latency_ms
    assert run.data.params["train.epochs"] == "3"


def test_the_run_of_a_short_trial_is_opened_with_its_end_and_begins_when_it_did(
    uri, trials, monkeypatch
):
    now = SimpleNamespace(time=lambda: 1000.0, monotonic=lambda: 0.0)
    monkeypatch.setattr(mlflow, "time", now)
    folder, other = trials["joint-0.6"], trials["bone-0.6"]
    tracker = opened(uri, "short")
    tracker._outbox._every = 0.01
    start(tracker, folder)
    rounds = threading.Semaphore(0)
    for _ in range(3):  # each passes what waits
        tracker._put("a round", rounds.release)
        assert rounds.acquire(timeout=60)
    assert not tracker._trials[folder.path.name].run
    start(tracker, other)
    now.time, now.monotonic = lambda: 1005.0, lambda: mlflow.OPENED_AFTER_S
    until(lambda: tracker._trials[other.path.name].run)  # it takes longer
    tracker.finish_trial(folder.path.name, folder, "finished")
    assert tracker._outbox.close(10.0) == ()
    children = [run for run in runs(uri, "short")[1] if run.data.tags["kind"] == "trial"]
    assert [run.info.start_time for run in children] == [1_000_000] * 2


def test_epochs_that_wait_go_with_the_end_and_are_not_lost_where_it_cannot_be_told(
    uri, trials, monkeypatch
):
    folder, broken = trials["joint-0.6"], trials["bone-0.6"]
    tracker = opened(uri, "ends")
    asked = asked_by(tracker)
    free, held = threading.Event(), threading.Event()

    def wait():
        held.set()
        free.wait()

    tracker._put("what is slow", wait)
    held.wait()
    read = mlflow.final_metrics

    def unreadable(of):
        if of == broken:
            raise OSError("unreadable")
        return read(of)

    monkeypatch.setattr(mlflow, "final_metrics", unreadable)
    for each in (folder, broken):
        start(tracker, each)
        epochs(tracker, each, range(3))
        tracker.finish_trial(each.path.name, each, "finished")
    free.set()
    assert tracker._outbox.close(10.0) == (f"end of trial {broken.path.name}",)
    assert asked["log_batch"] == 1 + 1 + 1  # the sweep's description is one
    client, found = runs(uri, "ends")
    for run in (each for each in found if each.data.tags["kind"] == "trial"):
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 3
        assert run.data.params["train.epochs"] == "3"


def test_an_end_of_a_trial_that_never_started_stops_nothing(uri, trials):
    tracker = opened(uri, "never")
    tracker.finish_trial("never", trials["joint-0.6"], "failed", "the worker died")
    start(tracker, trials["bone-0.6"])
    assert tracker._outbox.close(10.0) == ("end of trial never",)
    assert sorted(r.data.tags["kind"] for r in runs(uri, "never")[1]) == ["sweep", "trial"]


def test_what_was_written_without_an_answer_is_there_once(uri, trials):
    folder = trials["joint-0.6"]
    tracker = opened(uri, "silent")
    client, lost = tracker._client._client, Counter()

    class Silent:
        """Does everything; the first answer of each kind gets lost."""

        def __getattr__(self, name):
            def call(*arguments, **options):
                answer = getattr(client, name)(*arguments, **options)
                lost[name] += 1
                if lost[name] == 1 and name in ("create_run", "log_batch", "set_terminated"):
                    raise ConnectionError("no answer")
                return answer

            return call

    tracker._client._client = Silent()
    start(tracker, folder)
    epochs(tracker, folder, range(3))
    tracker.finish_trial(folder.path.name, folder, "finished")
    assert tracker.finish_sweep("finished", {}, None) == ()
    client, found = runs(uri, "silent")
    (run,) = (r for r in found if r.data.tags["kind"] == "trial")
    for key in run.data.metrics:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, key)]
        assert len(set(steps)) == len(steps), key
    assert run.info.status == "FINISHED"


def test_runs_of_an_earlier_version_get_the_names_of_today(uri, tmp_path):
    run, evaluation = evaluated(tmp_path, BOTH)
    lost = {"ensemble": "details/nonzero_params", "trial": "details/deploy_params"}
    for attempt in range(2):
        tracker = opened(uri, "names")
        if attempt == 0:
            told(tracker, run)
        tracker.log_evaluation(run, evaluation, None)
        assert tracker.finish_sweep("finished", {}, None) == ()
        _, found = runs(uri, "names")
        own = [each for each in found if each.data.tags["kind"] in lost]
        assert len(own) == 3
        for each in own:
            assert lost[each.data.tags["kind"]] in each.data.metrics
            assert each.data.tags["backbone"]
            assert each.info.status == "FINISHED"
        if attempt == 0:
            with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
                for each in own:
                    for table in ("metrics", "latest_metrics"):
                        database.execute(
                            f"DELETE FROM {table} WHERE run_uuid = ? AND key = ?",
                            (each.info.run_id, lost[each.data.tags["kind"]]),
                        )
                    if each.data.tags["kind"] == "ensemble":
                        database.execute(
                            "DELETE FROM tags WHERE run_uuid = ? AND key = 'backbone'",
                            (each.info.run_id,),
                        )


def test_a_description_of_a_sweep_that_a_person_went_on_with_stays(uri, tmp_path):
    for text in ("", " And what I think of it."):
        tracker = opened(uri, "described")
        tracker.finish_sweep("finished", {}, None)
        client, (run,) = runs(uri, "described")
        client.set_tag(run.info.run_id, NOTE, run.data.tags[NOTE] + text)
    tracker = opened(uri, "described")
    tracker._put("a description", lambda: tracker._describe("**Sweep s** has ended"))
    tracker.finish_sweep("finished", {}, None)
    _, (run,) = runs(uri, "described")
    assert run.data.tags[NOTE].endswith(" And what I think of it.")


def test_a_sweep_refused_before_its_first_trial_leaves_no_run(uri, trials):
    opened(uri, "refused").finish_sweep("failed", {}, None)
    assert runs(uri, "refused")[1] == []
    first = opened(uri, "refused")
    start(first, trials["joint-0.6"])
    first.finish_sweep("interrupted", {}, None)
    opened(uri, "refused").finish_sweep("failed", {}, None)  # its second run is refused
    parent = next(r for r in runs(uri, "refused")[1] if r.data.tags["kind"] == "sweep")
    assert parent.info.status == "KILLED"


def test_a_sweep_that_failed_and_is_asked_again_stays_failed(uri, tmp_path):
    for _ in range(2):
        opened(uri, "failed").finish_sweep("failed", {}, tmp_path)
    [run] = runs(uri, "failed")[1]
    assert run.info.status == "FAILED"


def test_an_experiment_keeps_the_view_of_each_sweep_and_the_notes_that_people_write(uri):
    tracker = opened(uri, "views")
    address = tracker.link()
    tracker._outbox.close(10.0)
    client, (parent,) = runs(uri, "views")
    key = f"mlflow.sharedViewState.{parent.info.run_id}"
    assert f"viewStateShareKey={parent.info.run_id}&" in address
    assert "workflowType=machine_learning" in address
    # whatever else an address says would hide the view
    assert "orderByKey" not in address
    tags = client.get_experiment_by_name("views").tags
    state = json.loads(tags[key])
    assert state["searchFilter"] == f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    shown = {part["uuid"] for part in state["compareRunSections"] if part["display"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == shown
    assert len(state["compareRunCharts"]) <= 8
    assert len(tags[key]) < 5000  # what older versions take
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    client.set_experiment_tag(parent.info.experiment_id, "mlflow.note.content", "mine")
    client.set_tag(parent.info.run_id, "mlflow.note.content", "mine, too")
    again = opened(uri, "views")
    again._sweep.describe("it ended")
    again.finish_sweep("finished", {}, None)
    client, (parent,) = runs(uri, "views")
    assert client.get_experiment_by_name("views").tags["mlflow.note.content"] == "mine"
    assert parent.data.tags["mlflow.note.content"] == "mine, too"


def test_a_sweep_that_is_refused_leaves_no_view(uri):
    opened(uri, "no view").finish_sweep("failed", {}, None)
    client, found = runs(uri, "no view")
    assert found == []
    tags = client.get_experiment_by_name("no view").tags
    assert not [key for key in tags if key.startswith("mlflow.sharedViewState")]
