"""Forecast of time beside what was used, over shortened sweeps of `search_spaces/*_cpu.yaml`.

    python benchmarks/forecast.py [--data DIR] [--runs DIR] [--epochs N] [--json] [SWEEP]...

Each sweep runs as people run it, but for few epochs, with fewer levels and one seed (`SHORT`).
Before it runs its time is forecast twice: by the built-in figures alone, and corrected by the
sweeps before it. The forecast of all its trials is compared with the processor time that they
took, which other work on the machine hardly changes; the forecast of the whole sweep with the wall
clock, which counts only on an idle machine. Sweeps whose data is not in DIR are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from orchestrator.record.journal import read_journal, running_seconds

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
    options.add_argument("--epochs", type=int, default=3, help="of every trial")
    options.add_argument("--json", action="store_true", help="print JSON instead of lines")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(chosen.runs or folder)
        found = [
            measure(name, Path(chosen.data).absolute(), runs, chosen.epochs)
            for name in chosen.sweeps or SHORT
            if has_data(name, Path(chosen.data))
        ]
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for figures in found:
        print(", ".join(f"{k} {v:,.3g}" if k != "sweep" else v for k, v in figures.items()))
    for name in ("trials, built in", "trials, corrected", "wall, corrected"):
        errors = [abs(figures[name] - 1) for figures in found]
        print(f"median error of the forecast of {name}: {100 * median(errors):.0f} %")


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
