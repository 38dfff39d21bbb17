"""Small sweeps: every kind of search and of early stopping, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from orchestrator.sweep import Sweep, parse_sweep

COMMON = """\
version: 1
name: small
data: {store: nowhere, protocol: xsub}
model: {channels: 8, stages: [1, 1]}
train: {epochs: 4, milestones: [2]}
resources: {gpus: 0, cpus: 1}
failure: {max_restarts: 2, tolerated_fraction: 0.9}
seed: 1
"""
STREAMS = "data.stream: [joint, bone]"
RATES = "train.lr: {values: [0.1, 0.2, 0.3, 0.4], axis: trial}"

LOG_RATES = "train.lr: {distribution: log_uniform, min: 0.01, max: 1.0}"
TPE = "method: {name: tpe, trials_per_cell: 4, startup_trials: 2}\n"


@dataclass(frozen=True)
class Scenario:
    """One sweep, and how many trials run at a time."""

    name: str
    parameters: tuple[str, ...]
    more: str = ""
    at_once: int = 2

    @cached_property
    def sweep(self) -> Sweep:
        parameters = "".join(f"  {line}\n" for line in self.parameters)
        return parse_sweep(f"{self.name}.yaml", f"{COMMON}parameters:\n{parameters}{self.more}")


SCENARIOS = (
    Scenario("grid", (STREAMS, "sparsity.level: [0.5, 0.8]")),
    Scenario(
        "random",
        (STREAMS, LOG_RATES),
        "method: {name: random, trials_per_cell: 3}\n",
        at_once=3,
    ),
    Scenario("dense first", (STREAMS, "sparsity.level: [0, 0.5]"), "sparsity: {from: dense}\n"),
    Scenario("asha", (STREAMS, RATES), "early_terminate: {type: asha, eta: 2, grace: 1}\n"),
    Scenario(
        "median",
        (RATES,),
        "early_terminate: {type: median, grace: 1, min_trials: 1}\n",
        at_once=1,
    ),
    Scenario("plateau", (STREAMS, RATES), "early_terminate: {type: plateau, patience: 1}\n"),
    Scenario(
        "after epochs",
        (RATES,),
        "early_terminate: {type: after_epochs, keep: 1, grace: 1}\n",
        at_once=3,
    ),
    Scenario("tpe", (STREAMS, LOG_RATES), TPE),
    Scenario(
        "tpe asha", (STREAMS, LOG_RATES), TPE + "early_terminate: {type: asha, eta: 2, grace: 1}\n"
    ),
    Scenario(
        "beginnings",
        ("sparsity.level: [0.5, 0.8, 0, 0.9]",),
        "sparsity: {penalty: none}\n",
        at_once=3,
    ),
    Scenario(
        "beginnings asha",
        (RATES, "sparsity.level: [0.5, 0.8]", "sparsity.generator: [rewinding, fixed_random]"),
        "sparsity: {penalty: none, rounds: 1}\nearly_terminate: {type: asha, eta: 2, grace: 1}\n",
        at_once=3,
    ),
    Scenario("qmc", (LOG_RATES,), "method: {name: qmc, trials_per_cell: 4}\n", at_once=3),
)
