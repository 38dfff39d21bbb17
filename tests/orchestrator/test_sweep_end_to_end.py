"""Whole sweeps through the command, with real Ray, real MLflow and real signals; networks small
enough to train in a second.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from orchestrator.record.journal import read_journal
from orchestrator.tracking.client import open_client
from tests.listeners import beyond_loopback

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
)

SWEEP = """
version: 1
name: tiny
data: {store: data, protocol: xsub, frames: 8, selection: {fraction: 0.3}}
parameters:
  train.epochs: {values: [2, 60], axis: cell}
model: {backbone: hpi_gcn_op, channels: 8, stages: [1], groups: 4}
train: {batch_size: 4, lr: 0.05, warmup_epochs: 0}
resources: {gpus: 0}
tracking: {uri: "sqlite:///mlflow.db?timeout=${PLANTED:-20}"}
ensembles:
  - {name: both, over: train.epochs}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "data"
    options = [
        "--classes",
        "4",
        "--clips-per-class",
        "16",
        "--subjects",
        "4",
        "--views",
        "2",
        "--frames",
        "10",
        "--layout",
        "coco17",
    ]
    command("data", "synth", str(path), *options, cwd=path.parent).check_returncode()
    return path


@pytest.fixture
def folder(tmp_path, store):
    (tmp_path / "data").symlink_to(store)
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    return tmp_path


def command(*arguments, cwd):
    return subprocess.run(line(*arguments), cwd=cwd, capture_output=True, text=True, timeout=240)


def line(*arguments):
    return [sys.executable, "-c", "from orchestrator.cli import main; main()", *arguments]


def start(folder, *arguments):
    """A sweep in a process group of its own, so that a test can end it as a person or the system
    would.
    """
    return subprocess.Popen(
        line("sweep", "tiny.yaml", *arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def events(folder, kind=None):
    return [
        event
        for event in read_journal(folder / "runs/tiny/journal.jsonl")
        if kind in (None, event["event"])
    ]


def wait_until(condition, process, seconds=120):
    """Wait for `condition`; a sweep that ends first is an error that shows what it said."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the sweep ended or hung: {process.communicate()}")
        time.sleep(0.1)


def workers_of(driver):
    """Processes that Ray has started under `driver` and that train a trial now."""
    parents, workers = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
            if "ImplicitFunc" in (entry / "cmdline").read_text():
                workers.append(int(entry.name))
        except OSError:  # it has ended
            continue

    def descends(process):
        while process in parents and process != driver:
            process = parents[process]
        return process == driver

    return [worker for worker in workers if descends(worker)]


def long_trial_is_under_way(folder):
    """The short trial is complete and the long one has a checkpoint."""
    started = [event["trial"] for event in events(folder, "trial_started")]
    return bool(events(folder, "trial_finished")) and any(
        (trial_folder(folder, t) / "checkpoint/last.pt").exists() for t in started if "60" in t
    )


def trial_folder(folder, trial):
    return folder / "runs/tiny/trials" / trial


def client_of(folder):
    """Asks the tracking store itself."""
    return open_client(f"sqlite:///{folder}/mlflow.db")


def mlflow_runs(folder):
    """(kind, trial, status, epochs) of every run."""
    client = client_of(folder)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return [
        (
            run.data.tags["kind"],
            run.data.tags.get("trial", ""),
            run.info.status,
            len(client.get_metric_history(run.info.run_id, "train_loss")),
        )
        for run in runs
    ]


def model_versions(folder):
    """How often the ensemble was registered."""
    return len(client_of(folder).search_model_versions("name='tiny.both'"))


def check_registered_model(folder):
    """The registered ensemble, loaded by MLflow alone, predicts from raw clips what the sweep's
    final evaluation was made of.
    """
    code = """
import json, sys
import mlflow, numpy as np
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store
from pathlib import Path
mlflow.set_tracking_uri("sqlite:///mlflow.db")
model = mlflow.pyfunc.load_model("models:/tiny.both@champion")
store, scores = Store.open("data"), Scores.load(Path("runs/tiny/ensembles/both/scores.parquet"))
place = {name: number for number, name in enumerate(store.column("id"))}
clips = [store.clip(place[name])[0] for name in scores.ids]
table = model.unwrap_python_model().predict(None, [clip.tolist() for clip in clips])
first = model.predict(np.asarray(clips[0], np.float32)[None, None])
assert abs(first.to_numpy() - table.to_numpy()[:1]).max() < 1e-6
assert list(table.columns) == list(store.info.classes)
expected = np.exp(scores.logits.astype(float)); expected /= expected.sum(axis=1, keepdims=True)
print(abs(table.to_numpy() - expected).max())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # float32 batches of another size round differently
    assert float(done.stdout.splitlines()[-1]) < 1e-6


def check_finished(folder):
    """What every finished sweep shows, however often it was interrupted."""
    results = sorted(folder.glob("runs/tiny/trials/*/result.json"))
    assert len(results) == 2
    # both trials have the same network: it was timed once, when both had ended
    latencies = {path.with_name("latency.json").read_text() for path in results}
    assert [json.loads(latency)["latency_measured"] for latency in latencies] == ["alone"]
    assert (folder / "runs/tiny/report/report.md").is_file()
    assert (folder / "runs/tiny/ensembles/both/result.json").is_file()
    assert len(events(folder, "test_read")) == 1
    assert [event["trial"] for event in events(folder, "trial_finished")] == list(
        {e["trial"]: 0 for e in events(folder, "trial_finished")}
    )
    runs = mlflow_runs(folder)
    assert sorted(kind for kind, *_ in runs) == ["ensemble", "sweep", "trial", "trial"]
    assert {status for _, _, status, _ in runs} == {"FINISHED"}
    # every epoch once
    assert sorted(epochs for kind, _, _, epochs in runs if kind == "trial") == [2, 60]


@pytest.fixture
def rays_own():
    """A folder for what Ray writes; its sockets need a short name."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray") as folder:
        yield Path(folder)


SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY")


def test_a_sweep_ends_with_scores_and_repeats_nothing(folder, rays_own, monkeypatch):
    secret = "2718281"  # part of the store's address, and nowhere to be seen afterwards
    monkeypatch.setenv("PLANTED", secret)
    for name in SECRETS:
        monkeypatch.setenv(name, f"{name}{secret}")
    monkeypatch.setenv("RAY_TMPDIR", str(rays_own))
    first = command("sweep", "tiny.yaml", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "Final scores" in first.stdout
    assert "both" in first.stdout
    assert "orchestrate ui tiny" in first.stdout
    check_finished(folder)
    check_registered_model(folder)
    stamps = {
        path: path.stat().st_mtime_ns for path in folder.glob("runs/tiny/trials/*/result.json")
    }
    started = len(events(folder, "trial_started"))
    second = command("sweep", "tiny.yaml", cwd=folder)
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert len(events(folder, "trial_started")) == started
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    check_finished(folder)
    assert model_versions(folder) == 1
    changed = command("sweep", "tiny.yaml", "--set", "train.lr=0.1", cwd=folder)
    assert changed.returncode == 2
    assert "train.lr: was 0.05, is now 0.1" in changed.stderr
    for run in (first, second, changed):
        assert secret not in run.stdout + run.stderr
    assert list(rays_own.rglob("raylet.out"))
    for path in (*folder.rglob("*"), *rays_own.rglob("*")):
        assert secret not in path.name
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.full
def test_two_sweeps_at_once_do_not_disturb_each_other(folder):
    """One of them keeps no checkpoint; they make one tracking store together, and a second driver
    of either is refused.
    """
    other = start(folder, "--name", "other", "--set", "retain.checkpoints=none")
    first = start(folder)
    wait_until(lambda: events(folder, "trial_started"), first, seconds=400)
    second = command("sweep", "tiny.yaml", cwd=folder)
    assert second.returncode == 2
    assert f"runs/tiny: is being run by process {first.pid} on " in second.stderr
    for process in (first, other):
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    runs = mlflow_runs(folder)
    assert sorted(kind for kind, *_ in runs) == sorted(2 * ["ensemble", "sweep", "trial", "trial"])
    assert {status for _, _, status, _ in runs} == {"FINISHED"}
    for name, checkpoints in (("tiny", 2), ("other", 0)):
        run = folder / "runs" / name
        assert len(list(run.glob("trials/*/result.json"))) == 2
        assert len(list(run.glob("trials/*/checkpoint/last.pt"))) == checkpoints
        assert not (run / ".tune").exists()
    again = command("sweep", "tiny.yaml", "--name", "other", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "Final scores" in again.stdout
    gone = command("clean", "other", "--all", "--yes", cwd=folder)
    assert gone.returncode == 0, gone.stderr
    assert not (folder / "runs" / "other").exists()


@pytest.mark.full
def test_signals_and_kills_of_the_driver_and_of_a_worker_lose_nothing_finished(folder):
    """First SIGUSR1, which Slurm sends before preemption and Tune would take for its own; Ctrl-C is
    sent by other tests here.
    """
    preempted = start(folder)
    wait_until(lambda: long_trial_is_under_way(folder), preempted)
    assert beyond_loopback(preempted.pid) == []
    preempted.send_signal(signal.SIGUSR1)
    _, said = preempted.communicate(timeout=60)
    assert preempted.returncode == 130, said
    assert "orchestrate resume tiny" in said
    assert events(folder)[-1]["event"] == "sweep_interrupted"
    assert len(events(folder, "trial_interrupted")) == 1
    assert not events(folder, "test_read")
    finished = {
        path: path.stat().st_mtime_ns for path in folder.glob("runs/tiny/trials/*/result.json")
    }
    assert len(finished) == 1

    killed = start(folder)
    begun = len(events(folder, "trial_started"))
    wait_until(lambda: len(events(folder, "trial_started")) > begun, killed)
    killed.kill()  # the driver alone: Ray's own processes find out by themselves
    killed.wait()
    killed.stdout.close()
    killed.stderr.close()

    again = start(folder)
    wait_until(lambda: workers_of(again.pid), again)
    os.kill(workers_of(again.pid)[0], signal.SIGKILL)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "restart 1 of 3: the worker died" in said
    assert [event["attempt"] for event in events(folder, "trial_restarted")] == [1]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    started = [event["trial"] for event in events(folder, "trial_started")]
    # the complete trial was not run again
    assert sum("epochs2-" in trial for trial in started) == 1
    check_finished(folder)


@pytest.mark.full
def test_a_worker_that_hangs_is_ended_and_its_trial_goes_on(folder):
    process = start(folder, "--set", "failure.stall_seconds=15")
    wait_until(lambda: long_trial_is_under_way(folder), process, seconds=300)
    for worker in workers_of(process.pid):
        os.kill(worker, signal.SIGSTOP)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    [restart] = events(folder, "trial_restarted")
    assert restart["attempt"] == 1
    assert restart["reason"].startswith("it stalled: no report for ")
    assert f"RESTART   {restart['trial']}: restart 1 of 3: it stalled" in said
    check_finished(folder)


@pytest.mark.full
def test_a_diverging_trial_fails_once_with_its_reason_and_the_rest_goes_on(folder):
    text = SWEEP.replace(
        "train.epochs: {values: [2, 60], axis: cell}",
        "train.lr: {values: [0.05, 1.0e12], axis: cell}",
    )
    Path(folder / "tiny.yaml").write_text(
        text.replace("over: train.epochs", "over: train.lr").replace(
            "batch_size: 4, lr: 0.05,", "batch_size: 4, epochs: 3,"
        )
    )
    done = command("sweep", "tiny.yaml", cwd=folder)
    assert done.returncode == 3, done.stderr
    assert "train_loss must be finite" in done.stderr
    failed = events(folder, "trial_failed")
    assert len(failed) == 1
    assert "train_loss must be finite" in failed[0]["reason"]
    assert len(events(folder, "trial_started")) == 2  # no retry
    assert len(list(folder.glob("runs/tiny/trials/*/result.json"))) == 1
    assert "train_loss must be finite" in (folder / "runs/tiny/report/report.md").read_text()
    status = command("status", "tiny", cwd=folder)
    assert "train_loss must be finite" in status.stdout


TICKETS = """
version: 1
name: tiny
data: {store: data, protocol: xsub, frames: 8, selection: {fraction: 0.3}}
parameters:
  train.lr: {values: [0.05, 1.0e12], axis: cell}
  sparsity.level: {values: [0.8, 0], axis: trial}
sparsity: {from: dense, warmup: 0}
model: {backbone: hpi_gcn_op, channels: 8, stages: [1], groups: 4}
train: {epochs: 10, batch_size: 4, warmup_epochs: 0}
resources: {gpus: 0}
failure: {tolerated_fraction: 0.5}
ensembles: []
"""


@pytest.mark.full
def test_trials_start_from_the_dense_one_of_their_cell_and_fail_with_it(folder):
    """Also where the sweep is interrupted while they wait."""
    Path(folder / "tiny.yaml").write_text(TICKETS)
    process = start(folder)
    wait_until(lambda: events(folder, "trial_started"), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert not any("source" in event for event in events(folder))
    done = command("sweep", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    ((name, source),) = {
        event["trial"]: event["source"] for event in events(folder) if "source" in event
    }.items()
    dense = Path(source)
    assert dense.parent == folder / "runs/tiny/trials"
    assert json.loads((dense / "config.json").read_text())["sparsity"]["level"] == 0
    assert (dense.name[:6], name[:6]) == ("lr0.05", "lr0.05")
    journal = [(event["event"], event.get("trial")) for event in events(folder)]
    assert journal.index(("trial_finished", dense.name)) < journal.index(("trial_started", name))
    reasons = {event["trial"]: event["reason"] for event in events(folder, "trial_failed")}
    (diverged,) = [
        trial for trial, reason in reasons.items() if reason.startswith("train_loss must be finite")
    ]
    (left,) = reasons.keys() - {diverged}
    assert (
        reasons[left]
        == f"no dense trial to start from has a result: {diverged}: {reasons[diverged]}"
    )
    assert ("trial_started", left) not in journal
    assert sorted(status for kind, _, status, _ in mlflow_runs(folder) if kind == "trial") == [
        "FAILED",
        "FAILED",
        "FINISHED",
        "FINISHED",
    ]


@pytest.mark.full
def test_trials_that_asha_ends_are_killed_in_mlflow_and_keep_their_curves(folder):
    """Four recipes one after the other, the worse the later: a loss that hardly moves ends it."""
    changes = (
        "parameters={train.lr: [0.05, 0.01, 0.001, 0.0001]}",
        "train.epochs=4",
        "early_terminate={type: asha, eta: 2, grace: 1}",
        "objectives=[{metric: train_loss, goal: minimize}]",
        "resources.max_concurrent=1",
        "ensembles=[]",
    )
    arguments = [part for change in changes for part in ("--set", change)]
    first = command("sweep", "tiny.yaml", *arguments, cwd=folder)
    assert first.returncode == 0, first.stderr
    pruned = {event["trial"]: event["epochs"] for event in events(folder, "trial_pruned")}
    assert pruned
    assert set(pruned.values()) <= {1, 2}
    assert "stopped early, which saved" in (folder / "runs/tiny/report/report.md").read_text()
    found = {
        trial: (status, epochs) for kind, trial, status, epochs in mlflow_runs(folder) if trial
    }
    for trial, epochs in pruned.items():
        assert found.pop(trial) == ("KILLED", epochs)
        assert not (trial_folder(folder, trial) / "result.json").exists()
        assert (trial_folder(folder, trial) / "metrics.parquet").is_file()
    assert set(found.values()) == {("FINISHED", 4)}


LEARNING = """
method: {name: tpe, trials_per_cell: 5, startup_trials: 2, final_seeds: 2}
early_terminate: {type: asha, eta: 2, grace: 1}
"""
SPACE = """  sparsity.level: [0.0, 0.8]
  train.lr: {min: 0.001, max: 0.3, distribution: log_uniform}
  train.epochs: 8
"""


@pytest.mark.full
def test_kill_9_of_a_search_that_learns_with_early_stopping_loses_nothing(folder):
    text = SWEEP.replace("  train.epochs: {values: [2, 60], axis: cell}\n", SPACE)
    text = text.replace("over: train.epochs", "over: sparsity.level")
    (folder / "tiny.yaml").write_text(text + LEARNING)
    process = start(folder)
    wait_until(lambda: len(events(folder, "trial_finished")) >= 2, process, seconds=400)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    before = [event["trial"] for event in events(folder, "trial_proposed")]
    results = {
        path: path.stat().st_mtime_ns for path in folder.glob("runs/tiny/trials/*/result.json")
    }
    again = start(folder)
    _, said = again.communicate(timeout=600)
    assert again.returncode == 0, said
    proposed = [event["trial"] for event in events(folder, "trial_proposed")]
    assert proposed[: len(before)] == before
    assert len(proposed) == len(set(proposed)) == 12  # two cells of five, and each best one again
    ends = [
        event["trial"]
        for event in events(folder)
        if event["event"] in ("trial_finished", "trial_pruned")
    ]
    assert sorted(ends) == sorted(proposed)
    assert {path: path.stat().st_mtime_ns for path in results} == results
    trials = [trial for kind, trial, *_ in mlflow_runs(folder) if kind == "trial"]
    assert sorted(trials) == sorted(proposed)
