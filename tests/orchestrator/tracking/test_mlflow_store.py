"""The store behind MLflow: addresses, servers that die, artifacts, trials found by their run."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.ensembling.asked import evaluate_asked
from orchestrator.ensembling.pools import pool_of
from orchestrator.ensembling.what_if import what_if
from orchestrator.record import copies
from orchestrator.record.journal import read_journal
from orchestrator.sweep.asked import Asked, asked_ensemble
from orchestrator.tracking.client import absolute_uri, check_store, ui_command
from orchestrator.tracking.find import fetch_scores, find_sources, find_trial
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.records import flatten
from orchestrator.tracking.runs import Runs
from tests.orchestrator.fake_run import Trial, make_run
from tests.orchestrator.sweep_files import SMALL, loaded
from tests.orchestrator.tracking.mlflow_cases import epochs, opened, runs, start
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError
from trainables.remote.objects import Objects

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",
)


def test_a_server_that_dies_costs_a_warning_that_says_what_is_missing(
    uri, trials, caplog, monkeypatch
):
    folder = trials["joint-0.6"]
    monkeypatch.setattr(MLflowTracker, "_show", lambda tracker: None)  # it may come too late
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


def test_a_trial_at_an_address_is_found_there_by_a_machine_without_a_copy(
    uri, tmp_path, monkeypatch
):
    def machine(name):
        monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / name))
        copies._copy.cache_clear()

    machine("first")
    made, storage = Trial("joint", 0.0), f"file://{tmp_path}/bucket"
    run = copies.local_storage(storage) / "small"
    make_run(tmp_path, [made]).rename(run)
    folder, place = TrialDir(run / "trials" / made.name), f"{storage}/small/trials/{made.name}"
    write_atomic(folder.best_file, b"best weights")
    tracker = opened(uri, f"address-{tmp_path.name}")
    start(tracker, folder)
    tracker.finish_trial(made.name, folder, "finished")
    assert tracker.finish_sweep("finished", {}, None) == ()
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    Objects(place).store({path.relative_to(folder.path).as_posix(): path for path in files})
    trials = [
        each for each in runs(uri, f"address-{tmp_path.name}")[1] if "trial" in each.data.tags
    ]
    machine("second")
    found = find_trial(uri, trials[0].info.run_id)
    assert found.noted == place
    assert copies.place_of(found.fetch(tmp_path / "keep")) == place
    shutil.rmtree(tmp_path / "bucket")
    assert find_trial(uri, trials[0].info.run_id).folder is None


def test_weights_that_were_removed_are_downloaded(uri, tracked, tmp_path):
    ids, folders = tracked
    for folder in folders.values():
        folder.best_file.unlink()
    fetched = TrialDir(find_trial(uri, ids[0.0]).fetch(tmp_path / "keep"))
    assert fetched.kept_file.read_bytes() == b"best weights"
    assert fetch_scores(uri, ids[0.0], tmp_path / "keep").path == folders[0.0].path.absolute()
    with pytest.raises(UserError, match="has no checkpoint any more, and only dense trials log"):
        find_trial(uri, ids[0.6])


@pytest.mark.parametrize("here", [True, False])
def test_trials_of_runs_are_combined_by_their_score_tables(uri, tracked, tmp_path, here):
    """Where their folders are not here, as on a laptop, their tables are downloaded."""
    ids, folders = tracked
    if not here:
        for folder in folders.values():
            folder.path.rename(folder.path.with_name(f"moved-{folder.path.name}"))
    keep = tmp_path / "keep"
    trials = {ids[level]: fetch_scores(uri, ids[level], keep) for level in folders}
    assert keep.exists() is not here
    pool = pool_of((), trials)
    assert [*pool.cells] == [f"mlflow/{ids[level]}" for level in folders]
    assert [member.axes["sparsity.level"] for member in pool.members] == [0.0, 0.6]
    imagined = what_if(
        pool, asked_ensemble({"name": "e", "over": "sparsity.level"}, pool.axes(), held_out=True)
    )
    assert imagined.ensembles[0].selection.right == 12
    found, place = evaluate_asked(pool, Asked(method="mean"), None, tmp_path / "out")
    assert found.rows[-1].test.right == 30
    assert [each["event"] for each in read_journal(place / "journal.jsonl")][-1] == "test_read"


def test_a_run_without_score_tables_cannot_be_combined(uri, tracked, tmp_path):
    ids, folders = tracked
    folders[0.0].path.rename(tmp_path / "moved")
    client, _ = runs(uri, f"sources-{tmp_path.name}")
    root = client.get_run(ids[0.0]).info.artifact_uri.removeprefix("file://")
    Path(root, "scores.test.parquet").unlink()
    with pytest.raises(UserError, match=r"must hold scores\.test\.parquet to be combined"):
        fetch_scores(uri, ids[0.0], tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


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


def test_what_mlflow_refuses_does_not_hold_up_what_comes_behind(uri, trials, caplog):
    from mlflow.exceptions import MlflowException

    folder = trials["joint-0.6"]
    tracker = opened(uri, "refusing")
    client = tracker._client

    class Refusing:
        """Fails without a reason, as a broken store does, wherever a file is to be kept."""

        def __getattr__(self, name):
            def call(*arguments, **options):
                if name == "log_artifacts":
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


@pytest.mark.parametrize("port", ["", ":9"])
def test_a_database_server_that_does_not_answer_is_refused_at_once(monkeypatch, port):
    """Before MLflow is asked, which tries for minutes."""
    asked = []

    def refuse(where, timeout):
        asked.append(where)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("orchestrator.tracking.client.socket.create_connection", refuse)
    monkeypatch.setattr("mlflow.MlflowClient", None)
    monkeypatch.setitem(sys.modules, "psycopg2", ModuleType("psycopg2"))
    with pytest.raises(UserError) as caught:
        check_store(f"postgresql+psycopg2://someone:hunter2@database{port}/mlflow")
    assert str(caught.value) == (
        "tracking.uri: must be an MLflow store that answers, got"
        f" 'postgresql+psycopg2://someone:***@database{port}/mlflow': [Errno 111] Connection"
        " refused"
    )
    assert asked == [("database", 9 if port else 5432)]


class Database:
    """What stands for a connection of PostgreSQL, whose lock another process has."""

    def __init__(self, code):
        self.code, self.said, self.options = code, [], {}

    def create_engine(self, url, **options):
        self.options = options
        return SimpleNamespace(connect=lambda: nullcontext(self))

    def execute(self, statement):
        self.said.append(str(statement))
        if "advisory" in str(statement):
            error = Exception("canceling statement")
            error.pgcode = self.code
            raise OperationalError(str(statement), None, error)


@pytest.mark.parametrize(
    ("code", "says"),
    [("55P03", "is being made by another process; try again"), ("57P01", "cancel")],
)
def test_a_database_that_another_process_makes_is_not_waited_for_without_end(
    monkeypatch, code, says
):
    database = Database(code)
    monkeypatch.setattr("sqlalchemy.create_engine", database.create_engine)
    monkeypatch.setattr(
        "orchestrator.tracking.client.socket.create_connection",
        lambda where, timeout: SimpleNamespace(close=lambda: None),
    )
    with pytest.raises(UserError, match=says):
        check_store("postgresql+psycopg2://someone:hunter2@database/mlflow")
    assert database.options["connect_args"] == {"connect_timeout": 5}
    # a lock of the transaction: a pooler may keep the connection, and with it one of the session
    assert database.said == [
        "set local lock_timeout = 120000",
        "select pg_advisory_xact_lock(7161201)",
    ]


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
