"""A sweep of two small networks through the command, in processes of its own, and what it left.

One of them trains for so many epochs that a signal reaches it long before the last.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.record.journal import read_journal
from orchestrator.tracking.client import open_client
from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import LAYOUTS

SWEEP = """
version: 1
name: tiny
data: {store: data, protocol: xsub, frames: 8, selection: {fraction: 0.3}}
parameters:
  train.epochs: {values: [2, 800], axis: cell}
model: {backbone: hpi_gcn_op, channels: 8, stages: [1], groups: 4}
train: {batch_size: 4, lr: 0.05, warmup_epochs: 0}
resources: {gpus: 0}
tracking: {uri: "sqlite:///mlflow.db?timeout=${PLANTED:-20}"}
ensembles:
  - {name: both, over: train.epochs}
"""


OLD_LOADER = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
)
"""MLflow's tables use an option that its database layer has deprecated."""


def small_store(path):
    """Written there: 4 classes of 16 clips."""
    config = SyntheticConfig(classes=4, clips_per_class=16, subjects=4, views=2, frames=10)
    made = synthetic_recordings(config, LAYOUTS["coco17"])
    write_store(path, made.clips, made.description)
    return path


def beside(store, folder):
    """The folder with the store and the sweep file."""
    (folder / "data").symlink_to(store)
    (folder / "tiny.yaml").write_text(SWEEP)
    return folder


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
    long = [trial for trial in started if "epochs800-" in trial]
    return bool(events(folder, "trial_finished")) and any(
        (trial_folder(folder, trial) / "checkpoint/last.pt").exists() for trial in long
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
    assert sorted(epochs for kind, _, _, epochs in runs if kind == "trial") == [2, 800]
