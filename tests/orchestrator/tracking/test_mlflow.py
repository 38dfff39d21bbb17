"""What MLflow shows of a sweep, on a real database: one parent, each trial once, nothing lost when
a sweep goes on after a crash.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys

import pytest

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.tracking.client import absolute_uri, ui_command
from orchestrator.tracking.find import find_sources, find_trial
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.records import flatten
from orchestrator.tracking.runs import Runs
from orchestrator.tracking.tracker import NullTracker, Tracker
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from tests.orchestrator.sweep_files import SMALL, loaded
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",
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


def evaluated(path, *ensembles):
    """Folder and final evaluation of a sweep of two networks and, if asked for, ensembles."""
    made = [Trial("joint", 0.6, wrong_test=(0, 1, 2)), Trial("bone", 0.6, wrong_selection=(0,))]
    run, sweep = make_run(path, made), make_sweep(*ensembles)
    members = collect(run, sweep)
    return run, finalize(run, sweep, members, missing_cells(run, members))


BOTH = {"name": "both", "over": "data.stream"}


def told(tracker, run):
    """A tracker that knows the trials of a sweep's folder."""
    for path in sorted((run / "trials").iterdir()):
        start(tracker, TrialDir(path))
        tracker.finish_trial(path.name, TrialDir(path), "finished")
    return tracker


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
        "figures",
    } <= kept
    pictures = {item.path for item in client.list_artifacts(trial.info.run_id, "figures")}
    assert pictures == {"figures/curves.png", "figures/confusion.png", "figures/kept.png"}
    assert children[failed.path.name].data.tags["reason"] == "loss is nan"

    again = opened(uri, "whole")
    assert [again.knows_end(folder.path.name) for folder in trials.values()] == [True, True, False]
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
    assert again.knows_end(folder.path.name)
    assert not again.knows_end(cut.path.name)
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
    tracker._runs = Runs(tracker._client, tracker._runs.experiment)
    start(tracker, folder)
    epochs(tracker, folder, [0])
    missing = tracker.finish_sweep("finished", {}, None)
    assert missing == (
        f"start of trial {folder.path.name}",
        f"epochs of trial {folder.path.name}",
        "end of the sweep",
    )
    assert "not delivered yet, will try again: connection refused" in caplog.text


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
    command, environment = ui_command("sqlite:///mlflow.db", "0.0.0.0", 5001)
    assert command[1:] == ["-m", "mlflow", "ui", "--host", "0.0.0.0", "--port", "5001"]
    # not in the command line, which everyone on the machine can read
    assert environment == {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db"}
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
        "import sys, orchestrator.tracking.mlflow; from orchestrator.tracking.tracker import"
        " NullTracker; NullTracker().start_sweep('s', {}, {}); sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_trackers_keep_the_protocol(uri, trials, tmp_path):
    run, evaluation = evaluated(tmp_path)
    trackers: list[Tracker] = [NullTracker(), MLflowTracker(uri, "protocol")]
    folder = trials["joint-0.6"]
    for tracker in trackers:
        tracker.start_sweep("s", {}, {})
        tracker.start_trial(folder.path.name, "cell", folder.load_config(), {})
        tracker.log_epoch(folder.path.name, 0, {"lr": 0.1})
        tracker.finish_trial(folder.path.name, folder, "finished")
        told(tracker, run).log_evaluation(run, evaluation, None)
        assert tracker.finish_sweep("finished", {}, None) == ()
        assert tracker.finish_sweep("finished", {}, None) == ()
    assert json.loads(folder.result_file.read_text())["epochs"] == 3


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
        "nonzero_params": size.nonzero_params,
        "deploy_nonzero_params": size.deploy_nonzero_params,
        "deploy_gmacs": size.deploy_gmacs,
        "deploy_latency_ms": size.latency_ms,
    }
    assert {key: ensemble.data.metrics[key] for key in expected} == pytest.approx(expected)
    assert ensemble.data.params["method"] == "mean"
    assert json.loads(ensemble.data.params["weights"]) == rows["both"].weights
    artifacts = {item.path for item in client.list_artifacts(ensemble.info.run_id)}
    assert {"members.json", "weights.json", "result.json", "scores.parquet"} <= artifacts


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


def test_a_sweep_refused_before_its_first_trial_leaves_no_run(uri, trials):
    opened(uri, "refused").finish_sweep("failed", {}, None)
    assert runs(uri, "refused")[1] == []
    first = opened(uri, "refused")
    start(first, trials["joint-0.6"])
    first.finish_sweep("interrupted", {}, None)
    opened(uri, "refused").finish_sweep("failed", {}, None)  # its second run is refused
    parent = next(r for r in runs(uri, "refused")[1] if r.data.tags["kind"] == "sweep")
    assert parent.info.status == "KILLED"


def test_what_mlflow_refuses_does_not_hold_up_what_comes_behind(uri, trials, caplog):
    from mlflow.exceptions import MlflowException

    folder = trials["joint-0.6"]
    tracker = opened(uri, "refusing")
    client = tracker._client

    class Refusing:
        """Fails without a reason, as a broken store does, wherever a file is to be kept."""

        def __getattr__(self, name):
            def call(*arguments, **options):
                if name == "log_artifact":
                    raise MlflowException("no room for this file")
                return getattr(client, name)(*arguments, **options)

            return call

    tracker._outbox._every = 0.01
    tracker._client = Refusing()
    tracker._runs = Runs(tracker._client, tracker._runs.experiment)
    start(tracker, folder)
    tracker.finish_trial(folder.path.name, folder, "finished")
    start(tracker, trials["bone-0.6"])
    assert tracker.finish_sweep("interrupted", {}, None) == (f"end of trial {folder.path.name}",)
    assert "not delivered: no room for this file" in caplog.text
    kinds = [r.data.tags["kind"] for r in runs(uri, "refusing")[1]]
    assert sorted(kinds) == ["sweep", "trial", "trial"]


@pytest.mark.parametrize(
    ("driver", "package"), [("psycopg2", "psycopg2-binary"), ("psycopg", "psycopg[binary]")]
)
def test_a_missing_driver_is_one_message(monkeypatch, driver, package):
    monkeypatch.setitem(sys.modules, driver, None)
    shown = f"postgresql+{driver}://someone:***@127.0.0.1:9/mlflow"
    with pytest.raises(UserError) as caught:
        MLflowTracker(shown.replace("***", "hunter2"), "e").start_sweep("s", {}, {})
    assert str(caught.value) == (
        f"tracking.uri: {shown} needs the Python package {driver}, which is not installed here: pip"
        f" install '{package}'"
    )


def test_two_sweeps_at_once_make_one_database(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"

    def run(name):
        tracker = MLflowTracker(uri, "e")
        tracker.start_sweep(name, {}, {})
        sys.exit(len(tracker.finish_sweep("finished", {}, None)))

    fork = multiprocessing.get_context("fork")  # MLflow is loaded already
    processes = [fork.Process(target=run, args=(name,)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(r.data.tags["sweep"] for r in runs(uri, "e")[1]) == ["a", "b"]
