"""The fault drill: a sweep on a cluster of three nodes in which everything dies once.

    python benchmarks/drill.py [--trials 24] [--twice] [--sqlite] [--folder DIR] [--json]

Three raylets on this machine (each with a core and a logical GPU, of which every trial asks for a
share, and then computes on the CPU), an MLflow server on a PostgreSQL of the drill's own, and a
sweep whose storage is a small tmpfs where one can be mounted (root), else a folder. In its middle
MLflow's server is away when it begins, a worker process is killed, MLflow's server, a whole node,
and the driver (all with SIGKILL); a second driver is started, and the disk is filled. Afterwards it
is checked that every trial is complete, that its scores are bit for bit those of the same sweep
without faults, that MLflow has one run of each trial, with its files, and every step of every
metric once. Exit code 1 where a check fails.

--twice: two drills at once, which must not disturb each other. --sqlite: without PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from faults import MAIN, make_store, workers_of, written
from postgres import postgres
from servers import LOGICAL_GPUS, RayNodes, TrackingServer, wait_for

from orchestrator.record.journal import read_journal
from trainables.contract.artifacts import EPOCH_METRICS, TrialDir
from trainables.contract.scores import Scores

NAME = "drill"
EPOCHS = 100
DISK_MB = 96
SILENT_S = 400.0
"""A sweep in which nothing happens for so long has failed."""
SWEEP = f"""
version: 1
name: {NAME}
data: {{store: STORE, protocol: xsub, frames: 16, selection: {{fraction: 0.3}}}}
parameters:
  data.stream: [joint, bone]
  train.lr: {{min: 0.01, max: 0.2, distribution: log_uniform}}
model: {{backbone: hpi_gcn_op, channels: 8, stages: [1], groups: 4}}
train: {{batch_size: 8, epochs: {EPOCHS}, warmup_epochs: 0}}
method: {{name: random, trials_per_cell: EACH}}
resources: {{gpus: 0, cpus: 1}}
"""
"""No trial depends on the order in which others end."""


@dataclass
class Seen:
    """What a drill did and found."""

    faults: list[tuple[str, str, str]] = field(default_factory=list)  # what, when, what happened
    checks: list[tuple[str, bool, str]] = field(default_factory=list)  # what, whether, the figures
    seconds: dict[str, float] = field(default_factory=dict)

    def check(self, what: str, holds: bool, figures: str) -> None:
        self.checks.append((what, holds, figures))


class Sweep:
    """The sweep under faults: its driver, its folder, its servers."""

    def __init__(
        self, folder: Path, trials: int, cluster: RayNodes, tracking: TrackingServer
    ) -> None:
        self.folder = folder
        self.trials = trials
        self.cluster = cluster
        self.tracking = tracking
        self.disk = folder / "disk"
        self.run = self.disk / "runs" / NAME
        self.seen = Seen()
        self.first_results: dict[str, bytes] = {}
        self._driver: subprocess.Popen[bytes]

    def command(self, *more: str) -> list[str]:
        return [
            *(*MAIN, "sweep", f"{NAME}.yaml", "--address", self.cluster.address),
            *("--set", f"storage={self.disk / 'runs'}"),
            *("--set", f"tracking.uri={self.tracking.address}", *more),
        ]

    def start(self) -> None:
        with (self.folder / "output").open("ab") as said:
            self._driver = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdout=said,
                stderr=said,
                env=self.cluster.environment,
                start_new_session=True,
            )

    def finished(self) -> int:
        """Trials that have a result; what was seen once may not change."""
        for trial, result in written(self.run):
            self.first_results.setdefault(trial, result)
        return len(self.first_results)

    def wait_finished(self, number: int) -> None:
        """Until so many trials have finished."""

        def there() -> bool:
            if self.finished() >= number:
                return True
            if self._driver.poll() is not None:
                raise SystemExit(f"the driver ended with {self._driver.returncode}: {self.tail()}")
            return False

        wait_for(there, f"{number} finished trials: {self.tail()}", SILENT_S)

    def wait_end(self) -> int:
        """The driver's exit code."""
        return self._driver.wait(SILENT_S)

    def tail(self) -> str:
        return (self.folder / "output").read_text()[-2000:]

    def events(self, kind: str) -> list[dict[str, object]]:
        return [
            event for event in read_journal(self.run / "journal.jsonl") if event["event"] == kind
        ]

    # what goes wrong, each with what happened in words

    def tracking_comes(self) -> str:
        self.tracking.start()
        return "trials ran, and it was started"

    def kill_worker(self) -> str:
        known = len(self.events("trial_restarted"))
        victims: list[int] = []

        def found() -> bool:
            victims.extend(
                worker for node in self.cluster.nodes for worker in workers_of(node.process.pid)
            )
            return bool(victims)

        wait_for(found, "no worker runs a trial", SILENT_S)
        os.kill(victims[0], signal.SIGKILL)
        wait_for(lambda: len(self.events("trial_restarted")) > known, "no restart", SILENT_S)
        return str(self.events("trial_restarted")[-1]["reason"])

    def kill_tracking(self) -> str:
        self.tracking.wait()
        self.tracking.kill()
        number = self.finished()
        self.wait_finished(min(number + 2, self.trials))
        self.tracking.start()
        return "two trials ended without it; it came back"

    def kill_node(self) -> str:
        known = len(self.events("trial_restarted"))
        self.cluster.nodes.pop().kill()
        wait_for(lambda: len(self.events("trial_restarted")) > known, "no restart", SILENT_S)
        again = self.events("trial_restarted")[known:]
        self.cluster.start()
        counted = sum(event.get("counted", True) is not False for event in again)
        return f"{len(again)} restarted, {counted} counted; another node joined"

    def second_driver(self) -> str:
        done = subprocess.run(
            self.command(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=self.cluster.environment,
        )
        refused = done.returncode == 2 and "is being run by process" in done.stderr
        self.seen.check("a second driver is refused", refused, f"exit code {done.returncode}")
        return f"exit code {done.returncode}"

    def kill_driver(self) -> str:
        self._driver.kill()
        self._driver.wait()
        self.start()
        return "the same command again"

    def fill_disk(self) -> str:
        if not os.path.ismount(self.disk):
            return "NOT DRILLED: no tmpfs can be mounted here"
        ballast = self.disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        code = self.wait_end()
        ballast.unlink()
        self.seen.check("a full disk ends the sweep resumably", code == 130, f"exit code {code}")
        self.start()
        return f"exit code {code}; room was made, the same command again"


def shares(sweep: Sweep, short: bool) -> list[tuple[float, str, Callable[[], str]]]:
    """Share of the trials that have finished, what goes wrong then, and how."""
    return [
        (0.1, "MLflow is away at the start", sweep.tracking_comes),
        *([] if short else [(0.15, "a worker is killed", sweep.kill_worker)]),
        *([] if short else [(0.3, "a node is killed", sweep.kill_node)]),
        (0.45, "a second driver", sweep.second_driver),
        (0.45, "the driver is killed", sweep.kill_driver),
        (0.55, "MLflow's server is killed", sweep.kill_tracking),
        *([] if short else [(0.7, "the disk is full", sweep.fill_disk)]),
    ]


def drill(folder: Path, trials: int, *, sqlite: bool, short: bool = False) -> Seen:
    """One drill, and what was found."""
    make_store(folder)
    text = SWEEP.replace("STORE", str(folder / "store")).replace("EACH", str(trials // 2))
    text = text.replace("gpus: 0", "gpus: 0.5")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(LOGICAL_GPUS)
    (folder / f"{NAME}.yaml").write_text(text)
    with ExitStack() as stack:
        rays = stack.enter_context(short_folder())
        stack.enter_context(small_disk(folder / "disk"))
        store = f"sqlite:///{folder / 'mlflow.db'}" if sqlite else stack.enter_context(postgres())
        cluster = RayNodes(rays, folder / "nodes.log")
        tracking = TrackingServer(store, folder, cluster.host)  # off the loopback: nodes send, too
        cluster.environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(folder / "site"), os.environ.get("PYTHONPATH")))
        )
        stack.callback(cluster.end)
        stack.callback(tracking.kill)
        for number in range(2 if short else 3):
            cluster.start()
            cluster.wait(number + 1)
        sweep = Sweep(folder, trials, cluster, tracking)
        began = time.monotonic()
        calm(sweep)
        sweep.seen.seconds["without faults"] = time.monotonic() - began
        began = time.monotonic()
        under_faults(sweep, short=short)
        sweep.seen.seconds["with faults"] = time.monotonic() - began
        check_trials(sweep)
        check_tracking(sweep)
    return sweep.seen


def calm(sweep: Sweep) -> None:
    """The same sweep beside it, in which nothing goes wrong."""
    done = subprocess.run(
        [
            *(*MAIN, "sweep", f"{NAME}.yaml", "--address", sweep.cluster.address),
            *("--set", "storage=calm", "--set", "tracking.uri=none"),
        ],
        cwd=sweep.folder,
        capture_output=True,
        text=True,
        check=False,
        env=sweep.cluster.environment,
    )
    if done.returncode:
        raise SystemExit(f"the sweep without faults ended with {done.returncode}: {done.stderr}")


def under_faults(sweep: Sweep, *, short: bool) -> None:
    sweep.start()
    for share, what, happen in shares(sweep, short):
        sweep.wait_finished(round(share * sweep.trials))
        when = f"{sweep.finished()} of {sweep.trials} finished"
        print(f"{when}: {what}", file=sys.stderr)
        sweep.seen.faults.append((what, when, happen()))
    code = sweep.wait_end()
    sweep.seen.check("the sweep ends with exit code 0", code == 0, f"exit code {code}")
    if code:
        print(sweep.tail(), file=sys.stderr)


def check_trials(sweep: Sweep) -> None:
    """Every trial is there, and its scores are those of the sweep without faults."""
    sweep.finished()
    there = dict(written(sweep.run))
    seen, number = sweep.seen, len(there)
    seen.check("complete trials", number == sweep.trials, f"{number} of {sweep.trials}")
    changed = [trial for trial, content in sweep.first_results.items() if there[trial] != content]
    seen.check("finished trials stayed as they were", not changed, f"{len(changed)} changed")
    reference = sweep.folder / "calm" / NAME
    expected = {path.parent.name for path in reference.glob("trials/*/result.json")}
    other = sum(
        trial not in there
        or not same_scores(sweep.run / "trials" / trial, reference / "trials" / trial)
        for trial in expected
    )
    seen.check("scores as without faults, bit for bit", not other, f"{other} differ")
    best, before = (headline(run) for run in (sweep.run, reference))
    seen.check("the same best", best == before, f"{best[:2]} and {before[:2]}")


def same_scores(one: Path, two: Path) -> bool:
    """Whether two trials have the same logits of the same clips, on both splits."""
    pairs = [
        (Scores.load(getattr(TrialDir(one), name)), Scores.load(getattr(TrialDir(two), name)))
        for name in ("selection_scores", "test_scores")
    ]
    return all(a.ids == b.ids and a.logits.tobytes() == b.logits.tobytes() for a, b in pairs)


def headline(run: Path) -> tuple[str, float, float]:
    """(name, selection, test accuracy) of what the sweep would ship."""
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    best = max(rows, key=lambda row: (row["selection"]["top1"], row["name"]))
    return best["name"], best["selection"]["top1"], best["test"]["top1"]


def check_tracking(sweep: Sweep) -> None:
    """MLflow has one run of each trial and each step of each metric once."""
    from orchestrator.tracking.client import open_client

    client = open_client(sweep.tracking.address)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "tags.kind = 'trial'", max_results=1000)
    lack = sum(not files >= ARTIFACTS for files in runs_of_trials(sweep.tracking.address).values())
    sweep.seen.check("MLflow runs without their files", not lack, str(lack))
    trials = {run.data.tags["trial"] for run in found}
    ended = sum(run.info.status == "FINISHED" for run in found)
    seen = sweep.seen
    seen.check(
        "MLflow runs of trials",
        len(found) == len(trials) == ended == sweep.trials,
        f"{len(found)} of {len(trials)} trials, {ended} finished",
    )
    parents = client.search_runs(experiments, "tags.kind = 'sweep'")
    seen.check("MLflow runs of the sweep", len(parents) == 1, str(len(parents)))
    missing = double = 0
    for run in found:
        for key in EPOCH_METRICS:
            if key in run.data.metrics:
                steps = [each.step for each in client.get_metric_history(run.info.run_id, key)]
                missing += len(set(range(1, EPOCHS + 1)) - set(steps))
                double += len(steps) - len(set(steps))
        missing += EPOCHS * ("train_loss" not in run.data.metrics)
    seen.check("metric steps missing or double", not missing + double, f"{missing} and {double}")


ARTIFACTS = {
    *("config.json", "metrics.parquet", "deploy.pt", "scores.selection.parquet"),
    *("scores.test.parquet", "cost.json", "result.json"),
}
"""Of every trial."""


def runs_of_trials(tracking: str) -> dict[str, set[str]]:
    """Run of each trial -> the artifacts that it has."""
    from orchestrator.tracking.client import open_client

    client = open_client(tracking)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, "tags.kind = 'trial'", max_results=1000)
    names = [run.info.run_id for run in found]
    return {name: {file.path for file in client.list_artifacts(name)} for name in names}


@contextmanager
def short_folder() -> Iterator[Path]:
    """Of a short name, as Ray's sockets need it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk that is soon full, at `folder`; an ordinary folder where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None
        and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def twice(options: Sequence[str]) -> int:
    """Two drills at once; the worse of their exit codes."""
    command = [sys.executable, __file__, *options]
    both = [subprocess.Popen(command) for _ in range(2)]
    return max(process.wait() for process in both)


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--trials", type=int, default=24, help="of the sweep, an even number")
    options.add_argument("--short", action="store_true", help="two nodes, and half of the faults")
    options.add_argument("--twice", action="store_true", help="two drills at once")
    options.add_argument("--sqlite", action="store_true", help="MLflow without PostgreSQL")
    options.add_argument("--folder", type=Path, help="keep what it writes in this new folder")
    options.add_argument("--json", action="store_true", help="print JSON instead of tables")
    chosen = options.parse_args(arguments)
    if chosen.twice:
        given = list(sys.argv[1:] if arguments is None else arguments)
        return twice([option for option in given if option != "--twice"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        seen = drill(folder, chosen.trials, sqlite=chosen.sqlite, short=chosen.short)
    show(seen, as_json=chosen.json)
    return 0 if all(holds for _, holds, _ in seen.checks) else 1


def show(seen: Seen, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(vars(seen), indent=2))
        return
    for what, when, happened in seen.faults:
        print(f"{what:30} {when:20} {happened}")
    print()
    for what, holds, figures in seen.checks:
        print(f"{what:42} {'ok' if holds else 'FAILED':8} {figures}")
    print("\n" + ", ".join(f"{what} {seconds:.0f} s" for what, seconds in seen.seconds.items()))


if __name__ == "__main__":
    raise SystemExit(main())
