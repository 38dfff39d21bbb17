"""Eight sweeps that write to one tracking store at once: PostgreSQL beside SQLite.

    python benchmarks/tracking.py [--writers 8] [--trials 20] [--epochs 40] [--rounds 2] [--json]

Each writer is a process with a tracker of its own, which is told of so many trials and epochs as
fast as it takes them, and then delivers what is left. PostgreSQL is one of our own, see
postgres.py; the stores take turns, and each begins empty. Counted are trials and metric values per
second, warnings of anything that was not delivered or had to be tried again, and what the store
lacks or has twice.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from faults import SWEEP
from postgres import postgres

from orchestrator.sweep import parse_sweep
from orchestrator.trials.space import all_trials
from trainables.contract.artifacts import EPOCH_METRICS, TrialDir


class Warnings(logging.Handler):
    """Counts what the tracker warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def write(
    uri: str, name: str, trials: int, epochs: int, folder: str, begin: Any, told: Any
) -> None:
    """One sweep's writer, in a process of its own."""
    from orchestrator.tracking.client import open_client
    from orchestrator.tracking.mlflow import MLflowTracker

    open_client(uri)  # what it takes to load MLflow is not measured
    heard = Warnings()
    logging.getLogger("orchestrator").addHandler(heard)
    text = SWEEP.format(name=name, store="store", method="random", trials=trials)
    planned = all_trials(parse_sweep("sweep.yaml", text))[:trials]
    begin.wait()
    tracker = MLflowTracker(uri, "writers")
    tracker.start_sweep(name, {"trials": trials}, {"mark": name})
    for trial in planned:
        proposal = trial.proposal
        tracker.start_trial(proposal.trial, proposal.cell, trial.config, proposal.axes, {})
        for epoch in range(epochs):
            tracker.log_epoch(proposal.trial, epoch, dict.fromkeys(EPOCH_METRICS, 0.5))
        tracker.finish_trial(proposal.trial, TrialDir(Path(folder) / proposal.trial), "interrupted")
    lost = tracker.finish_sweep("interrupted", {}, None)
    told.put((len(lost), heard.said))


def measured(uri: str, options: argparse.Namespace) -> dict[str, float]:
    """Rates and faults of one store that begins empty."""
    from orchestrator.tracking.client import experiment_id, open_client

    experiment_id(open_client(uri), uri, "writers")  # its tables are there
    context = multiprocessing.get_context("spawn")
    begin, told = context.Barrier(options.writers + 1), context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        writers = [
            context.Process(
                target=write,
                args=(uri, f"s{number}", options.trials, options.epochs, folder, begin, told),
            )
            for number in range(options.writers)
        ]
        for writer in writers:
            writer.start()
        begin.wait()
        began = time.perf_counter()
        answers = [told.get(timeout=600) for _ in writers]
        for text in sorted({text for _, said in answers for text in said}):
            print(text, file=sys.stderr)
        seconds = time.perf_counter() - began
        for writer in writers:
            writer.join()
    trials = options.writers * options.trials
    missing, double = difference(uri, options)
    return {
        "trials per second": trials / seconds,
        "metric values per second": trials * options.epochs * len(EPOCH_METRICS) / seconds,
        "not delivered": sum(lost for lost, _ in answers),
        "warnings": sum(len(said) for _, said in answers),
        "values missing": missing,
        "values double": double,
    }


def difference(uri: str, options: argparse.Namespace) -> tuple[int, int]:
    """How many metric values the store lacks, and has twice."""
    from sqlalchemy import create_engine, text

    with create_engine(uri).connect() as store:
        rows = store.execute(text("select run_uuid, key, step from metrics"))
        there = Counter(tuple(row) for row in rows if row[1] in EPOCH_METRICS)
    expected = options.writers * options.trials * options.epochs * len(EPOCH_METRICS)
    return expected - len(there), sum(there.values()) - len(there)


def on_sqlite(measure: Callable[[str], dict[str, float]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return measure(f"sqlite:///{folder}/mlflow.db")


def on_postgres(measure: Callable[[str], dict[str, float]]) -> dict[str, float]:
    with postgres() as uri:
        return measure(uri)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=20, help="of each writer")
    parser.add_argument("--epochs", type=int, default=40, help="of each trial")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    stores = {"SQLite": on_sqlite, "PostgreSQL": on_postgres}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in stores}
    for _ in range(options.rounds):
        for name, store in stores.items():
            rounds[name].append(store(lambda uri: measured(uri, options)))
    figures = {
        name: {what: median(each[what] for each in found) for what in found[0]}
        for name, found in rounds.items()
    }
    if options.json:
        print(json.dumps(rounds, indent=2))
        return
    print(f"{'':26}" + "".join(f"{name:>14}" for name in figures))
    for what in next(iter(figures.values())):
        print(f"{what:26}" + "".join(f"{found[what]:14,.1f}" for found in figures.values()))


if __name__ == "__main__":
    main()
