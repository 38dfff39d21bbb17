"""The runs of one experiment: found by their tags, opened, written to. Every call waits for the
store; writing the same twice leaves it once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.tracking.records import FIRST_EPOCH
from trainables.contract.artifacts import EPOCH_METRICS

METRICS_PER_CALL = 1000  # limits of MLflow's log_batch
PARAMS_PER_CALL = 100
LONGEST_PARAM = 6000  # characters

Entry = tuple[int, int, Mapping[str, float]]
"""(time in ms, epoch from 0, metrics)."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of `experiment` (its id), by way of `client`."""

    client: Any
    experiment: str

    def find(self, tags: Mapping[str, str], status: str | None = None) -> list[Any]:
        """The runs that carry all `tags`, oldest first."""
        terms = [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]
        terms += [f"attributes.status = '{status}'"] if status else []
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                " and ".join(terms),
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def open(
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

        runs = self.find(identity)
        if runs:
            run: str = runs[0].info.run_id
            self.client.update_run(run, status="RUNNING")
        else:
            run = self.client.create_run(
                self.experiment, tags={**identity, **(tags or {})}, run_name=name
            ).info.run_id
        known = runs[0].data.params if runs else {}
        entries = [
            Param(key, str(value)[:LONGEST_PARAM])
            for key, value in params.items()
            if key not in known
        ]
        for start in range(0, len(entries), PARAMS_PER_CALL):
            self.client.log_batch(run, params=entries[start : start + PARAMS_PER_CALL])
        return run

    def write_metrics(self, run: str, metrics: Mapping[str, float]) -> None:
        """Those whose last value in the run is another one: an end that is delivered twice is there
        once.
        """
        known = self.client.get_run(run).data.metrics
        new = {key: float(value) for key, value in metrics.items() if known.get(key) != value}
        if new:
            self.client.log_batch(run, metrics=_metrics([(int(time.time() * 1000), 0, new)]))

    def known_epochs(self, run: str) -> set[int]:
        """The epochs, from 0, that were written to `run` before."""
        known = self.client.get_run(run).data.metrics
        for key in EPOCH_METRICS:
            if key in known:
                history = self.client.get_metric_history(run, key)
                return {metric.step - FIRST_EPOCH for metric in history}
        return set()

    def write_epochs(self, run: str, entries: Sequence[Entry], known: set[int]) -> None:
        """The entries whose epochs are not `known`, as many at a time as a call may hold; `known`
        grows by them.
        """
        new = [entry for entry in entries if entry[1] not in known]
        step = METRICS_PER_CALL // max((len(metrics) for _, _, metrics in new), default=1)
        for start in range(0, len(new), step):
            written = new[start : start + step]
            steps = [(when, epoch + FIRST_EPOCH, metrics) for when, epoch, metrics in written]
            self.client.log_batch(run, metrics=_metrics(steps))
            known.update(epoch for _, epoch, _ in written)

    def attach(self, run: str, files: Iterable[Path], folder: str | None = None) -> None:
        """Keep files among the run's artifacts."""
        for path in files:
            self.client.log_artifact(run, str(path), folder)

    def tag(self, run: str, key: str, value: str) -> None:
        self.client.set_tag(run, key, value[:LONGEST_PARAM])


def _metrics(entries: Iterable[tuple[int, int, Mapping[str, float]]]) -> list[Any]:
    """MLflow's metric records of (time in ms, step, metrics)."""
    from mlflow.entities import Metric

    return [
        Metric(key, float(value), when, step)
        for when, step, metrics in entries
        for key, value in metrics.items()
    ]


def quoted(value: str) -> str:
    """A value in MLflow's search language."""
    return f'"{value}"' if "'" in value else f"'{value}'"
