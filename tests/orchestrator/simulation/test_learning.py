"""Searches that learn on the virtual clock, beside the others."""

import math

from orchestrator.simulation.compare import compare
from orchestrator.simulation.ways import BASELINE, ways_of
from orchestrator.sweep import parse_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.simulation.made_curves import made_curves

TEXT = """
version: 1
name: learns
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.9]
  train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}
  train.weight_decay: {min: 1.0e-5, max: 1.0e-2, distribution: log_uniform}
sparsity: {warmup: 0.3}
train: {epochs: 9}
method: {name: tpe, trials_per_cell: 24, startup_trials: 6, final_seeds: 2}
early_terminate: {type: asha, grace: 2}
"""


def quality(trial):
    lr, decay = trial.config.train.lr, trial.config.train.weight_decay
    return 1 - 0.2 * abs(math.log10(lr) + 1) - 0.2 * abs(math.log10(decay) + 3), 2.0


def test_tpe_finds_more_on_dense_curves_and_repeats_itself():
    many = parse_sweep("learns.yaml", TEXT, ["method={name: random, trials_per_cell: 150}"])
    curves = made_curves(all_trials(many), quality)

    def load(changes):
        return parse_sweep("learns.yaml", TEXT, changes)

    ways, _ = ways_of(load, ["qmc"], ["none"])
    assert [way.name for way in ways] == [
        "the file's own",
        BASELINE,
        "random + after_epochs",
        "qmc + none",
    ]
    assert [way.sweep.method.trials_per_cell for way in ways] == [24] * 4
    first, again = (compare(ways, curves, 4, 3) for _ in range(2))
    assert first == again
    own, random, _, qmc = first
    assert own.trials == 50  # two cells of 24 trials, and the best of each again
    assert (random.trials, qmc.trials) == (48, 50)
    assert own.stopped > 0
    assert own.regret < random.regret
    assert own.epochs < random.epochs


def test_sparse_cells_wait_until_dense_ones_are_over():
    few = ["sparsity.from=dense", "early_terminate=null"]
    few += ["method.trials_per_cell=4", "method.startup_trials=2"]
    sweep = parse_sweep("learns.yaml", TEXT, few)
    curves = made_curves(all_trials(sweep), quality)
    ways, _ = ways_of(lambda changes: parse_sweep("learns.yaml", TEXT, [*few, *changes]), [], [])
    own = compare(ways, curves, 99, 1)[0]
    assert own.trials == 10
    assert own.seconds == 36.0  # the repeat of a best one waits for the others, in both cells
