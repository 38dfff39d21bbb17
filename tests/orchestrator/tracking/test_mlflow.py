"""What MLflow shows of a sweep, on a real database: one parent, each trial once, nothing lost when
a sweep goes on after a crash.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from orchestrator.tracking.find import find_sources, find_trial
from orchestrator.tracking.mlflow import MLflowTracker, absolute_uri, flatten, ui_command
from orchestrator.tracking.tracker import NullTracker, Tracker
from tests.orchestrator.fake_run import Trial, make_run
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests: making one takes two seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Folder of each made-up trial by cell."""
    made = [
        Trial("joint", 0.6, wrong_selection=(0,)),
        Trial("bone", 0.0, state="failed"),
        Trial("bone", 0.6, state="unfinished"),
    ]
    run = make_run(tmp_path_factory.mktemp("sweep"), made)
    return {trial.cell: TrialDir(run / "trials" / trial.name) for trial in made}


def opened(uri, experiment, **options):
    tracker = MLflowTracker(uri, experiment, **options)
    tracker.start_sweep("s", {"train.epochs": 3}, {"digest": "abc"})
    return tracker


def start(tracker, folder):
    config = folder.load_config()
    tracker.start_trial(folder.path.name, "cell", config, {"data.stream": config.data.stream})


def runs(uri, experiment):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def epochs(tracker, folder, steps):
    for step in steps:
        tracker.log_epoch(folder.path.name, step, {"train_loss": 1.0 / (step + 1), "lr": 0.1})


def test_a_sweep_with_a_finished_a_failed_and_an_interrupted_trial(uri, trials, tmp_path):
    tracker = opened(uri, "whole")
    for folder in trials.values():
        start(tracker, folder)
        epochs(tracker, folder, range(3))
    done, failed, cut = trials.values()
    tracker.finish_trial(done.path.name, done, "finished")
    tracker.finish_trial(failed.path.name, failed, "failed", "loss is nan")
    tracker.finish_trial(cut.path.name, cut, "interrupted")
    (tmp_path / "result.json").write_text("{}")
    tracker.log_ensemble("final", [done.path.name], {"test/top1": 0.9}, tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# Sweep")
    assert tracker.finish_sweep("finished", {"final/test_top1": 0.9}, tmp_path / "report") == ()

    client, found = runs(uri, "whole")
    parent = next(run for run in found if run.data.tags["kind"] == "sweep")
    children = {
        run.data.tags.get("trial", run.data.tags.get("ensemble")): run
        for run in found
        if run is not parent
    }
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {
        parent.info.run_id
    }
    assert {name: run.info.status for name, run in children.items()} == {
        done.path.name: "FINISHED",
        failed.path.name: "FAILED",
        cut.path.name: "KILLED",
        "final": "FINISHED",
    }
    assert parent.data.params == {"train.epochs": "3"}
    assert parent.data.metrics == {"final/test_top1": 0.9}
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
    }
    assert {key: trial.data.tags[key] for key in expected} == expected
    assert trial.data.params["train.epochs"] == "3"
    assert trial.data.metrics["best/selection_top1"] == pytest.approx(11 / 12)
    assert trial.data.metrics["deploy_nonzero_params"] == 200
    assert (
        trial.data.metrics["deploy_batch64_latency_ms"],
        trial.data.metrics["deploy_peak_mb"],
    ) == (30, 3.6)
    assert len(trial.data.metrics) <= 20
    assert [
        metric.step for metric in client.get_metric_history(trial.info.run_id, "train_loss")
    ] == [0, 1, 2]
    kept = {item.path for item in client.list_artifacts(trial.info.run_id)}
    assert {
        "config.json",
        "deploy.pt",
        "scores.selection.parquet",
        "scores.test.parquet",
        "sparsity.json",
        "result.json",
        "figures",
    } <= kept
    pictures = {item.path for item in client.list_artifacts(trial.info.run_id, "figures")}
    assert pictures == {"figures/curves.png", "figures/confusion.png", "figures/kept.png"}
    assert children[failed.path.name].data.tags["reason"] == "loss is nan"
    assert children["final"].data.tags["members"] == done.path.name


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
    assert [metric.step for metric in history] == [0, 1, 2]


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


def test_a_server_that_dies_costs_a_warning_that_says_what_is_missing(uri, trials, caplog):
    folder = trials["joint-0.6"]
    tracker = opened(uri, "dies", patience=0.2)
    tracker._client = Dead()
    start(tracker, folder)
    epochs(tracker, folder, [0])
    missing = tracker.finish_sweep("finished", {}, None)
    assert missing == (
        f"start of trial {folder.path.name}",
        f"epochs of trial {folder.path.name}",
        "end of the sweep",
    )
    assert "The files of the sweep are complete" in caplog.text


class Dead:
    """A client whose server is gone."""

    def __getattr__(self, name):
        def call(*arguments, **options):
            raise ConnectionError("connection refused")

        return call


def test_a_store_that_does_not_answer_at_the_start_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"tracking\.uri: must be an MLflow store that answers, got 'nonsense://x'"
    ):
        MLflowTracker("nonsense://x", "e").start_sweep("s", {}, {})


def test_artifacts_lie_beside_the_database_whatever_the_current_folder(uri):
    opened(uri, "beside").finish_sweep("finished", {}, None)
    client, _ = runs(uri, "beside")
    assert client.get_experiment_by_name("beside").artifact_location.endswith("/mlartifacts/beside")
    assert (
        absolute_uri(uri).removeprefix("sqlite:///").rsplit("/", 1)[0]
        in client.get_experiment_by_name("beside").artifact_location
    )


@pytest.fixture
def tracked(uri, tmp_path):
    """MLflow's runs of a dense and a sparse trial, finished, by level; the folders of both."""
    made = [Trial("joint", 0.0), Trial("joint", 0.6)]
    run = make_run(tmp_path, made)
    folders = {trial.level: TrialDir(run / "trials" / trial.name) for trial in made}
    experiment = f"sources-{tmp_path.name}"
    tracker = opened(uri, experiment)
    for folder in folders.values():
        folder.checkpoint_file.parent.mkdir()
        folder.best_file.write_bytes(b"best weights")
        start(tracker, folder)
        tracker.finish_trial(folder.path.name, folder, "finished")
    assert tracker.finish_sweep("finished", {}, None) == ()
    by_trial = {run.data.tags.get("trial"): run.info.run_id for run in runs(uri, experiment)[1]}
    return {level: by_trial[folder.path.name] for level, folder in folders.items()} | {
        "sweep": by_trial[None]
    }, folders


def test_a_trial_is_found_by_its_run_where_it_left_its_files(uri, tracked, tmp_path):
    ids, folders = tracked
    for level, folder in folders.items():
        assert find_trial(uri, ids[level]).fetch(tmp_path / "keep") == folder.path.absolute()
    assert not (tmp_path / "keep").exists()
    with pytest.raises(
        UserError,
        match=r"must be the run of a finished trial, but run .* is FINISHED \(kind: sweep\)",
    ):
        find_trial(uri, ids["sweep"])
    with pytest.raises(UserError, match=r"must be a run of the MLflow store at .*: .*not found"):
        find_trial(uri, "0" * 32)
    with pytest.raises(UserError, match=r"tracking.uri, the store it is looked up in, is none"):
        find_trial("none", ids[0.0])


def test_a_dense_trial_whose_folder_is_gone_is_downloaded_once(uri, tracked, tmp_path):
    ids, folders = tracked
    for folder in folders.values():
        folder.path.rename(folder.path.with_name(f"moved-{folder.path.name}"))
    keep = tmp_path / "keep"
    (keep / f".{ids[0.0]}.partial").mkdir(parents=True)  # of a download that was killed
    fetched = TrialDir(find_trial(uri, ids[0.0]).fetch(keep))
    assert fetched.path == keep / ids[0.0]
    assert fetched.is_complete()
    assert fetched.kept_file.read_bytes() == b"best weights"
    assert fetched.load_config().sparsity.dense
    stamp = fetched.result_file.stat().st_mtime_ns
    find_trial(uri, ids[0.0]).fetch(keep)
    assert fetched.result_file.stat().st_mtime_ns == stamp
    assert [path.name for path in keep.iterdir()] == [ids[0.0]]
    with pytest.raises(UserError, match="only dense trials log theirs"):
        find_trial(uri, ids[0.6])


def test_every_run_that_no_trial_can_start_from_is_named_at_its_line(uri, tracked, tmp_path):
    ids, _ = tracked
    sweep = loaded(tmp_path, SMALL + "sparsity: {from: dense}\n", f"tracking.uri={uri}")
    found = find_sources(sweep, [f"mlflow:{ids[0.0]}", f"runs:/{ids[0.6]}"])
    assert [each.run for each in found.values()] == [ids[0.0], ids[0.6]]
    with pytest.raises(UserError) as caught:
        find_sources(sweep, ["mlflow:aa", f"mlflow:{ids[0.0]}", "mlflow:bb"])
    assert [
        problem.partition("s.yaml")[2].partition(" must")[0] for problem in caught.value.problems
    ] == [":9 sparsity.from:"] * 2


def test_a_relative_database_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/mlflow.db") == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert absolute_uri("http://host:5000") == "http://host:5000"


def test_the_interface_is_served_from_the_sweeps_own_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ui_command("sqlite:///mlflow.db", "0.0.0.0", 5001)
    assert command[1:4] == ["-m", "mlflow", "ui"]
    assert command[4:] == [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--host",
        "0.0.0.0",
        "--port",
        "5001",
    ]
    with pytest.raises(UserError, match="is a server already"):
        ui_command("http://host:5000", "127.0.0.1", 5000)


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1]}) == {
        "a.b": 1,
        "a.c.d": None,
        "e": [1],
    }


def test_without_tracking_mlflow_is_not_loaded(tmp_path):
    code = (
        "import sys, orchestrator.tracking.tracker as t; t.NullTracker().start_sweep('s', {}, {});"
        " sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_trackers_keep_the_protocol(uri, trials, tmp_path):
    trackers: list[Tracker] = [NullTracker(), MLflowTracker(uri, "protocol")]
    folder = trials["joint-0.6"]
    for tracker in trackers:
        tracker.start_sweep("s", {}, {})
        tracker.start_trial(folder.path.name, "cell", folder.load_config(), {})
        tracker.log_epoch(folder.path.name, 0, {"lr": 0.1})
        tracker.finish_trial(folder.path.name, folder, "finished")
        tracker.log_ensemble("e", [], {}, tmp_path)
        assert tracker.finish_sweep("finished", {}, None) == ()
    assert json.loads(folder.result_file.read_text())["epochs"] == 3
