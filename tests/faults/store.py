"""As much of an MLflow store as the tracker talks to, with a connection that breaks."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.faults.disk import Disk
from trainables.contract.artifacts import EPOCH_METRICS


@dataclass
class Run:
    """One run, as the store holds it."""

    id: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    # key -> {(timestamp, step, value)}: as in MLflow, an equal row is there once
    metrics: dict[str, dict[tuple[int, int, float], None]] = field(default_factory=dict)
    artifact_uri: str = "mlflow-artifacts:/0"
    artifacts: dict[str, int] = field(default_factory=dict)  # name -> how often it was sent
    contents: dict[str, int] = field(default_factory=dict)  # name -> checksum of what is there

    def seen(self) -> SimpleNamespace:
        last = {key: next(reversed(rows))[2] for key, rows in self.metrics.items()}
        return SimpleNamespace(
            info=SimpleNamespace(
                run_id=self.id, status=self.status, artifact_uri=self.artifact_uri
            ),
            data=SimpleNamespace(tags=dict(self.tags), params=dict(self.params), metrics=last),
        )

    def steps(self) -> Counter[tuple[str, int]]:
        """How often each step of each metric of an epoch is there."""
        return Counter(
            (key, step)
            for key, rows in self.metrics.items()
            if key in EPOCH_METRICS
            for _, step, _ in rows
        )


class Page(list[Any]):
    token = None


class Server:
    """The store behind the connection; outlives every driver."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.experiments: dict[str, str] = {}
        self.experiment_tags: dict[str, str] = {}  # of the only one

    def get_experiment(self, experiment: str) -> SimpleNamespace:
        return SimpleNamespace(experiment_id=experiment, tags=dict(self.experiment_tags))

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        self.experiment_tags[key] = value

    def delete_experiment_tag(self, experiment: str, key: str) -> None:
        del self.experiment_tags[key]

    def get_experiment_by_name(self, name: str) -> Any:
        known = self.experiments.get(name)
        stage = "active"
        return known and SimpleNamespace(experiment_id=known, lifecycle_stage=stage)

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def search_runs(
        self, experiments: Iterable[str], wanted: str, order_by: Any, page_token: Any
    ) -> Page:
        tags = dict(re.findall(r"tags\.`([^`]*)` = '([^']*)'", wanted))
        statuses = re.findall(r"attributes\.status = '(\w+)'", wanted)
        return Page(
            run.seen()
            for run in self.runs.values()
            if tags.items() <= run.tags.items() and run.status in (statuses or [run.status])
        )

    def create_run(
        self, experiment: str, start_time: int | None, tags: Mapping[str, str], run_name: str
    ) -> Any:
        run = Run(f"run{len(self.runs)}", dict(tags))
        self.runs[run.id] = run
        return run.seen()

    def delete_run(self, run: str) -> None:
        del self.runs[run]

    def update_run(self, run: str, status: str) -> None:
        self.runs[run].status = status

    set_terminated = update_run

    def log_batch(
        self,
        run: str,
        metrics: Iterable[Any] = (),
        params: Iterable[Any] = (),
        tags: Iterable[Any] = (),
    ) -> None:
        self.runs[run].tags |= {tag.key: tag.value for tag in tags}
        rows = self.runs[run].metrics
        for metric in metrics:
            row = (metric.timestamp, metric.step, metric.value)
            rows.setdefault(metric.key, {})[row] = None
        self.runs[run].params |= {param.key: param.value for param in params}

    def get_run(self, run: str) -> Any:
        return self.runs[run].seen()

    def get_metric_history(self, run: str, key: str) -> list[Any]:
        return [SimpleNamespace(step=step) for _, step, _ in self.runs[run].metrics.get(key, ())]

    def log_artifact(self, run: str, path: str, folder: str | None) -> None:
        file = Path(path)
        content = zlib.crc32(file.read_bytes())
        name = f"{folder}/{file.name}" if folder else file.name
        sent = self.runs[run].artifacts
        sent[name] = sent.get(name, 0) + 1
        self.runs[run].contents[name] = content

    def log_artifacts(self, run: str, path: str, folder: str | None = None) -> None:
        """The report of a sweep is not looked at."""
        for file in sorted(Path(path).rglob("*")) if folder is None else ():
            if not file.is_dir():
                within = file.relative_to(path).parent.as_posix()
                self.log_artifact(run, str(file), None if within == "." else within)

    def set_tag(self, run: str, key: str, value: str) -> None:
        self.runs[run].tags[key] = value

    def delete_tag(self, run: str, key: str) -> None:
        del self.runs[run].tags[key]


class Client:
    """A process's connection to the server: a call may not arrive, its answer may not come back,
    and the process may die in it.
    """

    def __init__(self, server: Server, disk: Disk, rng: random.Random, lossy: float) -> None:
        """lossy: probability that a call, or its answer, is lost."""
        self._server = server
        self._disk = disk
        self._rng = rng
        self._lossy = lossy

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._server, name)

        def made(*arguments: Any, **options: Any) -> Any:
            if self._rng.random() < self._lossy:
                raise ConnectionError("the server does not answer")
            process = self._disk.process
            assert process is not None
            answer = process.operate(lambda: call(*arguments, **options))
            if self._rng.random() < self._lossy:
                raise ConnectionError("the answer is lost")
            return answer

        return made
