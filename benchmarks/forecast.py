"""Forecast of time beside what was used, over shortened sweeps of `search_spaces/*_cpu.yaml`.

    python benchmarks/forecast.py [--data DIR] [--runs DIR] [--epochs N] [--json] [SWEEP]...
    python benchmarks/forecast.py --pieces [--data DIR] [--json] [SWEEP]...

Each sweep runs as people run it, but for few epochs, with fewer levels and one seed (`SHORT`).
Before it runs its time is forecast twice: by the built-in figures alone, and corrected by the
sweeps before it. The forecast of all its trials is compared with the processor time that they
took, which other work on the machine hardly changes; the forecast of the whole sweep with the wall
clock, which counts only on an idle machine. Sweeps whose data is not in DIR are left out.

With --pieces no sweep runs. Of every distinct trial that does not start from another one, two
epochs of STEPS steps are trained in this process, and whole trials of the sweep's full length are
put together from the processor time of a step, of an epoch's end and of everything else: for
machines on which whole sweeps take too long or are disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from orchestrator.record.journal import read_journal, running_seconds
from trainables.contract.config import TrialConfig

SPACES = Path(__file__).parents[1] / "search_spaces"
SHORT: dict[str, list[str]] = {
    "backbones_cpu": [],
    "equal_dense_cpu": [],
    "equal_levels_cpu": [],
    "equal_narrow_cpu": [],
    "learned_level_cpu": ["parameters.sparsity.level=[0.0, 0.8, learned]"],
    "mask_generators_cpu": ["parameters.sparsity.level=[0.0, 0.8]"],
    "msr_action3d_cpu": [],
    "multi_level_cpu": ["parameters.sparsity.level=[0.0, 0.8]"],
    "nw_ucla_cpu": ["parameters.sparsity.level=[0.0, 0.95]", "data.repeat=1"],
    "sparse_ablations_cpu": ["parameters.sparsity.level=[0.0, 0.8]"],
    "sparse_streams_cpu": ["parameters.sparsity.level=[0.0, 0.95]"],
    "sparse_tables_cpu": ["parameters.sparsity.level=[0.0, 0.8]"],
    "tickets_cpu": ["parameters.sparsity.level=[0.0, 0.8]"],
}
"""What is changed of each sweep, beside its epochs and seeds."""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("sweeps", nargs="*", metavar="SWEEP", help="all unless given")
    options.add_argument("--data", default="data", help="folder of the stores")
    options.add_argument("--runs", help="folder to run in; a temporary one unless given")
    options.add_argument("--pieces", action="store_true", help="put trials together, run no sweep")
    options.add_argument("--epochs", type=int, default=3, help="of every trial")
    options.add_argument("--json", action="store_true", help="print JSON instead of lines")
    chosen = options.parse_args()
    data = Path(chosen.data).absolute()
    names = [name for name in chosen.sweeps or SHORT if has_data(name, data)]
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(chosen.runs or folder)
        if chosen.pieces:
            found = put_together(names, data)
        else:
            found = [measure(name, data, runs, chosen.epochs) for name in names]
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for figures in found:
        print(", ".join(f"{k} {v:,.3g}" if k != "sweep" else v for k, v in figures.items()))
    for name in ("trials, built in", "trials, corrected", "wall, corrected"):
        errors = [abs(figures[name] - 1) for figures in found if name in figures]
        if not errors:
            continue
        print(f"median error of the forecast of {name}: {100 * median(errors):.0f} %")


def put_together(names: list[str], data: Path) -> list[dict[str, Any]]:
    """The same figures for sweeps of full length, from pieces of their trials."""
    from orchestrator.planning.calibration import Observations, correction_of
    from orchestrator.planning.expected import Expected
    from orchestrator.planning.pace import CPU_PACE, trial_work
    from orchestrator.planning.sizes import Sizes
    from orchestrator.record.times import Times
    from orchestrator.sweep import load_sweep
    from orchestrator.trials.space import all_trials
    from trainables.data.store.cache import open_store

    os.environ["DATA"] = str(data)
    before: list[Times] = []
    found = []
    for name in names:
        sweep = load_sweep(
            SPACES / f"{name}.yaml", ["method.seeds=1", "ensembles=[]", *SHORT[name]]
        )
        store = open_store(sweep.data.store)
        split = store.split(sweep.data.protocol, sweep.data.selection)
        sizes, observed = Sizes(store), Observations()
        expected, correction = Expected(sizes, split, CPU_PACE), correction_of(before)
        used = built_in = corrected = 0.0
        configs = {trial.config.digest(): trial.config for trial in all_trials(sweep)}
        alone = [config for config in configs.values() if config.sparsity.source is None]
        for config in alone:
            pieces, work = seconds_of_pieces(config), trial_work(config, sizes, split)
            told = expected.of(config)
            epoch = work.epoch.steps * pieces["step"] + pieces["end of an epoch"]
            took = pieces["once"] + work.epochs * epoch
            observed.add(told.kind, told.seconds, took)
            used, built_in = used + took, built_in + told.seconds
            corrected += correction.of(told.kind) * told.seconds
        before.insert(0, Times("this machine", observed.correction().kinds))
        found.append(
            {
                "sweep": name,
                "trials": len(alone),
                "cpu s": used,
                "trials, built in": built_in / used,
                "trials, corrected": corrected / used,
            }
        )
        print(found[-1], file=sys.stderr, flush=True)
    return found


STEPS = 8


def seconds_of_pieces(config: TrialConfig) -> dict[str, float]:
    """Processor seconds of a step, of an epoch's end (evaluation, checkpoint) and of everything
    else of a trial, from two short epochs of it.
    """
    import torch

    from trainables.contract.artifacts import TrialDir
    from trainables.data.batches.batches import Batches
    from trainables.run import Setup, run_trial
    from trainables.training.loop import Fit

    torch.set_num_threads(1)
    spent: dict[str, float] = {}
    calls: dict[str, int] = {}

    def timed(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return method(*args, **options)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - began
                calls[name] = calls.get(name, 0) + 1

        return call

    dealt = Batches.epoch

    def first_steps(batches: Any, epoch: int, first_step: int = 0) -> Iterator[Any]:
        return islice(dealt(batches, epoch, first_step), STEPS if batches._training else None)

    changes = {"epochs": 2, "warmup_epochs": 0, "milestones": (1,)}
    train = config.train.model_copy(update=changes)
    short = config.model_copy(update={"train": train})
    with (
        mock.patch.object(Batches, "epoch", first_steps),
        mock.patch.object(Fit, "_train_epoch", timed(Fit._train_epoch, "steps")),
        mock.patch.object(Fit, "_finish_epoch", timed(Fit._finish_epoch, "ends")),
        mock.patch.object(Fit, "_step", timed(Fit._step, "step")),
        tempfile.TemporaryDirectory() as folder,
    ):
        began = time.process_time()
        run_trial(short, TrialDir(Path(folder) / "trial"), Setup(torch.device("cpu")))
        whole = time.process_time() - began
    return {
        "step": spent["steps"] / calls["step"],
        "end of an epoch": spent["ends"] / calls["ends"],
        "once": whole - spent["steps"] - spent["ends"],
    }


def has_data(name: str, data: Path) -> bool:
    """Whether the store of a sweep is there; said where it is not."""
    store = "msr-action3d" if name.startswith("msr") else "nw-ucla"
    there = (data / store / "dataset.json").is_file()
    if not there:
        print(f"{name}: left out, {data / store} is not there", file=sys.stderr)
    return there


def measure(name: str, data: Path, runs: Path, epochs: int) -> dict[str, Any]:
    """Seconds that a sweep is forecast to take and took; ratios are forecast over used."""
    changes = [
        f"train.epochs={epochs}",
        f"train.warmup_epochs={min(1, epochs - 1)}",
        "method.seeds=1",
        "tracking.uri=none",
        "ensembles=[]",
        *SHORT[name],
    ]
    alone = forecast(name, data, [*changes, f"storage={runs / 'nothing'}"])
    corrected = forecast(name, data, [*changes, f"storage={runs}"])
    orchestrate("sweep", name, data, [*changes, f"storage={runs}"])
    events = read_journal(runs / name / "journal.jsonl")
    took = [event for event in events if "cpu_s" in event]
    cpu, wall = sum(each["cpu_s"] for each in took), sum(each["wall_s"] for each in took)
    return {
        "sweep": name,
        "trials": len(took),
        "cpu s": cpu,
        "core share": cpu / wall,
        "forecast, built in": alone["trial_hours"] * 3600,
        "forecast, corrected": corrected["trial_hours"] * 3600,
        "trials, built in": alone["trial_hours"] * 3600 / cpu,
        "trials, corrected": corrected["trial_hours"] * 3600 / cpu,
        "wall s": running_seconds(events),
        "wall, corrected": corrected["wall_hours"] * 3600 / running_seconds(events),
    }


def forecast(name: str, data: Path, changes: list[str]) -> dict[str, Any]:
    """What `plan` says."""
    plan: dict[str, Any] = json.loads(orchestrate("plan", name, data, [*changes], "--json"))
    return plan


def orchestrate(command: str, name: str, data: Path, changes: list[str], *more: str) -> str:
    """Run a command on a sweep; returns what it prints."""
    sets = [part for change in changes for part in ("--set", change)]
    start = "from orchestrator.cli import main; main()"
    call = [sys.executable, "-c", start, command, str(SPACES / f"{name}.yaml")]
    done = subprocess.run(
        [*call, *sets, *more],
        env={**os.environ, "DATA": str(data)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
