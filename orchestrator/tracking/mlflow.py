"""The tracker that passes what happens in a sweep on to MLflow.

The sweep's own files stay the truth and never wait for it.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.copies import fetch, place_of
from orchestrator.sweep.secrets import expanded
from orchestrator.tracking.client import (
    PLACE,
    absolute_uri,
    is_away,
    load_mlflow,
    may_be_told,
    may_pass,
    reason_of,
    reported,
)
from orchestrator.tracking.model import register, take_title
from orchestrator.tracking.outbox import NotYet, Outbox
from orchestrator.tracking.pages import PARENT, ended_note, model_note, view_page
from orchestrator.tracking.parent import Parent
from orchestrator.tracking.records import (
    artifacts_of,
    described_by,
    described_by_members,
    draw,
    draw_matrix,
    ensemble_metrics,
    ensemble_params,
    final_metrics,
    flatten,
    history_of,
    latency_metrics,
    network_metrics,
    run_name,
)
from orchestrator.tracking.runs import LONGEST_PARAM, Entry, Runs, final
from orchestrator.tracking.tracker import Parcel, Send, Sending, Status
from trainables.contract.artifacts import Latency, TrialDir
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

OPENED_AFTER_S = 2.0
"""The run of a trial that ends sooner is opened with its end, which is a call to the store less."""

FOLDER = "folder"
"""Tag of a finished trial's run: where the trial left its files, a folder or an address."""


@dataclass(slots=True)
class _Trial:
    """A trial that MLflow is told of; all but `waiting` is written by the outbox thread only, `run`
    after what belongs to it: others look there whether it is open.
    """

    name: str  # of its run
    params: Mapping[str, Any]  # that the run lacks
    tags: Mapping[str, str]
    began: int  # ms
    run: str = ""  # its id, once it is open
    new: bool = False  # nothing is in the run that was not written by this tracker
    known: set[int] = field(default_factory=set)  # epochs that MLflow has, and FINAL
    waiting: list[Entry] = field(default_factory=list)  # epochs that are not written yet
    from_anywhere: bool = False  # files can be sent to the run from other machines
    searched: bool = False  # whether the run has to be looked for: it may be there
    ending: bool = False  # its end waits to be delivered, and takes along the epochs that wait
    ended: bool = False

    def forget(self) -> None:
        """Its end is delivered: a sweep may have thousands."""
        self.params, self.tags, self.known, self.ended = {}, {}, set(), True


class MLflowTracker:
    """One parent run for the sweep, one child run for each trial and ensemble, written by a thread
    about once a second.

    A server that is away, also when the sweep starts, is tried again until the sweep ends, and then
    until it has not answered for `patience` seconds.
    """

    def __init__(self, uri: str, experiment: str, *, patience: float = 30.0) -> None:
        self._uri = uri  # variables and password as the file has them: never shown
        self.experiment = experiment
        self._patience = patience
        self._sweep: Parent
        self._client: Any = None
        self._runs: Runs
        self._parent = ""  # id of the sweep's run, once it is open
        self._began = False  # a trial was told of
        # by trial, the end that MLflow knew of when the sweep was opened, in its word
        self._settled: dict[str, str] | None = None
        self._unknown: set[str] = set()  # trials of whose end nobody could be asked
        self._told: set[str] = set()  # trials whose end was delivered since
        self._trials: dict[str, _Trial] = {}
        self._lock = threading.Lock()  # of what waits in _trials
        self._outbox: Outbox | None = None

    def start_sweep(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self._sweep = Parent(self._uri, self.experiment, name, params, tags, self._answered)
        with reported(self._uri):
            try:
                self._open()
            except Exception as error:
                if not is_away(error):
                    self._sweep.take_back()
                    raise
                log.warning(
                    "MLflow at %s does not answer: %s; the sweep begins, and what MLflow lacks is"
                    " delivered once it answers",
                    redacted(self._uri),
                    reason_of(error),
                )
        first = None if self._parent else ("start of the sweep", self._open_late)
        self._outbox = Outbox(may_pass, self._answers, first)
        self._put("view of the sweep", self._show)

    def _open(self) -> None:
        self._sweep.open()
        self._client, self._runs = self._sweep.client, self._sweep.runs
        self._parent = self._sweep.id

    def _open_late(self) -> None:
        with reported(self._uri):
            self._open()
        log.warning("MLflow at %s answers: what it lacks is delivered", redacted(self._uri))

    def _answered(self) -> None:
        if self._outbox is not None:
            self._outbox.answered()

    def _answers(self) -> bool:
        return self._sweep.answers()

    def _show(self) -> None:
        self._sweep.show()

    def start_trial(
        self,
        trial: str,
        cell: str,
        config: TrialConfig,
        axes: Mapping[str, Any],
        searched: Mapping[str, Any],
    ) -> None:
        self._began = True
        before = self._trials.get(trial)
        if before is not None and not before.ended:
            return  # its worker died and another one goes on with it: its run is open
        self._told.discard(trial)  # of one that is tried again, that is its earlier end
        self._trials[trial] = _Trial(
            run_name(cell, config, searched),
            flatten(config.model_dump(mode="json")),
            described_by(cell, config, axes),
            int(time.time() * 1000),
            searched=before is not None,
        )
        if trial not in self._unknown:
            self._put(f"start of trial {trial}", self._opening(trial))

    def _opening(self, trial: str) -> Callable[[], None]:
        """Opens the run of a trial that starts now; later where no node could send files to it
        meanwhile.
        """
        outbox = self._outbox
        assert outbox is not None, "between start_sweep and finish_sweep"
        waits = 0.0 if may_be_told(self._uri) else OPENED_AFTER_S
        due = time.monotonic() + waits

        def operation() -> None:
            if time.monotonic() < due and not outbox.closing and not self._trials[trial].run:
                raise NotYet
            self._write_epochs(trial)

        return operation

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
        *,
        send: Send | None = None,
    ) -> None:
        # the same in every attempt to deliver it: a row that the store has is not doubled
        now = int(time.time() * 1000)
        sending = None if send is None else self._begin(send, trial, folder)
        written = False
        unknown = trial in self._unknown
        self._unknown.discard(trial)
        if (started := self._trials.get(trial)) is not None:  # its worker may never have started
            started.ending = True

        def operation() -> None:
            nonlocal written
            if unknown and self._settled_trials().get(trial) == MLFLOW_STATUS[status]:
                self._told.add(trial)
                return
            told = self._opened(trial)
            if not written:
                write(told)
                written = True
            sent = () if sending is None else sending.sent()
            if sent is None:
                raise NotYet
            self._attach(told, folder, finished=status == "finished", sent=sent)
            self._client.set_terminated(told.run, MLFLOW_STATUS[status])
            told.forget()
            self._told.add(trial)

        def write(told: _Trial) -> None:
            tags = {"reason": reason} if reason else {}
            if stopped_at is not None:
                tags[STOPPED_AT] = str(stopped_at)
            figures: dict[str, float] = {}
            if status == "finished":
                try:
                    figures = final_metrics(folder)
                except Exception:
                    self._write(told, [], {})  # the epochs that waited for it are not lost with it
                    raise
                tags[FOLDER] = place_of(folder.path.absolute())
            if not told.new:
                figures = self._runs.changed(told.run, figures)
                self._forget_reason(told.run, reason)
            # reported, but lost with a dead sweep
            history = [(now, epoch, metrics) for epoch, metrics in history_of(folder)]
            self._write(told, [*history, final(figures, now)], tags)

        self._put(f"end of trial {trial}", operation)

    def _begin(self, send: Send, trial: str, folder: TrialDir) -> Sending | None:
        """Have the files of a finished trial sent from its node, where that can be done now."""
        told = self._trials[trial]
        if not (told.run and told.from_anywhere):
            return None
        try:
            files = artifacts_of(folder, finished=True)
            places = {name: place_of(path.absolute()) for name, path in files.items()}
        except Exception as error:  # of a disk, which is met again when the end is delivered
            log.info("%s: its files are sent from here: %s", trial, error)
            return None
        return send(Parcel(self._uri, told.run, places))

    def knows_end(self, trial: str, status: Status) -> bool:
        if not self._parent:
            self._unknown.add(trial)
            return False
        return self._settled_trials().get(trial) == MLFLOW_STATUS[status]

    def delivered(self, trial: str) -> bool:
        if trial in self._trials:
            return trial in self._told  # another end that MLflow has is that of an earlier try
        return self._settled is not None and trial in self._settled

    def log_latency(self, trial: str, latency: Latency) -> None:
        figures = latency_metrics(latency)
        entry = final(figures)

        def operation() -> None:
            told = self._trials.get(trial)
            if told is not None and told.new:
                self._runs.write(told.run, [entry])
                return
            identity = {PARENT: self._parent, "kind": "trial", "trial": trial}
            for run in self._runs.find(identity)[:1]:
                self._runs.write_metrics(run.info.run_id, figures)

        self._put(f"latency of trial {trial}", operation)

    def expect_evaluation(self) -> None:
        threading.Thread(target=_load_for_models, name="loading", daemon=True).start()

    def log_evaluation(self, run: Path, evaluation: FinalEvaluation, bundle: Path | None) -> None:
        for row in evaluation.rows:
            if row.kind == "ensemble":
                self._log_ensemble(row, run, evaluation)
            else:
                self._log_test(row, TrialDir(run / "trials" / row.trials[0]))
        shipped = evaluation.headline
        if bundle is not None and shipped is not None:
            self._register(shipped, evaluation, bundle)
        if self._outbox is not None:
            self._outbox.hurry()

    def finish_sweep(
        self, status: Status, metrics: Mapping[str, float], report: Path | None
    ) -> tuple[str, ...]:
        if self._outbox is None:
            return ()
        refused = status == "failed" and not self._began and report is None

        def operation() -> None:
            self._runs.write_metrics(self._parent, metrics)
            if report is not None:
                self._client.log_artifacts(self._parent, str(report), "report")
            for child in self._runs.find({PARENT: self._parent}, "RUNNING"):
                self._client.set_terminated(child.info.run_id, "KILLED")
            self._client.set_terminated(self._parent, MLFLOW_STATUS[status])

        patience = 0.0 if refused and not self._parent else self._patience
        last = "end of the sweep", self._sweep.undo if refused else operation
        missing = self._outbox.close(patience, last)
        self._outbox = None
        return missing

    def link(self) -> str:
        """The charts of this sweep's trials in MLflow's pages, relative to the server's address."""
        return view_page(self._runs.experiment, self._parent) if self._parent else ""

    def _put(self, label: str, operation: Any) -> None:
        assert self._outbox is not None, "between start_sweep and finish_sweep"
        self._outbox.put(label, operation)

    def _opened(self, trial: str) -> _Trial:
        """The trial with its run, opened where it is not: whichever call comes through first."""
        told = self._trials[trial]
        if not told.run:
            identity = {PARENT: self._parent, "kind": "trial", "trial": trial}
            # a sweep that is new has no runs of trials
            sought = told.searched or self._sweep.before is not None
            found = self._runs.find(identity) if sought else []
            told.searched = True  # an answer that is lost may leave a run
            info, known = self._runs.start(identity, told.name, told.tags, found, told.began)
            run: str = info.run_id
            told.params = {key: told.params[key] for key in told.params if key not in known}
            told.known = self._runs.known_epochs(run) if found else set()
            told.from_anywhere = may_be_told(self._uri) and _takes_files(info)
            told.run, told.new = run, not found
        return told

    def _write_epochs(self, trial: str) -> None:
        """Deliver the epochs of `trial` that wait, unless its end is about to."""
        if not self._trials[trial].ending:
            self._write(self._opened(trial), [], {})

    def _write(self, told: _Trial, more: Sequence[Entry], tags: Mapping[str, str]) -> None:
        """Deliver the epochs that wait and `more`, but for those that an earlier attempt of the
        sweep has written; of two of one epoch the first.
        """
        with self._lock:
            waiting = list(told.waiting)
        entries = {entry[1]: entry for entry in reversed([*waiting, *more])}
        ordered = [entries[epoch] for epoch in sorted(entries)]
        self._runs.write(told.run, ordered, told.known, params=told.params, tags=tags)
        told.params = {}
        with self._lock:
            del told.waiting[: len(waiting)]

    def _forget_reason(self, run: str, reason: str) -> None:
        """A trial that failed before was tried again."""
        if not reason and "reason" in self._client.get_run(run).data.tags:
            self._client.delete_tag(run, "reason")

    def _attach(
        self, told: _Trial, folder: TrialDir, *, finished: bool, sent: Collection[str]
    ) -> None:
        """Keep a trial's files with its run, but for those that were sent."""
        files = artifacts_of(folder, finished=finished)
        lacks = {name: file for name, file in files.items() if name not in sent}
        fetch(lacks.values())
        self._runs.attach_at(told.run, lacks)

    def _settled_trials(self) -> dict[str, str]:
        if self._settled is None:
            self._settled = self._ended_trials()
        return self._settled

    def _ended_trials(self) -> dict[str, str]:
        """Trials of this sweep whose runs are closed for good, and how; none where the store does
        not answer: they are then told again.
        """
        try:
            return {
                run.data.tags["trial"]: status
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
            return {}

    def _run_of(self, kind: str, name: str) -> str:
        """Id of the run of a trial or an ensemble that was told of, now or in an earlier run of the
        sweep.
        """
        runs = self._runs.find({PARENT: self._parent, "kind": kind, kind: name})
        if not runs:
            raise UserError(f"{kind} {name}: its run could not be opened")
        return str(runs[-1].info.run_id)

    def _log_test(self, row: Row, folder: TrialDir) -> None:
        """A network's test accuracy and its pictures, with the run of the trial that it is. To draw
        those of a trial takes as long as a short trial, so that others have none.
        """

        def operation() -> None:
            run = self._run_of("trial", row.trials[0])
            known = self._client.get_run(run).data.metrics
            # of a run that an earlier version ended, which has them under other names
            lacks = {key: value for key, value in final_metrics(folder).items() if key not in known}
            self._runs.write_metrics(run, lacks | network_metrics(row))
            with tempfile.TemporaryDirectory() as drawn:
                self._runs.attach(run, draw(folder, Path(drawn)), "figures")

        self._put(f"test accuracy of {row.name}", operation)

    def _log_ensemble(self, row: Row, sweep: Path, evaluation: FinalEvaluation) -> None:
        """A run of its own, told apart by its result: one that was evaluated anew replaces it."""
        folder = sweep / "ensembles" / row.name

        def operation() -> None:
            result = (folder / "result.json").read_bytes()
            same = {"result": hashlib.sha256(result).hexdigest()[:12]}
            metrics = ensemble_metrics(sweep, row)
            identity = {PARENT: self._parent, "kind": "ensemble", "ensemble": row.name}
            for old in self._runs.find(identity):
                if old.data.tags.get("result") != same["result"]:
                    self._client.delete_run(old.info.run_id)
                elif old.info.status == "FINISHED" and metrics.keys() <= old.data.metrics.keys():
                    return  # delivered by an earlier run of the sweep, under the names of today
            tags = {
                key: value[:LONGEST_PARAM]
                for key, value in described_by_members(sweep, row).items()
            }
            name = f"{row.name} (ensemble of {len(row.trials)})"
            run = self._runs.open({**identity, **same}, name, ensemble_params(row), tags)
            self._runs.write(run, tags=tags)  # one that was there may lack some
            self._runs.write_metrics(run, metrics)
            with tempfile.TemporaryDirectory() as drawn:
                pictures = draw_matrix(sweep, row, evaluation, Path(drawn))
                self._runs.attach(run, pictures, "figures")
            self._runs.attach(run, sorted(path for path in folder.iterdir() if path.is_file()))
            self._client.set_terminated(run, "FINISHED")

        self._put(f"ensemble {row.name}", operation)

    def _register(self, row: Row, evaluation: FinalEvaluation, bundle: Path) -> None:
        kind, name = ("ensemble", row.name) if row.kind == "ensemble" else ("trial", row.trials[0])
        model = f"{self._sweep.name}.{row.name}"

        def operation() -> None:
            address = absolute_uri(expanded(self._uri, PLACE))
            note = model_note(row, evaluation, model)
            experiment, parent = self._runs.experiment, self._parent
            register(self._client, address, self._run_of(kind, name), model, bundle, note)
            take_title(self._client, parent, self._sweep.name, model)
            self._sweep.describe(ended_note(self._sweep.name, row, model, experiment, parent))

        self._put(f"model {row.name}", operation)


def _load_for_models() -> None:
    """MLflow tries the model that it registers, by torch; networks have pictures. Where one is
    lacking, what needs it says so.
    """
    for name in ("torch", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        with suppress(ImportError):
            import_module(name)


def _takes_files(info: Any) -> bool:
    """Whether a run's artifacts lie where every machine means the same: a folder without a server's
    address is one of the machine's own. info: MLflow's of the run.
    """
    return urlsplit(info.artifact_uri).scheme not in ("", "file")
