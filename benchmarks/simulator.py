"""CPU seconds to simulate a sweep of 10,000 trials of random search on 200 virtual workers.

    python benchmarks/simulator.py [--trials N] [--workers W] [--stop TYPE]... [--json]

Four levels of sparsity with two searched leaves; 200 recorded curves of 110 epochs per cell, made
up by a formula, so that nearly every trial is looked up as the nearest one. Measured is what
`orchestrate simulate` does for one way to run a sweep after it has read its files: drawing the
trials and their configurations, and playing them through. Reading 800 curves is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

from orchestrator.simulation.compare import play_once
from orchestrator.simulation.curves import Curve, load_curves, save_curves
from orchestrator.simulation.library import Library
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.sweep.leaves import leaves_of
from orchestrator.trials.space import Trial, all_trials
from trainables.contract.artifacts import Cost, TrialResult

RECORDED = 200  # curves per cell
SWEEP = """
version: 1
name: simulated
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.6, 0.8, 0.95, 0.99]
  train.lr: {min: 0.01, max: 0.5, distribution: log_uniform}
  train.weight_decay: {min: 0.0001, max: 0.01, distribution: log_uniform}
train: {epochs: 110}
"""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--trials", type=int, default=10_000, help="in four cells")
    options.add_argument("--workers", type=int, default=200, help="trials at a time")
    options.add_argument("--stop", action="append", help="types of early termination")
    options.add_argument("--json", action="store_true", help="print JSON instead of lines")
    chosen = options.parse_args()
    stops = chosen.stop or ["none", "asha", "median", "after_epochs"]
    figures = measure(chosen.trials, chosen.workers, stops)
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    for name, values in figures.items():
        print(f"{name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in values.items()))


def measure(trials: int, workers: int, stops: list[str]) -> dict[str, dict[str, float]]:
    """Figures by type of early termination, and those of reading the curves."""
    recorded = [recorded_curve(trial) for trial in all_trials(sweep_of(RECORDED, 1, "none"))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.parquet"
        save_curves(recorded, path)
        began = time.process_time()
        curves = load_curves(path)
        figures = {"reading the curves": {"seconds": time.process_time() - began}}
    for stop in stops:
        sweep = sweep_of(trials // 4, 0, stop)
        began = time.process_time()
        drawn = all_trials(sweep)
        ready = time.process_time()
        run = play_once(sweep, Library(curves, sweep, drawn), drawn, workers)
        ended = time.process_time()
        figures[stop] = {
            "seconds": ended - began,
            "of it to draw": ready - began,
            "to play": ended - ready,
            "trials": len(run.played.ends),
            "epochs": run.played.epochs,
            "virtual hours": run.played.seconds / 3600,
        }
    return figures


def sweep_of(per_cell: int, seed: int, stop: str) -> Sweep:
    """Random search of so many trials in each cell."""
    method = f"method={{name: random, trials_per_cell: {per_cell}, seed: {seed}}}"
    return parse_sweep("simulated", SWEEP, [method, f"early_terminate={{type: {stop}}}"])


def recorded_curve(trial: Trial) -> Curve:
    """A curve that comes the higher the nearer the recipe is to one in the middle, and the slower
    the sparser the network is.
    """
    config = trial.config
    level, start, epochs = trial.proposal.axes["sparsity.level"], config.first_kept_epoch, 110
    off = abs(math.log(config.train.lr / 0.07)) + abs(math.log(config.train.weight_decay / 1e-3))
    final, scale = 0.9 - 0.1 * level - 0.05 * off, 2 + 10 * level
    top1 = [final * (1 - math.exp(-(max(e - start, 0) + 1) / scale)) for e in range(epochs)]
    return Curve(
        sweep="made up",
        trial=trial.proposal.trial,
        cell=trial.proposal.cell,
        axes=trial.proposal.axes,
        assignment=trial.proposal.assignment,
        leaves=leaves_of(config),
        seed=trial.proposal.seed,
        epochs=epochs,
        epoch_seconds=60.0,
        metrics={"selection_top1": top1},
        result=result_of(trial.proposal.trial, top1),
    )


def result_of(trial: str, top1: list[float]) -> TrialResult:
    """Of a trial with this curve; what it does not say is 1."""
    sizes = [name for name, field in Cost.model_fields.items() if field.is_required()]
    others = ("selection_top5", "selection_loss", "train_loss", "clips_per_s")
    return TrialResult(
        trial=trial,
        epochs=len(top1),
        kept_epoch=len(top1) - 1,
        selection_clips=100,
        selection_top1=max(top1),
        selection_top1_last=top1[-1],
        seconds=60.0 * len(top1),
        cost=Cost.model_validate(dict.fromkeys(sizes, 1) | {"deploy_folded": "nothing"}),
        **dict.fromkeys(others, 1.0),
    )


if __name__ == "__main__":
    main()
