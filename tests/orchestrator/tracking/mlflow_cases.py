"""A tracker on a database, and what it holds."""

from __future__ import annotations

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.tracking.mlflow import MLflowTracker
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.artifacts import Latency, TrialDir

LATENCY = Latency(
    deploy_latency_ms=1.5,
    deploy_batch64_latency_ms=30.0,
    latency_device="a CPU",
    latency_threads=1,
    latency_measured="alone",
    deploy_structure="abc",
)
BOTH = {"name": "both", "over": "data.stream"}


def opened(uri, experiment, **options):
    tracker = MLflowTracker(uri, experiment, **options)
    tracker.start_sweep("s", {"train.epochs": 3}, {"digest": "abc"})
    return tracker


def start(tracker, folder):
    config = folder.load_config()
    axes = {"data.stream": config.data.stream}
    tracker.start_trial(folder.path.name, "cell", config, axes, {"train.lr": config.train.lr})


def runs(uri, experiment):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def epochs(tracker, folder, steps):
    for step in steps:
        tracker.log_epoch(folder.path.name, step, {"train_loss": 1.0 / (step + 1), "lr": 0.1})


def evaluated(path, *ensembles):
    """Folder and final evaluation of a sweep of two networks and, if asked for, ensembles."""
    made = [Trial("joint", 0.6, wrong_test=(0, 1, 2)), Trial("bone", 0.6, wrong_selection=(0,))]
    run, sweep = make_run(path, made), make_sweep(*ensembles)
    members = collect(run, sweep)
    return run, finalize(run, sweep, members, missing_cells(run, members))


def told(tracker, run):
    """A tracker that knows the trials of a sweep's folder."""
    for path in sorted((run / "trials").iterdir()):
        start(tracker, TrialDir(path))
        tracker.finish_trial(path.name, TrialDir(path), "finished")
    return tracker
