"""A tracker on a database, and what it holds."""

from __future__ import annotations

from orchestrator.tracking.mlflow import MLflowTracker


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
