"""Run the trials of a sweep that are not complete yet, as one Tune run.

Knows nothing of ensembles or reports.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from orchestrator.record.journal import Journal
from orchestrator.record.stop_requests import Stop, StopRequests
from orchestrator.sweep import Resources, Sweep
from orchestrator.tracking.tracker import Tracker
from orchestrator.trials.space import Trial
from orchestrator.tuning.callbacks import SweepCallback
from orchestrator.tuning.progress import Progress
from orchestrator.tuning.searcher import SEARCHES, SweepSearcher
from orchestrator.tuning.sources import Sources
from orchestrator.tuning.stopping import SCHEDULERS, signals_cancel, time_budget
from trainables.contract.errors import UserError
from trainables.ray_trainable import TrialRequest, train

SCRATCH = ".tune"
"""Tune's own folder in the sweep's: nothing in it is needed after the run."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What one trial gets, and how many run at once."""

    cpus: float
    gpus: float
    concurrent: int

    @property
    def threads(self) -> int:
        """Threads of one CPU trial; two trials never share a team."""
        return max(1, int(self.cpus))


def run_trials(
    sweep: Sweep,
    trials: Sequence[Trial],
    run: Path,
    journal: Journal,
    tracker: Tracker,
    address: str | None,
    seconds_left: float | None,
    fetched: Mapping[str, Path],
) -> Stop | None:
    """Run every trial whose folder holds no result and no final failure; returns why the run was
    cut short, or None.

    address: HOST:PORT of a Ray cluster to join; None starts Ray on this machine (or joins the
    cluster in RAY_ADDRESS).
    seconds_left: of the sweep's time budget; None is no limit. fetched: folders that stand for
    MLflow runs in `sparsity.from`.
    """
    requests = StopRequests(run)
    requests.clear()
    totals = {
        cell: sum(p.proposal.cell == cell for p in trials)
        for cell in dict.fromkeys(p.proposal.cell for p in trials)
    }
    waiting: dict[str, list[Trial]] = {cell: [] for cell in totals}
    epochs = {p.config.total_epochs for p in trials}
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(totals, epochs.pop() if len(epochs) == 1 else None))
        for trial in trials:
            _sort_in(trial, run, waiting, progress, tracker)
        if not any(waiting.values()):
            return None
        stack.enter_context(_ray(address))
        stack.enter_context(signals_cancel(requests, progress.note))
        stack.enter_context(time_budget(requests, seconds_left, progress.note))
        slots = fit_slots(
            sweep.resources, [node["Resources"] for node in ray.nodes() if node["Alive"]]
        )
        failed = _fit(
            sweep,
            waiting,
            Sources(sweep, run, trials, fetched),
            slots,
            run,
            requests,
            journal,
            tracker,
            progress,
        )
    ended = all(
        p.proposal.trial in failed or p.proposal.folder(run).is_complete()
        for cell in waiting.values()
        for p in cell
    )
    stop = requests.stop()
    requests.clear()
    return None if ended else stop


def _sort_in(
    trial: Trial,
    run: Path,
    waiting: dict[str, list[Trial]],
    progress: Progress,
    tracker: Tracker,
) -> None:
    """Complete and given-up trials are counted, and told to a tracker that may have missed their
    end; the others wait to run.
    """
    proposal = trial.proposal
    folder = proposal.folder(run)
    if folder.is_complete():
        progress.complete_before(proposal.cell, folder.load())
    elif folder.load_failure() is not None:
        progress.failed_before(proposal.cell)
    else:
        waiting[proposal.cell].append(trial)
        return
    tracker.settle_trial(proposal.trial, proposal.cell, trial.config, proposal.axes, folder)


def _fit(
    sweep: Sweep,
    waiting: Mapping[str, list[Trial]],
    sources: Sources,
    slots: Slots,
    run: Path,
    requests: StopRequests,
    journal: Journal,
    tracker: Tracker,
    progress: Progress,
) -> set[str]:
    """The Tune run itself; returns the trials that failed in it."""

    def request(trial: Trial) -> dict[str, Any]:
        source = sources.folder(trial)
        return dict(
            TrialRequest(
                config=trial.config.model_dump_json(),
                root=str(Path.cwd()),
                out=str(trial.proposal.folder(run).path.absolute()),
                source=None if source is None else str(source),
                cancel_file=str(requests.cancel_file.absolute()),
                threads=slots.threads,
                gpu_fraction=slots.gpus,
            )
        )

    searches = {cell: SEARCHES[sweep.method.name](trials) for cell, trials in waiting.items()}
    pending = [trial.proposal.trial for trials in waiting.values() for trial in trials]
    searcher = SweepSearcher(
        searches,
        request,
        requests.closed,
        pending,
        lambda trial, reason: callback.give_up(trial, reason),
    )
    callback = SweepCallback(run, searcher, journal, tracker, progress)
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": slots.cpus, "gpu": slots.gpus, **_memory(sweep)}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=SCHEDULERS[sweep.early_terminate.type](),
            num_samples=len(pending),
            max_concurrent_trials=slots.concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: str(trial.trial_id),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=str((run / SCRATCH).absolute()),
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=sweep.failure.max_restarts),
            verbose=0,
        ),
    )
    shutil.rmtree(run / SCRATCH, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Tune warns of its own defaults; ours are deliberate
        tuner.fit()
    shutil.rmtree(run / SCRATCH, ignore_errors=True)
    return callback.failed


def _memory(sweep: Sweep) -> dict[str, float]:
    """Ray counts memory in bytes."""
    gigabytes = sweep.resources.per_trial_memory_gb
    return {} if gigabytes is None else {"memory": gigabytes * 2**30}


def fit_slots(wanted: Resources, nodes: Sequence[Mapping[str, float]]) -> Slots:
    """`resources` of the file, "auto" resolved against the cluster's nodes: one GPU per trial where
    there are GPUs, none elsewhere.

    nodes: what each node has, by Ray's names (CPU, GPU, memory in bytes). A trial runs on one node.
    """
    gpus = (
        (1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0)
        if wanted.gpus == "auto"
        else float(wanted.gpus)
    )
    concurrent = sum(_trials_on(node, wanted, gpus) for node in nodes)
    if concurrent < 1:
        have = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs,"
            f" {node.get('memory', 0) / 2**30:.1f} GB"
            for node in nodes
        )
        memory = (
            ""
            if wanted.per_trial_memory_gb is None
            else f" per_trial_memory_gb={wanted.per_trial_memory_gb:g}"
        )
        raise UserError(
            f"resources: one trial must fit on one node, asked for cpus={wanted.cpus:g}"
            f" gpus={gpus:g}{memory}, the nodes have {have}"
        )
    return Slots(wanted.cpus, gpus, min(concurrent, wanted.max_concurrent or concurrent))


def _trials_on(node: Mapping[str, float], wanted: Resources, gpus: float) -> int:
    """How many trials fit on a node at once; a fraction of a GPU is never spread over two."""
    fits = [int(node.get("CPU", 0) // wanted.cpus)]
    if gpus:
        cards = int(node.get("GPU", 0))
        fits.append(cards * int(1 / gpus + 1e-9) if gpus < 1 else int(cards // gpus))
    if wanted.per_trial_memory_gb is not None:
        fits.append(int(node.get("memory", 0) // (wanted.per_trial_memory_gb * 2**30)))
    return min(fits)


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """Ray for the time of the run: quiet, without its usage report, and ended afterwards."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    local: dict[str, Any] = {}
    if where == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        local = {"include_dashboard": False}
    else:
        check_address(where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(address=where, log_to_driver=False, logging_level="error", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--address: Ray must be reachable at {where}: {str(error).splitlines()[0]}"
            ) from error
    try:
        yield
    finally:
        # Ray ends the process where a reference to one of its objects is dropped while it shuts
        # down, and Python collects cycles in whatever
        # thread allocates, such as that which writes to MLflow: so everything is collected before,
        # and nothing meanwhile.
        gc.collect()
        gc.disable()
        try:
            ray.shutdown()
        finally:
            gc.enable()


def check_address(address: str) -> None:
    """UserError where no Ray cluster can be joined, at once: Ray
    itself keeps trying for minutes.
    """
    if address == "auto":
        return
    if "://" in address:
        raise UserError(
            f"--address: must be HOST:PORT of a Ray cluster, got '{address}'; Ray's client protocol"
            " cannot run a sweep: start it on a machine of the cluster, for example with `ray job"
            " submit`"
        )
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--address: must be HOST:PORT of a running Ray cluster, got '{address}': {error}"
        ) from error


RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal and the trials' files are the record
    # signals are ours: the first one lets trials write a checkpoint
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is restored from Tune's snapshot
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
