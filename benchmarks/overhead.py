"""What a sweep of short trials takes beside their training, and what its driver does for it.

    python benchmarks/overhead.py [--trials N] [--arm ours|stock]... [--folder DIR] [--json]

Real trials: a narrow HPI-GCN-RP at three levels of sparsity on tiny synthetic recordings, four
epochs, about one second of training on one core, one trial per core, MLflow in a database file.
`ours` is the command `orchestrate sweep`, from its start to its end, ensembles and report included.
`stock` runs the same trials by the same function under Ray Tune as it comes, with Ray's own
MLflowLoggerCallback; it writes neither scores nor files to MLflow.

ideal: the seconds of training of all trials, divided by the number of cores. Other work on the
machine makes training longer, too, but measure on an idle one.
calls: of methods of MLflow's tracking store and of its folder of artifacts, those within another
one not counted: with a server each is at least one request.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

SAMPLE_S = 0.5
LEVELS = (0.0, 0.6, 0.9)
EXPERIMENT = "overhead"
DATABASE = "sqlite:///mlflow.db"
TRAIN = {"epochs": 4, "batch_size": 16, "lr": 0.05, "schedule": "cosine"}
MODEL = {"backbone": "hpi_gcn_rp", "channels": 16, "stages": [1, 1, 1]}
DATA = {
    "store": "store",
    "protocol": "xsub",
    "selection": {"kind": "subject", "fraction": 0.2, "seed": 7},
    "frames": 32,
}
STORE = ("--classes", "5", "--clips-per-class", "24", "--subjects", "8")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--trials", type=int, default=300, help="a multiple of three")
    options.add_argument("--arm", action="append", choices=ARMS, help="which; default: all")
    options.add_argument("--repeat", type=int, default=2, help="passes over the clips per epoch")
    options.add_argument("--folder", type=Path, help="keep everything in this folder")
    options.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options.add_argument("--child", choices=ARMS, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.trials % len(LEVELS):
        options.error(f"--trials must be a multiple of {len(LEVELS)}, got {chosen.trials}")
    if chosen.child:
        child(chosen.child, chosen.trials, chosen.repeat)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).absolute()
        figures = {
            arm: measure(arm, folder / arm, chosen.trials, chosen.repeat)
            for arm in chosen.arm or ARMS
        }
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    for arm, values in figures.items():
        print(arm)
        for name, value in values.items():
            print(f"  {name:60} {value:10,.4g}")


def measure(arm: str, folder: Path, trials: int, repeat: int) -> dict[str, float]:
    """Run one arm in a process of its own, which is the driver."""
    folder.mkdir(parents=True)
    main_of = "from orchestrator.cli import main; main()"
    synth = [sys.executable, "-c", main_of, "data", "synth", "store", *STORE]
    subprocess.run(synth, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, str(Path(__file__).absolute())]
    began = time.monotonic()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*command, "--child", arm, "--trials", str(trials), "--repeat", str(repeat)],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        )
        sampler = Sampler(process.pid)
        while process.poll() is None:
            sampler.sample()
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise SystemExit(f"{arm}: exit code {process.returncode}, see {folder}/output")
    seconds = time.monotonic() - began
    results = list(trial_results(folder))
    if len(results) != trials:
        raise SystemExit(f"{arm}: {len(results)} of {trials} trials have a result")
    training = sum(result["seconds"] for _, result in results)
    ended = sorted(when - time.time() + time.monotonic() - began for when, _ in results)
    counted = json.loads((folder / "counted.json").read_text())
    cores = len(os.sched_getaffinity(0))
    return {
        "trials": trials,
        "training per trial, s": training / trials,
        "whole command, s": seconds,
        "whole command / ideal": seconds * cores / training,
        "until the first trial has ended, s": ended[0],
        "from the first to the last end, s": ended[-1] - ended[0],
        "that / ideal": (ended[-1] - ended[0]) * cores / training * trials / (trials - 1),
        "after the last trial, s": seconds - ended[-1],
        "CPU of all processes per trial, s": sampler.cpu_seconds() / trials,
        "CPU of the driver per trial, s": counted["cpu_s"] / trials,
        **{
            f"{kind}, CPU per trial between those ends, s": used / (trials - 1)
            for kind, used in sampler.cpu_by_kind(ended[0], ended[-1]).items()
        },
        **beside_training(folder),
        "calls per trial": sum(counted["calls"].values()) / trials,
        "driver at a tenth of the trials, MB": sampler.memory_at(ended[trials // 10]),
        "driver at the last trial, MB": sampler.memory_at(ended[-1]),
        "driver at most, MB": sampler.memory_at(None),
    }


def trial_results(folder: Path) -> Iterator[tuple[float, dict[str, Any]]]:
    """(when it was written, result) of every finished trial."""
    for path in folder.glob("**/trials/*/result.json"):
        yield path.stat().st_mtime, json.loads(path.read_text())


class Sampler:
    """Memory of the driver and processor time of everything it started, looked at from outside."""

    def __init__(self, driver: int) -> None:
        self._driver = driver
        self._began = time.monotonic()
        self._family = {driver}
        self._cpu: dict[int, float] = {}
        self._samples: list[tuple[float, float, float]] = []  # of the driver: when, MB, CPU seconds
        self._kinds: dict[int, str] = {driver: "driver"}
        self._used: list[tuple[float, Counter[str]]] = []  # when, CPU seconds so far by kind

    def sample(self) -> None:
        parents, cpu = {}, {}
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            pid = int(place.name)
            parents[pid], cpu[pid] = int(stat[1]), int(stat[11]) + int(stat[12])
        grown = True
        while grown:
            new = {pid for pid, parent in parents.items() if parent in self._family}
            grown = not new <= self._family
            self._family |= new
        tick = os.sysconf("SC_CLK_TCK")
        self._cpu |= {pid: cpu[pid] / tick for pid in self._family & cpu.keys()}
        used_by: Counter[str] = Counter()
        for pid, seconds in self._cpu.items():
            if self._kinds.get(pid) not in ("driver", "workers"):
                self._kinds[pid] = "workers" if runs_trials(pid) else "Ray's own processes"
            used_by[self._kinds[pid]] += seconds
        self._used.append((time.monotonic() - self._began, used_by))
        try:
            pages = int(Path(f"/proc/{self._driver}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        used = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        if used:
            now = time.monotonic() - self._began
            self._samples.append((now, used, self._cpu[self._driver]))

    def cpu_seconds(self) -> float:
        """Of all processes together; the last half second of each may be missing."""
        return sum(self._cpu.values())

    def cpu_by_kind(self, begin: float, end: float) -> dict[str, float]:
        """Seconds between two times of the driver, of workers, and of what Ray starts beside."""
        first, last = (
            min(self._used, key=lambda sample: abs(sample[0] - when))[1] for when in (begin, end)
        )
        return {kind: last[kind] - first[kind] for kind in sorted(last)}

    def memory_at(self, when: float | None) -> float:
        """Megabytes of the driver at `when` seconds, or the most there were."""
        if when is None:
            return max(used for _, used, _ in self._samples)
        return self._at(when)[1]

    def _at(self, when: float) -> tuple[float, float, float]:
        return min(self._samples, key=lambda sample: abs(sample[0] - when))


def runs_trials(pid: int) -> bool:
    """Whether it is, or was until now, a worker of Tune's, by its title."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ImplicitFunc")
    except OSError:
        return False


def beside_training(folder: Path) -> dict[str, float]:
    """Of a trial of ours, in its process, as the journal has it; a new process loads torch."""
    journals = folder.glob("runs/*/journal.jsonl")
    events = [json.loads(line) for path in journals for line in path.read_text().splitlines()]
    ends = [event for event in events if event["event"] == "trial_finished"]
    if not ends:
        return {}
    return {
        "trial beside its training, s (median)": statistics.median(
            end["wall_s"] - end["seconds"] for end in ends
        ),
        "CPU of a trial, s (median)": statistics.median(end["cpu_s"] for end in ends),
    }


def child(arm: str, trials: int, repeat: int) -> None:
    """The driver of one arm, in its folder; leaves `counted.json`."""
    calls: Counter[str] = Counter()
    sys.meta_path.insert(0, CallsCounted(calls))
    try:
        ARMS[arm](trials, repeat)
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        counted = {"cpu_s": used.ru_utime + used.ru_stime, "calls": dict(calls.most_common())}
        Path("counted.json").write_text(json.dumps(counted, indent=2))


STORE_OF_RUNS = "mlflow.store.tracking.sqlalchemy_store"


class CallsCounted(importlib.abc.MetaPathFinder):
    """Counts what MLflow's client asks of its store and its artifacts once the driver loads them:
    loaded here, they would not be loaded beside the start of Ray, as they are without a count.
    """

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls

    def find_spec(
        self, name: str, _path: Any, _target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != STORE_OF_RUNS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_count(module: ModuleType) -> None:
            load(module)
            count_calls(self._calls)

        spec.loader.exec_module = load_and_count  # type: ignore[method-assign]
        return spec


def count_calls(calls: Counter[str]) -> None:
    """Count what MLflow's client asks of its store and its artifacts from now on, in any thread."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.tracking.abstract_store import AbstractStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    within = threading.local()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(within, "depth", 0) == 0:
                calls[name] += 1
            within.depth = getattr(within, "depth", 0) + 1
            try:
                return method(*arguments, **options)
            finally:
                within.depth -= 1

        return call

    here = "shut_down_async_logging"  # asks nobody
    asked = [name for name in vars(AbstractStore) if name[0] != "_" and name != here]
    for owner, names in (
        (SqlAlchemyStore, asked),
        (LocalArtifactRepository, ["log_artifact", "log_artifacts"]),
    ):
        for name in names:
            method = getattr(owner, name)
            if callable(method):
                setattr(owner, name, counted(name, method))


def ours(trials: int, repeat: int) -> None:
    """The command, on a file."""
    from orchestrator.cli import main as orchestrate

    sweep = {
        "version": 1,
        "name": "overhead",
        "data": {**DATA, "repeat": repeat},
        "model": MODEL,
        "parameters": {"sparsity.level": list(LEVELS)},
        "sparsity": {"warmup": 0.5},
        "train": TRAIN,
        "method": {"name": "grid", "seeds": trials // len(LEVELS)},
        "resources": {"gpus": 0, "cpus": 1},
        "tracking": {"uri": DATABASE, "experiment": EXPERIMENT},
        "ensembles": [{"name": "final", "over": "sparsity.level", "method": "mean"}],
    }
    Path("sweep.yaml").write_text(json.dumps(sweep))
    sys.argv = ["orchestrate", "sweep", "sweep.yaml"]
    try:
        orchestrate()
    except SystemExit as end:
        if end.code:
            raise


def stock(trials: int, repeat: int) -> None:
    """Ray Tune as it comes."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    here = Path.cwd()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)

    def train_one(chosen: dict[str, Any]) -> None:
        from trainables.ray_trainable import train

        train(request(here, repeat, chosen))

    space = {
        "sparsity.level": tune.grid_search(list(LEVELS)),
        "seed": tune.grid_search(list(range(trials // len(LEVELS)))),
        **{f"train.{name}": value for name, value in TRAIN.items()},
    }
    tune.Tuner(
        tune.with_resources(train_one, {"cpu": 1}),
        param_space=space,
        run_config=tune.RunConfig(
            name="run",
            storage_path=str(here / "tune"),
            callbacks=[MLflowLoggerCallback(tracking_uri=DATABASE, experiment_name=EXPERIMENT)],
        ),
    ).fit()
    ray.shutdown()


def request(folder: Path, repeat: int, chosen: dict[str, Any]) -> Any:
    """What `orchestrate sweep` sends to a worker for the same trial."""
    from trainables.contract.config import TrialConfig
    from trainables.ray_trainable import TrialRequest

    level, seed = chosen["sparsity.level"], chosen["seed"]
    config = TrialConfig.model_validate(
        {
            "data": {**DATA, "repeat": repeat},
            "model": MODEL,
            "train": TRAIN,
            "sparsity": {"level": level, "warmup": 0.5} if level else {},
            "seed": seed,
        }
    )
    return TrialRequest(
        config=config.model_dump_json(),
        root=str(folder),
        out=str(folder / "trials" / f"{level}-{seed}"),
        source=None,
        cancel_file=str(folder / "cancel"),
        threads=1,
        cpus=1.0,
        gpu_fraction=0.0,
        timed=False,
        start=None,
        leave=[],
        together_s=0.0,
    )


ARMS: dict[str, Callable[[int, int], None]] = {"ours": ours, "stock": stock}


if __name__ == "__main__":
    main()
