"""Small sweeps: every kind of search and of early stopping, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from orchestrator.sweep import Sweep, parse_sweep

COMMON = """\
version: 1
data: {store: nowhere, protocol: xsub}
model: {channels: 8, stages: [1, 1]}
train: {epochs: 4, milestones: [2]}
resources: {gpus: 0, cpus: 1}
failure: {max_restarts: 2, tolerated_fraction: 0.9, stall_seconds: 60}
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
    extends: tuple[str, str] | None = None  # a piece of `more`, and what it becomes by `extend`
    called: str = "small"
    learns_from: Scenario | None = None  # a sweep that is complete before this one begins

    @cached_property
    def sweep(self) -> Sweep:
        return self._parsed(self.more)

    @cached_property
    def extended(self) -> Sweep | None:
        """The sweep with more trials; None where it never gets any."""
        return None if self.extends is None else self._parsed(self.more.replace(*self.extends))

    def _parsed(self, more: str) -> Sweep:
        parameters = "".join(f"  {line}\n" for line in self.parameters)
        text = f"name: {self.called}\n{COMMON}parameters:\n{parameters}{more}"
        return parse_sweep(f"{self.name}.yaml", text)


EARLIER = Scenario(
    "earlier",
    (STREAMS, LOG_RATES),
    TPE + "early_terminate: {type: asha, eta: 2, grace: 1}\n",
    called="earlier",
)

SCENARIOS = (
    Scenario("grid", (STREAMS, "sparsity.level: [0.5, 0.8]")),
    Scenario(
        "random",
        (STREAMS, LOG_RATES),
        "method: {name: random, trials_per_cell: 3}\n",
        at_once=3,
        extends=("cell: 3", "cell: 5"),
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
    Scenario(
        "seeds",
        (RATES,),
        "method: {name: grid, seeds: 3}\nretain: {checkpoints: best_per_cell}\n",
        at_once=3,
    ),
    Scenario(
        "repeats",
        (LOG_RATES,),
        "method: {name: tpe, trials_per_cell: 3, startup_trials: 2, final_seeds: 3}\n"
        "early_terminate: {type: median, grace: 1, min_trials: 1}\n"
        "retain: {checkpoints: best_per_cell}\n",
        extends=("cell: 3", "cell: 5"),
    ),
    Scenario(
        "warm start",
        (STREAMS, LOG_RATES),
        "method: {name: tpe, trials_per_cell: 3, startup_trials: 2, warm_start: [earlier]}\n",
        extends=("cell: 3", "cell: 4"),
        learns_from=EARLIER,
    ),
)
