"""Whole sweeps through the command, with real Ray, real MLflow and real signals; networks small
enough to train in a second.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.orchestrator.whole_sweeps import (
    OLD_LOADER,
    beside,
    check_finished,
    command,
    events,
    mlflow_runs,
    model_versions,
    start,
    trial_folder,
    wait_until,
)

pytestmark = OLD_LOADER


@pytest.fixture
def folder(tmp_path, tiny_store):
    return beside(tiny_store, tmp_path)


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
    assert "mlflow.pyfunc" not in first.stdout + first.stderr
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
