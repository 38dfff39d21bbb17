"""Trials of other sweeps that a sweep's searches learn from: read once, and written down in the
sweep's own journal, so that it can go on where those sweeps are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.record.folder import find_folder, folder_of, load_folder
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.past import outcome_of
from orchestrator.record.states import load_trials
from orchestrator.search.making import Earlier
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import Sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.cells import expand
from orchestrator.trials.space import key_of
from trainables.contract.errors import UserError

EVENT: Final = "search_warmed"


def check_warm_start(sweep: Sweep) -> list[str]:
    """What is wrong with `method.warm_start`; what the sweep has written down needs no check."""
    if not sweep.method.warm_start:
        return []
    own = folder_of(sweep)
    known = _written(own)
    problems = [
        sweep.problem(("method", "warm_start", position), problem)
        for position, name in enumerate(sweep.method.warm_start)
        if name not in known and (problem := _problem(sweep, own, name))
    ]
    return problems or _check_number(sweep, known)


def _check_number(sweep: Sweep, known: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Whether a search that learns from few trials can learn from so many."""
    most = SEARCHES.find(sweep.method.name).most_trials
    if most is None:
        return []
    learned: Counter[str] = Counter()
    for name in sweep.method.warm_start:
        ended = known.get(name) or _ended(sweep, find_folder(name, sweep.storage))
        learned.update(key_of(entry["axes"]) for entry in ended)
    cells = {key_of(cell.axes) for cell in expand(sweep)}
    largest = max((number for key, number in learned.items() if key in cells), default=0)
    own = sweep.method.trials_per_cell or 0
    if largest + own <= most:
        return []
    rule = (
        f"{sweep.method.name} learns from at most {most} trials of a cell, got {largest} of other"
        f" sweeps and {own} of its own; use tpe"
    )
    return [sweep.problem(("method", "warm_start"), rule)]


def _problem(sweep: Sweep, own: Path, name: str) -> str | None:
    try:
        run = find_folder(name, sweep.storage)
        other = load_folder(run)
    except UserError as error:
        return str(error)
    if run.resolve() == own.resolve():
        return "must be another sweep: a sweep learns from its own trials anyway"
    for what, ours, theirs in (
        ("leaves within its cells", sweep.searched, other.searched),
        ("cell axes", sweep.cell_axes, other.cell_axes),
    ):
        if set(ours) != set(theirs):
            return (
                f"must search the same {what} ({', '.join(sorted(ours)) or 'none'}), got {name},"
                f" which searches {', '.join(sorted(theirs)) or 'none'}"
            )
    lacking = {each.metric for each in sweep.objectives} - {
        metric for state in load_trials(run) if state.result for metric in state.result.metrics()
    }
    if lacking:
        return f"must have finished trials with {', '.join(sorted(lacking))}, got {name}"
    cells = {key_of(cell.axes) for cell in expand(sweep)}
    if cells.isdisjoint(key_of(cell.axes) for cell in expand(other)):
        return f"must share a cell with this sweep, got {name}"
    return None


def warm_up(sweep: Sweep, run: Path, journal: Journal) -> list[Earlier]:
    """What the sweep's searches know of other sweeps; those that are not written down yet are.
    UserError where one of them cannot be read.
    """
    known = _written(run)
    for name in sweep.method.warm_start:
        if name not in known:
            known[name] = list(_ended(sweep, find_folder(name, sweep.storage)))
            journal.append(EVENT, sweep=name, trials=known[name])
    return [_earlier(entry) for name in sweep.method.warm_start for entry in known[name]]


def _written(run: Path) -> dict[str, list[Mapping[str, Any]]]:
    """By the sweep's name."""
    return {
        event["sweep"]: event["trials"]
        for event in read_journal(run / "journal.jsonl")
        if event["event"] == EVENT
    }


def _ended(sweep: Sweep, run: Path) -> Iterator[Mapping[str, Any]]:
    """Of each assignment of the other sweep the trial with the first seed that teaches anything, in
    its order: what failed there, possibly with its machine, may be tried here.
    """
    named = [each.metric for each in sweep.objectives]
    named += [each.metric for each in sweep.metric_limits]
    seen: set[tuple[str, str]] = set()
    for state in load_trials(run):
        outcome = outcome_of(state, sweep)
        key = key_of(state.proposal.axes), key_of(state.proposal.assignment)
        if outcome is None or outcome.ending not in ("finished", "pruned") or key in seen:
            continue
        seen.add(key)
        yield {
            "trial": state.proposal.trial,
            "axes": dict(state.proposal.axes),
            "assignment": dict(state.proposal.assignment),
            "ending": outcome.ending,
            "epochs": outcome.epochs,
            "values": list(outcome.values),
            "metrics": {name: outcome.metrics[name] for name in named if name in outcome.metrics},
        }


def _earlier(entry: Mapping[str, Any]) -> Earlier:
    outcome = Outcome(
        entry["ending"], None, entry["epochs"], tuple(entry["values"]), dict(entry["metrics"])
    )
    return Earlier(entry["axes"], entry["assignment"], outcome)
