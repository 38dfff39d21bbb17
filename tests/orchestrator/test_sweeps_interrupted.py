"""Whole sweeps that are ended halfway: by signals, kills, workers that hang or trials that fail."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.listeners import beyond_loopback
from tests.orchestrator.whole_sweeps import (
    OLD_LOADER,
    SWEEP,
    beside,
    check_finished,
    command,
    events,
    long_trial_is_under_way,
    mlflow_runs,
    start,
    wait_until,
    workers_of,
)

pytestmark = OLD_LOADER


@pytest.fixture
def folder(tmp_path, tiny_store):
    return beside(tiny_store, tmp_path)


@pytest.mark.full
def test_signals_and_kills_of_the_driver_and_of_a_worker_lose_nothing_finished(folder):
    """First SIGUSR1, which Slurm sends before preemption and Tune would take for its own; Ctrl-C is
    sent by other tests here.
    """
    preempted = start(folder)
    wait_until(lambda: long_trial_is_under_way(folder), preempted)
    assert beyond_loopback(preempted.pid) == []
    preempted.send_signal(signal.SIGUSR1)
    _, said = preempted.communicate(timeout=120)
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
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_a_signal_while_ray_starts_is_said_in_a_line_and_leaves_nothing_behind(folder, seconds):
    """Ray's own handler would print its stack and abort."""
    process = start(folder)
    wait_until((folder / "runs/tiny/sweep.yaml").is_file, process)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.count("SIGTERM") == 2, said  # that it came, and why the sweep stopped
    assert "stopped: received SIGTERM" in said
    assert not events(folder, "trial_finished")
    assert not workers_of(process.pid)
    assert not {"cancel", "drain"} & {file.name for file in (folder / "runs/tiny").iterdir()}


@pytest.mark.full
def test_a_signal_to_all_processes_of_a_sweep_ends_it_at_once_and_resumably(folder):
    """As `timeout` and Slurm send it: Ray's own processes end, and nobody waits for them."""
    process = start(folder)
    wait_until(lambda: long_trial_is_under_way(folder), process)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == process.pid:
                os.kill(int(entry.name), signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.count("SIGTERM") == 2, said  # that it came, and why the sweep stopped
    assert "RESTART" not in said
    assert "orchestrate resume tiny" in said
    assert events(folder)[-1]["event"] == "sweep_interrupted"
    assert not events(folder, "trial_failed")
    assert not workers_of(process.pid)


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
        "train.epochs: {values: [2, 800], axis: cell}",
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
    _, said = process.communicate(timeout=120)
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
    text = SWEEP.replace("  train.epochs: {values: [2, 800], axis: cell}\n", SPACE)
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
