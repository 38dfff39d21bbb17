"""The runs of one experiment: found by their tags, opened, written to. Every call waits for the
store; writing the same twice leaves it once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.tracking.client import every
from orchestrator.tracking.records import FIRST_EPOCH
from trainables.contract.artifacts import EPOCH_METRICS

ENTITIES_PER_CALL = 1000  # limits of MLflow's log_batch
PARAMS_PER_CALL = 100  # and as many tags, which are never so many
LONGEST_PARAM = 6000  # characters

NOW = "now."
"""Begins the tags of what has another value than when the run began."""

Entry = tuple[int, int, Mapping[str, float]]
"""(time in ms, epoch from 0, metrics)."""

FINAL = -FIRST_EPOCH
"""In place of an epoch: figures of the whole run stand at step 0."""


def final(metrics: Mapping[str, float], when: int | None = None) -> Entry:
    """Figures of a whole run; when: in ms, None: now. The store keeps what is written twice at one
    time once.
    """
    return (int(time.time() * 1000) if when is None else when, FINAL, metrics)


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of `experiment` (its id), by way of `client`."""

    client: Any
    experiment: str

    def find(self, tags: Mapping[str, str], status: str | None = None) -> list[Any]:
        """The runs that carry all `tags`, oldest first."""
        terms = [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]
        terms += [f"attributes.status = '{status}'"] if status else []
        order = ["attributes.start_time ASC"]
        return [
            *every(self.client.search_runs, [self.experiment], " and ".join(terms), order_by=order)
        ]

    def open(
        self,
        identity: Mapping[str, str],
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Id of the run with the tags `identity`: the one that is there, RUNNING again, or a new
        one. A param cannot change: what is another value now stands in the tag `now.NAME`.
        """
        found = self.find(identity)
        info, known = self.start(identity, name, tags or {}, found)
        run: str = info.run_id
        new = {key: params[key] for key in params if key not in known}
        self.write(run, params=new, tags=_changed(found[0].data, params) if found else {})
        return run

    def start(
        self,
        identity: Mapping[str, str],
        name: str,
        tags: Mapping[str, str],
        found: Sequence[Any],
        began: int | None = None,
    ) -> tuple[Any, set[str]]:
        """MLflow's info of the first of the runs that were `found`, RUNNING again, or of a new one,
        and the names of the params that it has. began: when a new one did, in ms; None: now.
        """
        if found:
            self.client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info, set(found[0].data.params)
        made = self.client.create_run(
            self.experiment, start_time=began, tags={**identity, **tags}, run_name=name
        )
        return made.info, set()

    def write(
        self,
        run: str,
        entries: Sequence[Entry] = (),
        known: set[int] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """The entries whose epochs are not `known`, which grows by them, with params and tags, in
        as few calls as their limits allow.
        """
        from mlflow.entities import Param, RunTag

        known = set() if known is None else known
        new = [entry for entry in entries if entry[1] not in known and entry[2]]
        fields = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in (params or {}).items()]
        labels = [RunTag(key, value[:LONGEST_PARAM]) for key, value in (tags or {}).items()]
        while new or fields or labels:
            first, fields = fields[:PARAMS_PER_CALL], fields[PARAMS_PER_CALL:]
            room = ENTITIES_PER_CALL - len(first) - len(labels)
            step = room // max((len(metrics) for _, _, metrics in new), default=1)
            written, new = new[:step], new[step:]
            metrics = _metrics(written)
            self.client.log_batch(run, metrics=metrics, params=first, tags=labels)
            known.update(epoch for _, epoch, _ in written)
            labels = []

    def write_metrics(self, run: str, metrics: Mapping[str, float]) -> None:
        """Those whose last value in the run is another one: an end that is delivered twice is there
        once.
        """
        self.write(run, [final(self.changed(run, metrics))])

    def changed(self, run: str, metrics: Mapping[str, float]) -> dict[str, float]:
        """Those whose last value in the run is another one."""
        known = self.client.get_run(run).data.metrics
        return {key: float(value) for key, value in metrics.items() if known.get(key) != value}

    def known_epochs(self, run: str) -> set[int]:
        """The epochs, from 0, that were written to `run` before."""
        known = self.client.get_run(run).data.metrics
        for key in EPOCH_METRICS:
            if key in known:
                history = self.client.get_metric_history(run, key)
                return {metric.step - FIRST_EPOCH for metric in history}
        return set()

    def attach(self, run: str, files: Iterable[Path], folder: str | None = None) -> None:
        """Keep files among the run's artifacts."""
        within = f"{folder}/" if folder else ""
        self.attach_at(run, {f"{within}{path.name}": path for path in files})

    def attach_at(self, run: str, files: Mapping[str, Path]) -> None:
        """The same, each under the name, with folders, that it has in `files`. Several in one call:
        MLflow asks its store four times in each where the run's artifacts lie.
        """
        if len(files) == 1:
            ((name, path),) = files.items()
            self.client.log_artifact(run, str(path), name.rpartition("/")[0] or None)
        elif files:
            with TemporaryDirectory() as together:
                for name, path in files.items():
                    link = Path(together) / name
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path.absolute())
                self.client.log_artifacts(run, together)


def _changed(data: Any, params: Mapping[str, Any]) -> dict[str, str]:
    """Tags for those params that a run has with another value, or had when it was last opened."""
    now = {key: str(params[key])[:LONGEST_PARAM] for key in params if key in data.params}
    return {
        f"{NOW}{key}": value
        for key, value in now.items()
        if data.tags.get(f"{NOW}{key}", data.params[key]) != value
    }


def _metrics(entries: Iterable[Entry]) -> list[Any]:
    """MLflow's metric records."""
    from mlflow.entities import Metric

    return [
        Metric(key, float(value), when, epoch + FIRST_EPOCH)
        for when, epoch, metrics in entries
        for key, value in metrics.items()
    ]


def quoted(value: str) -> str:
    """A value in MLflow's search language."""
    return f'"{value}"' if "'" in value else f"'{value}'"
