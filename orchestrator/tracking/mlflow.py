"""What happens in a sweep, told to MLflow.

The only file that imports mlflow; the sweep's own files stay the truth and never wait for it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.tracking.outbox import Outbox
from orchestrator.tracking.tracker import Status
from trainables.contract.artifacts import EPOCH_METRICS, FUSED, TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.errors import UserError

log = logging.getLogger(__name__)

MLFLOW_STATUS: dict[Status, str] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "pruned": "KILLED",
    "discarded": "KILLED",
}

SQLITE = "sqlite:///"
METRICS_PER_CALL = 1000  # limits of MLflow's log_batch
PARAMS_PER_CALL = 100
LONGEST_PARAM = 6000  # characters
FOLDER = "folder"
"""Tag of a finished trial's run: where the trial left its files."""
WEIGHTS = "checkpoint"
"""Folder of the artifacts with the weights of a dense trial, from which others can start: as large
again as its deploy form. Sparse ones keep theirs in their folders alone.
"""
TRANSIENT_CODES = (
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "IO_ERROR",
)


class MLflowTracker:
    """One parent run for the sweep, one child run for each trial and ensemble, written by a thread
    about once a second.

    A server that goes away is tried again until the sweep ends, and then for `patience` seconds
    more.
    """

    def __init__(self, uri: str, experiment: str, *, patience: float = 30.0) -> None:
        self.uri = absolute_uri(uri)
        self.experiment = experiment
        self._patience = patience
        self._client: Any = None
        self._experiment_id = ""
        self._parent = ""
        self._sweep = ""
        # trials whose end MLflow knew when the sweep was opened
        self._settled: set[str] | None = None
        self._runs: dict[str, str] = {}  # trial -> run id; touched by the outbox thread only
        self._logged: dict[str, set[int]] = {}  # trial -> epochs that MLflow already has
        # trial -> (time in ms, epoch, metrics), not yet written
        self._epochs: dict[str, list[tuple[int, int, dict[str, float]]]] = {}
        self._lock = threading.Lock()  # of _epochs
        self._outbox: Outbox | None = None

    def start_sweep(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        errors = load_mlflow()  # before the attempt: what it may raise must be known when it does
        try:
            self._client = open_client(self.uri)
            self._experiment_id = _experiment(self._client, self.uri, self.experiment)
            self._sweep = name
            self._parent = self._open({**tags, "kind": "sweep", "sweep": name}, name, dict(params))
        except errors as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"tracking.uri: must be an MLflow store that answers, got '{self.uri}': {reason}"
            ) from error
        self._outbox = Outbox(_is_transient)

    def start_trial(
        self, trial: str, cell: str, config: TrialConfig, axes: Mapping[str, Any]
    ) -> None:
        tags = {"mlflow.parentRunId": self._parent, "kind": "trial", "trial": trial}
        described = {
            "cell": cell,
            "backbone": config.model.backbone,
            "stream": config.data.stream_name,
            "sparsity": config.sparsity.described,
            "stage": "train",
            **{f"axis.{axis}": str(value) for axis, value in axes.items()},
        }

        def operation() -> None:
            self._runs[trial] = self._open(
                tags,
                f"{cell} {config.digest()[:4]}",
                flatten(config.model_dump(mode="json")),
                described,
            )
            self._logged[trial] = self._known_epochs(self._runs[trial])

        self._put(f"start of trial {trial}", operation)

    def log_epoch(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        with self._lock:
            self._epochs.setdefault(trial, []).append(
                (int(time.time() * 1000), epoch, dict(metrics))
            )
        # takes along all that wait by then
        self._put(f"epochs of trial {trial}", lambda: self._write_epochs(trial))

    def finish_trial(self, trial: str, folder: TrialDir, status: Status, reason: str = "") -> None:
        def operation() -> None:
            run = self._run(trial)
            self._write_epochs(trial)
            now = int(time.time() * 1000)
            # reported, but lost with a dead sweep
            self._write_missing(
                trial, [(now, epoch, metrics) for epoch, metrics in _history(folder)]
            )
            if status == "finished":
                self._write_metrics(run, final_metrics(folder))
            if reason:
                self._client.set_tag(run, "reason", reason[:LONGEST_PARAM])
            for path in _trial_files(folder):
                self._client.log_artifact(run, str(path))
            if status == "finished":
                self._client.set_tag(run, FOLDER, str(folder.path.absolute()))
                if folder.load_config().sparsity.dense and folder.kept_file.is_file():
                    self._client.log_artifact(run, str(folder.kept_file), WEIGHTS)
            with tempfile.TemporaryDirectory() as drawn:
                for picture in _draw(folder, Path(drawn)):
                    self._client.log_artifact(run, str(picture), "figures")
            self._client.set_terminated(run, MLFLOW_STATUS[status])

        self._put(f"end of trial {trial}", operation)

    def knows_end(self, trial: str) -> bool:
        if self._settled is None:
            self._settled = self._ended_trials()
        return trial in self._settled

    def log_ensemble(
        self,
        name: str,
        members: Sequence[str],
        metrics: Mapping[str, float],
        folder: Path,
        bundle: Path | None = None,
    ) -> None:
        tags = {"mlflow.parentRunId": self._parent, "kind": "ensemble", "ensemble": name}

        def operation() -> None:
            result = folder / "result.json"
            digest = (
                hashlib.sha256(result.read_bytes()).hexdigest()[:12] if result.is_file() else ""
            )
            if digest and self._find({**tags, "result": digest}, "FINISHED"):
                return  # the same ensemble was delivered by an earlier run of the sweep
            run = self._open(
                tags, name, {}, {"stage": "ensemble", "members": " ".join(members)[:LONGEST_PARAM]}
            )
            self._write_metrics(run, metrics)
            for path in sorted(each for each in folder.iterdir() if each.is_file()):
                self._client.log_artifact(run, str(path))
            if bundle is not None:
                self._register(run, f"{self._sweep}.{name}", bundle)
            self._client.set_tag(run, "result", digest)
            self._client.set_terminated(run, "FINISHED")

        self._put(f"ensemble {name}", operation)

    def _register(self, run: str, name: str, bundle: Path) -> None:
        """Log the bundle as a pyfunc model under `run` and register it; the packages it needs
        travel with it.
        """
        import mlflow

        packages = Path(__file__).parents[1]
        mlflow.set_tracking_uri(self.uri)
        # Recorded, not filtered: MLflow sets filters of its own. It would like to check clips,
        # which may be of any length.
        with warnings.catch_warnings(record=True), mlflow.start_run(run_id=run):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(packages / "tracking" / "pyfunc_model.py"),
                artifacts={"bundle": str(bundle)},
                code_paths=[str(packages), str(packages.parent / "trainables")],
                pip_requirements=[
                    "mlflow",
                    "numpy",
                    "pandas",
                    "pyarrow",
                    "pydantic",
                    "pyyaml",
                    "scipy",
                    "torch",
                ],
            )
        if not self._client.search_registered_models(f"name = {_quoted(name)}"):
            self._client.create_registered_model(name)
        # the fluent way of registering prints
        self._client.create_model_version(name, logged.model_uri, run)

    def finish_sweep(
        self, status: Status, metrics: Mapping[str, float], report: Path | None
    ) -> tuple[str, ...]:
        def operation() -> None:
            self._write_metrics(self._parent, metrics)
            if report is not None:
                self._client.log_artifacts(self._parent, str(report), "report")
            for run in self._find({"mlflow.parentRunId": self._parent}, "RUNNING"):
                self._client.set_terminated(run, "KILLED")
            self._client.set_terminated(self._parent, MLFLOW_STATUS[status])

        self._put("end of the sweep", operation)
        assert self._outbox is not None
        missing = self._outbox.close(self._patience)
        if missing:
            log.warning(
                "MLflow at %s lacks: %s. The files of the sweep are complete.",
                self.uri,
                "; ".join(missing),
            )
        return missing

    def link(self) -> str:
        """The charts of this sweep's trials in MLflow's pages, relative to the server's address;
        the plain table shows no metrics at first.
        """
        where = f"searchFilter=tags.%60mlflow.parentRunId%60%20%3D%20'{self._parent}'"
        order = "orderByKey=metrics.%60best%2Fselection_top1%60&orderByAsc=false"
        return f"#/experiments/{self._experiment_id}/runs?{where}&{order}&compareRunsMode=CHART"

    def _put(self, label: str, operation: Any) -> None:
        assert self._outbox is not None, "start_sweep comes first"
        self._outbox.put(label, operation)

    def _open(
        self,
        identity: Mapping[str, str],
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Id of the run with the tags `identity`: the one that is there, RUNNING again, or a new
        one.
        """
        from mlflow.entities import Param

        found = self._find(identity)
        if found:
            run: str = found[0]
            self._client.update_run(run, status="RUNNING")
        else:
            run = self._client.create_run(
                self._experiment_id, tags={**identity, **(tags or {})}, run_name=name
            ).info.run_id
        known = self._client.get_run(run).data.params if found else {}
        entries = [
            Param(key, str(value)[:LONGEST_PARAM])
            for key, value in params.items()
            if key not in known
        ]
        for start in range(0, len(entries), PARAMS_PER_CALL):
            self._client.log_batch(run, params=entries[start : start + PARAMS_PER_CALL])
        return run

    def _ended_trials(self) -> set[str]:
        """Trials of this sweep whose runs are closed for good; none where the store does not
        answer: they are then told again.
        """
        try:
            runs = [
                run
                for status in ("FINISHED", "FAILED")
                for run in self._find({"mlflow.parentRunId": self._parent, "kind": "trial"}, status)
            ]
            return {self._client.get_run(run).data.tags["trial"] for run in runs}
        except load_mlflow() as error:
            log.warning(
                "MLflow at %s does not say which trials it knows: %s",
                self.uri,
                str(error).splitlines()[0],
            )
            return set()

    def _find(self, tags: Mapping[str, str], status: str | None = None) -> list[str]:
        """Ids of the runs that carry all `tags`, oldest first."""
        terms = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()]
        terms += [f"attributes.status = '{status}'"] if status else []
        found: list[str] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                " and ".join(terms),
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += [run.info.run_id for run in page]
            token = page.token
            if not token:
                return found

    def _known_epochs(self, run: str) -> set[int]:
        """The epochs that were written to `run` before."""
        known = self._client.get_run(run).data.metrics
        for key in EPOCH_METRICS:
            if key in known:
                return {metric.step for metric in self._client.get_metric_history(run, key)}
        return set()

    def _run(self, trial: str) -> str:
        if trial not in self._runs:
            raise UserError(f"trial {trial}: its run could not be opened")
        return self._runs[trial]

    def _write_epochs(self, trial: str) -> None:
        """Deliver the epochs of `trial` that wait, but for those that an earlier attempt of the
        sweep has written.
        """
        with self._lock:
            waiting = list(self._epochs.get(trial, ()))
        self._write_missing(trial, waiting)
        with self._lock:
            del self._epochs.get(trial, [])[: len(waiting)]

    def _write_missing(
        self, trial: str, entries: Sequence[tuple[int, int, dict[str, float]]]
    ) -> None:
        """Write the entries (time in ms, epoch, metrics) whose epochs MLflow does not have yet, as
        many at a time as a call may hold.
        """
        run, logged = self._run(trial), self._logged[trial]
        new = [entry for entry in entries if entry[1] not in logged]
        step = METRICS_PER_CALL // max((len(metrics) for _, _, metrics in new), default=1)
        for start in range(0, len(new), step):
            written = new[start : start + step]
            self._client.log_batch(run, metrics=_metrics(written))
            logged.update(epoch for _, epoch, _ in written)

    def _write_metrics(self, run: str, metrics: Mapping[str, float]) -> None:
        self._client.log_batch(run, metrics=_metrics([(int(time.time() * 1000), 0, dict(metrics))]))


def absolute_uri(uri: str) -> str:
    """`sqlite:///relative.db` with the path made absolute, so that every process means the same
    file; other addresses as they are.
    """
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


def ui_command(uri: str, host: str, port: int) -> list[str]:
    """The command line that serves MLflow's interface on the store at `uri`; a server that already
    runs is an error that names it.
    """
    if uri == "none":
        raise UserError("tracking.uri: is none, this sweep was not recorded in MLflow")
    if uri.startswith(("http://", "https://")):
        raise UserError(f"tracking.uri: {uri} is a server already, open it in a browser")
    return [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        absolute_uri(uri),
        "--host",
        host,
        "--port",
        str(port),
    ]


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"lr": 0.1}} -> {"train.lr": 0.1}."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat


def final_metrics(folder: TrialDir) -> dict[str, float]:
    """What a finished trial is compared by: the kept epoch under `best/`, each level's top-1 under
    `level/`, the deploy form under `deploy_`.
    """
    result = folder.load()
    known = result.metrics()
    best = {
        f"best/{name}": known[name]
        for name in ("selection_top1", "selection_top5", "selection_loss")
        if name in known
    }
    deploy = (
        "params",
        "nonzero_params",
        "bytes",
        "gmacs",
        "peak_mb",
        "latency_ms",
        "batch64_latency_ms",
        "max_abs_diff",
    )
    sizes = ("nonzero_params", *(f"deploy_{name}" for name in deploy), "seconds")
    levels = {
        f"level/{each.level}": each.selection_top1
        for each in result.levels
        if each.selection_top1 is not None and each.level != FUSED
    }
    return {
        **best,
        "best/epoch": known["kept_epoch"],
        **levels,
        **{name: known[name] for name in sizes if name in known},
    }


def _history(folder: TrialDir) -> list[tuple[int, dict[str, float]]]:
    """(epoch, metrics) of a finished trial; nothing for one that never finished."""
    if not folder.metrics_file.is_file():
        return []
    import pyarrow.parquet as pq

    rows = pq.read_table(folder.metrics_file).to_pylist()
    return [
        (
            int(row["epoch"]),
            {name: row[name] for name in EPOCH_METRICS if row.get(name) is not None},
        )
        for row in rows
    ]


def _trial_files(folder: TrialDir) -> list[Path]:
    """The files of a trial that are worth keeping with its run
    and are there; checkpoints are not.
    """
    files = (
        folder.config_file,
        folder.metrics_file,
        folder.deploy_file,
        folder.selection_scores,
        folder.test_scores,
        folder.cost_file,
        folder.sparsity_file,
        folder.levels_file,
        folder.result_file,
        folder.failure_file,
    )
    return [path for path in files if path.is_file()]


def _draw(folder: TrialDir, out: Path) -> list[Path]:
    """Training curves, confusion matrix and kept weights of a trial, as far as its files allow."""
    from orchestrator.report.figures import draw_confusion, draw_curves, draw_kept
    from trainables.contract.scores import Scores

    drawn: list[Path] = []
    if folder.metrics_file.is_file():
        drawn.append(draw_curves({folder.path.name: folder.metrics_file}, out / "curves.png"))
    if folder.sparsity_file.is_file():
        drawn.append(draw_kept(folder.sparsity_file, out / "kept.png"))
    if folder.selection_scores.is_file():
        scores = Scores.load(folder.selection_scores)
        if scores.labels is not None:
            drawn.append(
                draw_confusion(
                    scores.logits.argmax(axis=1),
                    scores.labels,
                    scores.logits.shape[1],
                    out / "confusion.png",
                )
            )
    return drawn


def _metrics(entries: Iterable[tuple[int, int, Mapping[str, float]]]) -> list[Any]:
    """MLflow's metric records of (time in ms, step, metrics)."""
    from mlflow.entities import Metric

    return [
        Metric(key, float(value), when, step)
        for when, step, metrics in entries
        for key, value in metrics.items()
    ]


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def open_client(uri: str) -> Any:
    """A client of the store."""
    if uri.startswith(SQLITE):
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    for chatty in (
        "alembic",
        "mlflow.store.db.utils",
        "mlflow.models.signature",
        "urllib3.connectionpool",
    ):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: Any, uri: str, name: str) -> str:
    """Id of the experiment, made if it is not there; beside a database file its artifacts lie
    beside that file.
    """
    known = client.get_experiment_by_name(name)
    if known is not None:
        if known.lifecycle_stage != "active":
            raise UserError(
                f"tracking.experiment: '{name}' was deleted from {uri}; restore it or give another"
                " name"
            )
        return str(known.experiment_id)
    beside = (
        (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts" / name).as_uri()
        if uri.startswith(SQLITE)
        else None
    )
    return str(client.create_experiment(name, artifact_location=beside))


def load_mlflow() -> tuple[type[Exception], ...]:
    """Load MLflow, quietly, here and nowhere earlier; returns what its calls raise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # the outbox tries again; a single call must not take minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # our standard output is data
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.exceptions import MlflowException

    return (MlflowException, OSError)


def _is_transient(error: Exception) -> bool:
    """True for what a server that is away, restarting or locked answers; False for what would fail
    again.
    """
    code = getattr(error, "error_code", None)
    if code is not None:
        return code in TRANSIENT_CODES
    return isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno is None
    )
