"""Which trials of a cell no other of it beats, where a sweep has several objectives.

Works on results alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from orchestrator.record.choice import comparable
from orchestrator.record.states import TrialState

Goals = Mapping[str, str]
"""metric -> maximize or minimize"""


@dataclass(frozen=True, slots=True)
class Choice:
    """An assignment of a cell with its objectives, means over its seeds."""

    trial: TrialState  # of the first seed
    values: Mapping[str, float]


def non_dominated(trials: Sequence[TrialState], goals: Goals) -> list[Choice]:
    """Of every cell with several finished assignments: those that no other is as good as in every
    objective and better in one.

    By cell in the order of the trials, then by the first objective, the best first. Assignments
    without one of the metrics take no part.
    """
    cells: dict[str, list[Choice]] = {}
    for choice in _choices(trials, goals):
        cells.setdefault(choice.trial.proposal.cell, []).append(choice)
    found: list[Choice] = []
    for choices in cells.values():
        if len(choices) > 1:
            left = [
                each for each in choices if not any(_beats(other, each, goals) for other in choices)
            ]
            found += sorted(left, key=lambda each: _losses(each, goals))
    return found


def _choices(trials: Sequence[TrialState], goals: Goals) -> list[Choice]:
    """Per cell, the assignments of which the most seeds have finished."""
    cells: dict[str, dict[str, list[TrialState]]] = {}
    for state in trials:
        if state.result is not None:
            proposal = state.proposal
            alike = cells.setdefault(proposal.cell, {}).setdefault(
                repr(sorted(proposal.assignment.items())), []
            )
            alike.append(state)
    found: list[Choice] = []
    for states in (each for groups in cells.values() for each in comparable(groups.values())):
        metrics = [state.result.metrics() for state in states if state.result is not None]
        if all(goals.keys() <= each.keys() for each in metrics):
            values = {metric: fmean(each[metric] for each in metrics) for metric in goals}
            found.append(Choice(min(states, key=lambda state: state.proposal.seed), values))
    return found


def _losses(choice: Choice, goals: Goals) -> list[float]:
    """Smaller is better."""
    return [
        -choice.values[metric] if goal == "maximize" else choice.values[metric]
        for metric, goal in goals.items()
    ]


def _beats(one: Choice, other: Choice, goals: Goals) -> bool:
    mine, theirs = _losses(one, goals), _losses(other, goals)
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))
