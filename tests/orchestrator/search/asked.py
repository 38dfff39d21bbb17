"""A cell to search in, and what becomes of its trials."""

from orchestrator.search.making import Step, asked_searches
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import parse_sweep
from orchestrator.trials.cells import expand
from orchestrator.trials.proposed import Trial
from tests.orchestrator.simulation.made_curves import made_result

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}
  train.weight_decay: [0.0001, 0.001]
"""


def sweep_of(method, text=TEXT, *changes):
    return parse_sweep("small.yaml", text + f"method: {method}\n", changes)


def search_of(sweep, past=(), known=()):
    """The search of the sweep's first cell."""
    return next(iter(asked_searches(sweep, expand(sweep)[:1], known, past).values()))


def finished(trial, top1, sweep):
    return Outcome.finished(made_result(trial, top1), sweep.objectives)


def run(search, sweep, score, most=1000, at_once=1):
    """Ask until the search needs no more; returns what happened, in its order."""
    steps, running = [], []
    while len(steps) < 2 * most:
        trial = search.ask() if len(running) < at_once else None
        if isinstance(trial, Trial):
            steps.append(Step(trial))
            running.append(trial)
            continue
        if not running:
            break
        ended = running.pop(0)
        found = score(ended)
        outcome = found if isinstance(found, Outcome) else finished(ended, found, sweep)
        steps.append(Step(ended, outcome))
        search.tell(ended.proposal.trial, outcome)
    return steps


def proposed(steps):
    return [step.trial for step in steps if step.outcome is None]
