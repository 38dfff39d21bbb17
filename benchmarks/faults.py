"""A sweep whose processes are killed, and how soon a long one goes on.

    python benchmarks/faults.py --kills N [--seed S] [--folder DIR] [--json]
    python benchmarks/faults.py --restart TRIALS [--method random|tpe] [--json]

--kills: real sweeps (tpe and asha, real Ray, narrow networks on tiny synthetic recordings, MLflow
in a database file). At random moments the driver or a worker is killed with SIGKILL; after a
driver's death the same command is given again. Sweeps follow one another until N processes were
killed. Counted are finished trials that were lost, those that were started again, and what is
twice in MLflow: runs of a trial, and steps of a metric.

--restart: the folder of a sweep with so many finished trials, and one that is not, is invented, and
MLflow knows all of them; measured is the command from its start until it would start Ray, and until
it has everything that it prepares meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from invented_sweep import result_of

from orchestrator.record.folder import folder_of, journal_of_run, prepare
from orchestrator.record.journal import read_journal
from orchestrator.record.proposals import propose
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.trials.space import all_trials
from trainables.contract.artifacts import EPOCH_METRICS
from trainables.contract.disk import write_json

TRIALS = 12  # of each of two cells
SWEEP = """
version: 1
name: {name}
data: {{store: {store}, protocol: xsub, frames: 16, selection: {{fraction: 0.3}}}}
parameters:
  data.stream: [joint, bone]
  train.lr: {{min: 0.01, max: 0.2, distribution: log_uniform}}
model: {{backbone: hpi_gcn_op, channels: 8, stages: [1], groups: 4}}
train: {{batch_size: 8, epochs: 12, warmup_epochs: 0}}
method: {{name: {method}, trials_per_cell: {trials}}}
early_terminate: {{type: asha, grace: 2}}
failure: {{max_restarts: 20}}
resources: {{gpus: 0, cpus: 1}}
tracking: {{uri: "sqlite:///mlflow.db", experiment: faults}}
"""
STORE = "--classes 4 --clips-per-class 16 --subjects 4 --views 2 --frames 20 --layout coco17"
MAIN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
SILENT_S = 300.0
"""A sweep in which nothing happens for so long has failed."""


@dataclass
class Sums:
    """What was seen over all sweeps."""

    driver_kills: int = 0
    worker_kills: int = 0
    sweeps: int = 0
    finished: int = 0
    lost: int = 0
    run_again: int = 0
    runs_doubled: int = 0
    steps_doubled: int = 0
    until_running: list[float] = field(default_factory=list)  # seconds after a restart

    @property
    def kills(self) -> int:
        return self.driver_kills + self.worker_kills


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--kills", type=int, default=0, help="how many processes are killed")
    options.add_argument("--restart", type=int, default=0, help="finished trials of a long sweep")
    options.add_argument("--method", choices=("random", "tpe"), default="tpe")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, help="keep everything in this folder")
    options.add_argument("--json", action="store_true", help="print JSON instead of lines")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        figures = killed(folder, chosen.kills, chosen.seed) if chosen.kills else {}
        if chosen.restart:
            figures |= restarted(folder / "long", chosen.restart, chosen.method)
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:48} {value:10,.4g}")


def killed(folder: Path, kills: int, seed: int) -> dict[str, float]:
    """Sweeps among SIGKILLs, until there were so many."""
    make_store(folder)
    sums, rng = Sums(), random.Random(seed)
    while sums.kills < kills:
        name = f"s{sums.sweeps}"
        text = SWEEP.format(name=name, store="store", method="tpe", trials=TRIALS)
        (folder / f"{name}.yaml").write_text(text)
        one_sweep(folder, name, kills, rng, sums)
        sums.sweeps += 1
        print(f"{sums.kills} of {kills} killed, {sums.sweeps} sweeps", file=sys.stderr)
    sums.runs_doubled, sums.steps_doubled = doubled(folder / "mlflow.db")
    return {
        "driver killed": sums.driver_kills,
        "workers killed": sums.worker_kills,
        "sweeps": sums.sweeps,
        "finished trials": sums.finished,
        "finished trials lost": sums.lost,
        "finished trials run again": sums.run_again,
        "MLflow runs doubled": sums.runs_doubled,
        "metric steps doubled": sums.steps_doubled,
        "restart until a trial runs, median s": median(sums.until_running or [float("nan")]),
    }


def make_store(folder: Path) -> None:
    """Tiny synthetic recordings."""
    synth = [*MAIN, "data", "synth", "store", *STORE.split()]
    subprocess.run(synth, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def one_sweep(folder: Path, name: str, kills: int, rng: random.Random, sums: Sums) -> None:
    """The same command again and again, until the sweep is complete."""
    run, results = folder / "runs" / name, dict[str, bytes]()
    while True:
        results |= dict(written(run))
        known, began = len(read_journal(run / "journal.jsonl")), time.time()
        process = start(folder, name)
        ended = one_driver(process, run, known, kills, rng, sums)
        for event in read_journal(run / "journal.jsonl")[known:]:
            if event["event"] == "trial_started":
                sums.run_again += event["trial"] in results
        if known and (first := first_start(run, known)) is not None:
            sums.until_running.append(first - began)
        if ended:
            break
    now = dict(written(run))
    sums.lost += sum(now.get(trial) != content for trial, content in results.items())
    sums.finished += len(now)


def one_driver(
    process: subprocess.Popen[bytes],
    run: Path,
    known: int,
    kills: int,
    rng: random.Random,
    sums: Sums,
) -> bool:
    """Kill what may be killed while a driver lives; whether it came to its end by itself."""
    while sums.kills < kills:
        wait = rng.uniform(0.5, 8.0)
        if not waited(process, run, known, wait):
            break
        victims = [process.pid] if rng.random() < 0.4 else workers_of(process.pid)
        if not victims:
            continue
        victim = rng.choice(victims)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        if victim == process.pid:
            process.wait()
            sums.driver_kills += 1
            return False
        sums.worker_kills += 1
    code = process.wait()
    if code not in (0, 3):
        raise SystemExit(f"{run.name}: exit code {code}, see {run.parents[1]}/output")
    return True


def waited(process: subprocess.Popen[bytes], run: Path, known: int, seconds: float) -> bool:
    """Wait until a trial of this driver runs, and so long more; False where the driver ends."""
    deadline = time.monotonic() + SILENT_S
    while first_start(run, known) is None:
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"{run.name}: no trial started, see {run.parents[1]}/output")
        time.sleep(0.1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    return True


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own."""
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            [*MAIN, "sweep", f"{name}.yaml"],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        )


def first_start(run: Path, known: int) -> float | None:
    """When the first trial started after the first `known` events, in seconds since the epoch."""
    starts = (
        event["time"]
        for event in read_journal(run / "journal.jsonl")[known:]
        if event["event"] == "trial_started"
    )
    return next(starts, None)


def written(run: Path) -> Iterator[tuple[str, bytes]]:
    """(trial, result file) of every finished trial."""
    for path in run.glob("trials/*/result.json"):
        yield path.parent.name, path.read_bytes()


def workers_of(driver: int) -> list[int]:
    """Processes that Ray has started under `driver` and that train a trial now."""
    parents, workers = dict[int, int](), list[int]()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(stat[1])
            if "ImplicitFunc" in (entry / "cmdline").read_text():
                workers.append(int(entry.name))
        except OSError:  # it has ended
            continue

    def descends(process: int) -> bool:
        while process in parents and process != driver:
            process = parents[process]
        return process == driver

    return [worker for worker in workers if descends(worker)]


def doubled(database: Path) -> tuple[int, int]:
    """Runs beyond the first of their trial, and steps beyond the first of their metric."""
    with sqlite3.connect(database) as store:
        runs = Counter(
            store.execute(
                "select parent.value, trial.value from tags trial join tags parent"
                " on parent.run_uuid = trial.run_uuid and parent.key = 'mlflow.parentRunId'"
                " join runs on runs.run_uuid = trial.run_uuid"
                " where trial.key = 'trial' and runs.lifecycle_stage = 'active'"
            )
        )
        keys = ", ".join(f"'{key}'" for key in EPOCH_METRICS)
        steps = Counter(
            store.execute(f"select run_uuid, key, step from metrics where key in ({keys})")
        )
    return sum(runs.values()) - len(runs), sum(steps.values()) - len(steps)


def restarted(folder: Path, trials: int, method: str) -> dict[str, float]:
    """Seconds from the command to the moment before it starts Ray, and until it needs it."""
    folder.mkdir(parents=True)
    make_store(folder)
    os.chdir(folder)
    each = trials // 2 + 1
    text = SWEEP.format(name="long", store="store", method=method, trials=each)
    (folder / "long.yaml").write_text(text)
    sweep = parse_sweep("long.yaml", text)
    names = invent(sweep, trials)
    know(sweep, names)
    starts, ready, used = [], [], []
    for _ in range(3):
        began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", BEFORE_RAY], capture_output=True, text=True)
        try:
            start, end = (float(line) for line in done.stdout.split()[-2:])
        except ValueError:
            raise SystemExit(f"the command ended early: {done.stdout}{done.stderr}") from None
        starts.append(start - began)
        ready.append(end - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        f"restart with {trials} finished trials until Ray starts, s": median(starts),
        "until everything else is ready, s": median(ready),
        "processor time of both, s": median(used),
    }


BEFORE_RAY = """
import contextlib, os, sys, time
from orchestrator.tuning import cluster
def say():
    print(time.time(), flush=True)
@contextlib.contextmanager
def cluster_ahead(*_):
    say()
    yield lambda: (say(), os._exit(0))
cluster.cluster_ahead = cluster_ahead
sys.argv[1:] = ["sweep", "long.yaml"]
from orchestrator.cli import main
main()
"""
"""The command; it says when it would start Ray, and ends when it would wait for it."""


def invent(sweep: Sweep, trials: int) -> list[str]:
    """The folder of the sweep as if all trials but the last had finished; returns their names."""
    run = folder_of(sweep)
    prepare(sweep, run)
    journal = journal_of_run(run)
    planned = all_trials(sweep)
    cells = Counter(trial.proposal.cell for trial in planned)
    journal.append("sweep_started", name=sweep.name, trials=len(planned), slots=cells)
    propose(journal, [trial.proposal for trial in planned[: trials + 1]])
    ends: list[dict[str, Any]] = []
    epochs: list[str] = []
    rng = random.Random(0)
    for trial in planned[:trials]:
        proposal, top1 = trial.proposal, rng.random()
        folder = proposal.folder(run)
        folder.path.mkdir(parents=True)
        folder.config_file.write_text(trial.config.model_dump_json())
        write_json(
            folder.result_file,
            json.loads(result_of(proposal.trial, 100, top1).model_dump_json()),
        )
        ends.append({"trial": proposal.trial, "cell": proposal.cell, "seconds": 60.0})
        for epoch in range(trial.config.total_epochs):
            report = {"trial": proposal.trial, "epoch": epoch, "selection_top1": rng.random()}
            epochs.append(json.dumps(report) + "\n")
    journal.append_all("trial_started", ends)
    journal.append_all("trial_finished", ends)
    (run / "epochs.jsonl").write_text("".join(epochs))
    return [end["trial"] for end in ends]


def know(sweep: Sweep, trials: list[str]) -> None:
    """MLflow's runs of these trials, closed."""
    from orchestrator.tracking.client import experiment_id, open_client

    client = open_client(sweep.tracking.uri)
    experiment = experiment_id(client, sweep.tracking.uri, str(sweep.tracking.experiment))
    mark = json.loads((folder_of(sweep) / "resolved.json").read_text())["mark"]
    own = {"mark": mark, "kind": "sweep", "sweep": sweep.name}
    parent = client.create_run(experiment, tags=own).info.run_id
    for trial in trials:
        tags = {"mlflow.parentRunId": parent, "kind": "trial", "trial": trial}
        client.set_terminated(client.create_run(experiment, tags=tags).info.run_id, "FINISHED")


if __name__ == "__main__":
    main()
