"""The tracker that passes what happens in a sweep on to MLflow.

The sweep's own files stay the truth and never wait for it.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.sweep.secrets import expanded
from orchestrator.tracking.client import (
    PLACE,
    Answers,
    absolute_uri,
    experiment_id,
    load_mlflow,
    may_pass,
    open_client,
    reason_of,
    reported,
)
from orchestrator.tracking.model import register
from orchestrator.tracking.outbox import Outbox
from orchestrator.tracking.records import (
    described_by,
    draw,
    ensemble_metrics,
    ensemble_params,
    files_of,
    final_metrics,
    flatten,
    history_of,
    network_metrics,
)
from orchestrator.tracking.runs import LONGEST_PARAM, Entry, Runs
from orchestrator.tracking.tracker import Status
from trainables.contract.artifacts import LATENCIES, Latency, TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.errors import UserError
from trainables.contract.secrets import redacted

log = logging.getLogger(__name__)

STOPPED_AT = "stopped_at"
"""Tag of a pruned trial's run: the epochs that it was trained. An interrupted one has none."""

MLFLOW_STATUS: dict[Status, str] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "pruned": "KILLED",
    "discarded": "KILLED",
}

PARENT = "mlflow.parentRunId"
FOLDER = "folder"
"""Tag of a finished trial's run: where the trial left its files."""
WEIGHTS = "checkpoint"
"""Folder of the artifacts with the weights of a dense trial, from which others can start: as large
again as its deploy form. Sparse ones keep theirs in their folders alone.
"""


@dataclass(slots=True)
class _Trial:
    """A trial that MLflow is told of; `run` and `known` are touched by the outbox thread only."""

    name: str  # of its run
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    run: str = ""  # its id, once it is open
    known: set[int] = field(default_factory=set)  # epochs that MLflow has
    waiting: list[Entry] = field(default_factory=list)  # epochs that are not written yet


class MLflowTracker:
    """One parent run for the sweep, one child run for each trial and ensemble, written by a thread
    about once a second.

    A server that goes away is tried again until the sweep ends, and then until it has not answered
    for `patience` seconds.
    """

    def __init__(self, uri: str, experiment: str, *, patience: float = 30.0) -> None:
        self._uri = uri  # variables and password as the file has them: never shown
        self.experiment = experiment
        self._patience = patience
        self._client: Any = None
        self._parent = ""
        self._before: str | None = None  # status of the parent run, None where it is new
        self._began = False  # a trial was told of
        self._sweep = ""
        # trials whose end MLflow knew when the sweep was opened
        self._settled: set[str] | None = None
        self._told: set[str] = set()  # trials whose end was delivered since
        self._trials: dict[str, _Trial] = {}
        self._lock = threading.Lock()  # of what waits in _trials
        self._outbox: Outbox | None = None

    def start_sweep(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        identity = {**tags, "kind": "sweep", "sweep": name}
        with reported(self._uri):
            client = open_client(self._uri)
            self._runs = Runs(client, experiment_id(client, self._uri, self.experiment))
            known = self._runs.find(identity)
            self._before = known[0].info.status if known else None
            self._parent = self._runs.open(identity, name, params)
        self._sweep = name
        outbox = Outbox(may_pass, self._answers)
        self._client = Answers(client, outbox.answered)
        self._runs = Runs(self._client, self._runs.experiment)
        self._outbox = outbox

    def start_trial(
        self, trial: str, cell: str, config: TrialConfig, axes: Mapping[str, Any]
    ) -> None:
        self._began = True
        self._trials[trial] = _Trial(
            f"{cell} {config.digest()[:4]}",
            flatten(config.model_dump(mode="json")),
            described_by(cell, config, axes),
        )
        self._put(f"start of trial {trial}", lambda: self._opened(trial))

    def log_epoch(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        entry = (int(time.time() * 1000), epoch, dict(metrics))
        with self._lock:
            self._trials[trial].waiting.append(entry)
        # takes along all that wait by then
        self._put(f"epochs of trial {trial}", lambda: self._write_epochs(trial))

    def finish_trial(
        self,
        trial: str,
        folder: TrialDir,
        status: Status,
        reason: str = "",
        stopped_at: int | None = None,
    ) -> None:
        def operation() -> None:
            run = self._write_epochs(trial).run
            # reported, but lost with a dead sweep
            now = int(time.time() * 1000)
            history = [(now, epoch, metrics) for epoch, metrics in history_of(folder)]
            self._runs.write_epochs(run, history, self._trials[trial].known)
            if reason:
                self._runs.tag(run, "reason", reason)
            elif "reason" in self._client.get_run(run).data.tags:
                self._client.delete_tag(run, "reason")  # it was tried again
            if stopped_at is not None:
                self._runs.tag(run, STOPPED_AT, str(stopped_at))
            self._runs.attach(run, files_of(folder))
            if status == "finished":
                self._runs.write_metrics(run, final_metrics(folder))
                self._runs.tag(run, FOLDER, str(folder.path.absolute()))
                if folder.load_config().sparsity.dense and folder.kept_file.is_file():
                    self._runs.attach(run, [folder.kept_file], WEIGHTS)
            with tempfile.TemporaryDirectory() as drawn:
                self._runs.attach(run, draw(folder, Path(drawn)), "figures")
            self._client.set_terminated(run, MLFLOW_STATUS[status])
            self._told.add(trial)

        self._put(f"end of trial {trial}", operation)

    def knows_end(self, trial: str) -> bool:
        if self._settled is None:
            self._settled = self._ended_trials()
        return trial in self._settled

    def delivered(self, trial: str) -> bool:
        return trial in self._told or (self._settled is not None and trial in self._settled)

    def log_latency(self, trial: str, latency: Latency) -> None:
        figures = {
            name: value for name in LATENCIES if (value := getattr(latency, name)) is not None
        }

        def operation() -> None:
            identity = {PARENT: self._parent, "kind": "trial", "trial": trial}
            for run in self._runs.find(identity)[:1]:
                self._runs.write_metrics(run.info.run_id, figures)

        self._put(f"latency of trial {trial}", operation)

    def log_evaluation(self, run: Path, evaluation: FinalEvaluation, bundle: Path | None) -> None:
        for row in evaluation.rows:
            if row.kind == "ensemble":
                self._log_ensemble(row, run / "ensembles" / row.name)
            else:
                self._log_test(row)
        shipped = evaluation.headline
        if bundle is not None and shipped is not None:
            self._register(shipped, bundle)

    def finish_sweep(
        self, status: Status, metrics: Mapping[str, float], report: Path | None
    ) -> tuple[str, ...]:
        if self._outbox is None:
            return ()
        refused = status == "failed" and not self._began

        def operation() -> None:
            self._runs.write_metrics(self._parent, metrics)
            if report is not None:
                self._client.log_artifacts(self._parent, str(report), "report")
            for child in self._runs.find({PARENT: self._parent}, "RUNNING"):
                self._client.set_terminated(child.info.run_id, "KILLED")
            self._client.set_terminated(self._parent, MLFLOW_STATUS[status])

        def undo() -> None:
            if self._before is None:
                self._client.delete_run(self._parent)
            else:
                ended = "KILLED" if self._before == "RUNNING" else self._before
                self._client.set_terminated(self._parent, ended)

        self._put("end of the sweep", undo if refused else operation)
        missing = self._outbox.close(self._patience)
        self._outbox = None
        return missing

    def link(self) -> str:
        """The charts of this sweep's trials in MLflow's pages, relative to the server's address;
        the plain table shows no metrics at first.
        """
        where = f"searchFilter=tags.%60{PARENT}%60%20%3D%20'{self._parent}'"
        order = "orderByKey=metrics.%60best%2Fselection_top1%60&orderByAsc=false"
        place = f"#/experiments/{self._runs.experiment}/runs"
        return f"{place}?{where}&{order}&compareRunsMode=CHART"

    def _put(self, label: str, operation: Any) -> None:
        assert self._outbox is not None, "between start_sweep and finish_sweep"
        self._outbox.put(label, operation)

    def _answers(self) -> bool:
        """Whether the store answers the cheapest question there is."""
        try:
            self._client.get_experiment(self._runs.experiment)
        except Exception:
            return False
        return True

    def _opened(self, trial: str) -> _Trial:
        """The trial with its run, opened where it is not: whichever call comes through first."""
        told = self._trials[trial]
        if not told.run:
            identity = {PARENT: self._parent, "kind": "trial", "trial": trial}
            run = self._runs.open(identity, told.name, told.params, told.tags)
            told.known = self._runs.known_epochs(run)
            told.run = run
        return told

    def _write_epochs(self, trial: str) -> _Trial:
        """Deliver the epochs of `trial` that wait, but for those that an earlier attempt of the
        sweep has written.
        """
        told = self._opened(trial)
        with self._lock:
            waiting = list(told.waiting)
        self._runs.write_epochs(told.run, waiting, told.known)
        with self._lock:
            del told.waiting[: len(waiting)]
        return told

    def _ended_trials(self) -> set[str]:
        """Trials of this sweep whose runs are closed for good; none where the store does not
        answer: they are then told again.
        """
        try:
            return {
                run.data.tags["trial"]
                for status in ("FINISHED", "FAILED", "KILLED")
                for run in self._runs.find({PARENT: self._parent, "kind": "trial"}, status)
                if status != "KILLED" or STOPPED_AT in run.data.tags
            }
        except load_mlflow() as error:
            log.warning(
                "MLflow at %s does not say which trials it knows: %s",
                redacted(self._uri),
                reason_of(error),
            )
            return set()

    def _run_of(self, kind: str, name: str) -> str:
        """Id of the run of a trial or an ensemble that was told of, now or in an earlier run of the
        sweep.
        """
        runs = self._runs.find({PARENT: self._parent, "kind": kind, kind: name})
        if not runs:
            raise UserError(f"{kind} {name}: its run could not be opened")
        return str(runs[-1].info.run_id)

    def _log_test(self, row: Row) -> None:
        """A network's test accuracy, with the run of the trial that it is."""

        def operation() -> None:
            self._runs.write_metrics(self._run_of("trial", row.trials[0]), network_metrics(row))

        self._put(f"test accuracy of {row.name}", operation)

    def _log_ensemble(self, row: Row, folder: Path) -> None:
        """A run of its own, told apart by its result: one that was evaluated anew replaces it."""

        def operation() -> None:
            result = (folder / "result.json").read_bytes()
            same = {"result": hashlib.sha256(result).hexdigest()[:12]}
            identity = {PARENT: self._parent, "kind": "ensemble", "ensemble": row.name}
            for old in self._runs.find(identity):
                if old.data.tags.get("result") != same["result"]:
                    self._client.delete_run(old.info.run_id)
                elif old.info.status == "FINISHED":
                    return  # delivered by an earlier run of the sweep
            tags = {"stage": "ensemble", "members": " ".join(row.trials)[:LONGEST_PARAM]}
            run = self._runs.open({**identity, **same}, row.name, ensemble_params(row), tags)
            self._runs.write_metrics(run, ensemble_metrics(row))
            self._runs.attach(run, sorted(path for path in folder.iterdir() if path.is_file()))
            self._client.set_terminated(run, "FINISHED")

        self._put(f"ensemble {row.name}", operation)

    def _register(self, row: Row, bundle: Path) -> None:
        kind, name = ("ensemble", row.name) if row.kind == "ensemble" else ("trial", row.trials[0])

        def operation() -> None:
            address = absolute_uri(expanded(self._uri, PLACE))
            model = f"{self._sweep}.{row.name}"
            register(self._client, address, self._run_of(kind, name), model, bundle)

        self._put(f"model {row.name}", operation)
