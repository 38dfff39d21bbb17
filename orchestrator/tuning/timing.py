"""The latency of a sweep's networks, measured when its trials have ended: every distinct deploy
form once, with no trial beside it, where the trials ran.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from orchestrator.record.copies import place_of
from orchestrator.tracking.tracker import Tracker
from orchestrator.tuning.cluster import Cluster, ClusterLost, Slots
from orchestrator.tuning.sweep_run import SweepRun
from trainables.contract.artifacts import Latency, TrialDir
from trainables.contract.errors import OrchestrateError
from trainables.ray_trainable import time_form

TICK_S = 1.0

Untimed = dict[str, list[TrialDir]]
"""Folders of complete trials without a latency, by what is equal where deploy forms take equally
long.
"""


def untimed(context: SweepRun, *, sparse: bool = True) -> Untimed:
    """What is still to be timed, on kept weights too where `sparse`. What takes as long as a trial
    of the sweep that was timed already is not timed again: it gets that figure.
    """
    waiting: Untimed = {}
    known: dict[str, Latency] = {}
    for trial in context.trials:
        folder = trial.proposal.folder(context.folder)
        result = folder.load_if_complete()
        if result is None or result.cost.deploy_structure is None:
            continue  # a trial of version 0.2 has timed itself
        key = result.cost.equally_long(sparse=sparse) or str(folder.path)
        if result.cost.deploy_latency_ms is None:
            waiting.setdefault(key, []).append(folder)
        elif result.cost.latency_measured == "alone":
            known[key] = Latency.model_validate_json(folder.latency_file.read_bytes())
    for key in known.keys() & waiting.keys():
        _save(known[key], waiting.pop(key), context.tracker)
    return waiting


@dataclass
class Timing:
    """Times forms one after another in a process that has what a trial had."""

    context: SweepRun
    slots: Slots
    cluster: Cluster
    stopped: Callable[[], bool]
    note: Callable[[str], None]

    def run(self, waiting: Untimed) -> None:
        """Write `latency.json` into every folder; what cannot be timed is said and left without."""
        if not waiting or self.stopped():
            return
        forms = f"{len(waiting)} deploy form{'' if len(waiting) == 1 else 's'}"
        self.note(f"timing    {forms}, one at a time")
        worker = ray.remote(time_form).options(
            num_cpus=self.slots.cpus, num_gpus=self.slots.gpus, max_retries=0
        )
        for folders in waiting.values():
            asked = worker.remote(
                place_of(folders[0].deploy_file.absolute()), self.slots.threads, self.slots.gpus
            )
            try:
                answer = self._answer(asked)
            except ClusterLost as error:
                if not self.stopped():
                    self.note(f"warning   latencies were not measured: {error}")
                return
            except (OrchestrateError, ray.exceptions.RayError) as error:
                if self.stopped():  # what stops the sweep may have ended its worker
                    return
                trial, reason = folders[0].path.name, str(error).strip().splitlines()[-1]
                self.note(f"warning   {trial}: its latency was not measured: {reason}")
                continue
            if answer is None:
                return
            _save(Latency.model_validate_json(answer), folders, self.context.tracker)

    def _answer(self, asked: Any) -> str | None:
        """What the worker says; None where the sweep was asked to stop meanwhile."""
        while not ray.wait([asked], timeout=TICK_S)[0]:
            self.cluster.check(signalled=self.stopped())
            self.context.journal.heartbeat()
            if self.stopped():
                ray.cancel(asked, force=True)
                return None
        answer: str = ray.get(asked)
        return answer


def _save(latency: Latency, folders: list[TrialDir], tracker: Tracker) -> None:
    for folder in folders:
        folder.save_latency(latency)
        tracker.log_latency(folder.path.name, latency)
