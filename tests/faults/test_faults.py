"""Sweeps among faults keep every promise: worker and driver deaths in any of their writes, full
disks, a server that is away, late reports.

A failure names its seed; `pytest tests/faults --fault-seed N` runs that sweep alone, and
`--fault-seeds N` runs N of them.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import conduct
from orchestrator.record import states
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.states import TrialState
from orchestrator.record.warm_start import EVENT
from orchestrator.search.protocol import Outcome
from orchestrator.search.turns import Turns
from orchestrator.sweep import Sweep
from orchestrator.tracking.runs import Runs
from orchestrator.trials.space import Trial
from orchestrator.tuning.callbacks import SweepCallback
from orchestrator.tuning.couriers import OnTheWay
from orchestrator.tuning.early import EarlyStops
from tests.faults.disk import How
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.seeds import seen_again
from tests.faults.workers import Training
from tests.faults.world import Faults, World, simulate, simulate_one
from trainables.run import Watch

QUICK, ALL = 50, 2000
"""Seeds in `make test`, and with those in `make test-full`."""
SEARCHED = 100
"""Seeds within which a fault of our own must be found."""


@contextmanager
def folder() -> Iterator[Path]:
    """An empty one, in memory where the machine has such a disk."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="faults-", dir=memory if memory.is_dir() else None)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


def run(seed: int) -> World:
    with folder() as where:
        return simulate(seed, where)


def run_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        with seen_again(seed):
            run(seed)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_promise_is_kept(seeds: range) -> None:
    run_all(seeds)


@pytest.mark.parametrize("seed", range(len(SCENARIOS)))
def test_a_seed_decides_everything(seed: int) -> None:
    journals = []
    for _ in range(2):
        with folder() as where:
            world = simulate(seed, where)
            text = (where / world.run / "journal.jsonl").read_text()
            journals.append(text.replace(str(where), "").splitlines())
    assert journals[0] == journals[1]


WAYS = ("before", "torn", "after")
CASES = [
    *((scenario, way, len(WAYS)) for scenario in SCENARIOS for way in WAYS),
    *((scenario, "torn", 1) for scenario in SCENARIOS if scenario.name == "median"),
]
DEATHS = [
    pytest.param(
        *case,
        id=f"{case[0].name}-{case[1]}" + ("-every" if case[2] == 1 else ""),
        marks=[] if (case[0].name, *case[1:]) == ("median", "torn", 3) else [pytest.mark.full],
    )
    for case in CASES
]


@pytest.mark.parametrize(("scenario", "way", "step"), DEATHS)
def test_the_driver_dies_in_each_of_its_operations(scenario: Scenario, way: How, step: int) -> None:
    """In each one, or in one of three ways in each."""
    begin = 1 if step == 1 else 1 + WAYS.index(way)
    died_in = 0
    for number in itertools.count(begin, step):
        with folder() as where:
            world = simulate_one(1, where, scenario, Faults(number, way))
        if not world.died:
            break
        died_in = number
    assert died_in > 80


@pytest.mark.parametrize(
    "way", ["torn", *(pytest.param(way, marks=pytest.mark.full) for way in ("before", "after"))]
)
def test_a_worker_dies_in_each_of_its_operations(way: How) -> None:
    died_in = 0
    for number in range(1, 50):
        with folder() as where:
            faults = Faults(first_worker_dies_at=number, how=way)
            world = simulate_one(1, where, SCENARIOS[3], faults)
            events = read_journal(where / world.run / "journal.jsonl")
        if not any(event["event"] == "trial_restarted" for event in events):
            break
        died_in = number
    assert died_in > 20


def mutated(patch: pytest.MonkeyPatch, mutant: str) -> None:
    """A fault of our own, of the kind that this simulation is there to find."""
    if mutant == "ends are told again":
        patch.setattr(SweepCallback, "_ended", forgetful(SweepCallback._ended))
    elif mutant == "a decision is written after it is made":
        patch.setattr(EarlyStops, "ends", decided_first)
    elif mutant == "an end is not passed on":
        patch.setattr(Turns, "end", lambda turns, trial, *_: None)
    elif mutant == "a cut line is not closed":
        patch.setattr(os, "pread", lambda *_: b"\n")
    elif mutant == "epochs that MLflow has are not asked for":
        patch.setattr(Runs, "known_epochs", lambda runs, run: set())
    elif mutant == "the last epoch is not reported again":
        patch.setattr(Training, "_resumed", unheard(Training._resumed))
    elif mutant == "a pruned trial is run again":
        patch.setattr(states, "_state", without_pruned(states._state))
    elif mutant == "what other sweeps taught is told once":
        patch.setattr(conduct, "warm_up", told_once(conduct.warm_up))
    elif mutant == "a search is told less than is written":
        patch.setattr(Turns, "end", without_values(Turns.end))
    elif mutant == "what a node was asked to send counts as sent":
        patch.setattr(OnTheWay, "sent", lambda way: Everything())


class Everything(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True


MUTANTS = (
    "ends are told again",
    "a decision is written after it is made",
    "an end is not passed on",
    "a cut line is not closed",
    "epochs that MLflow has are not asked for",
    "the last epoch is not reported again",
    "a pruned trial is run again",
    "what other sweeps taught is told once",
    "a search is told less than is written",
    "what a node was asked to send counts as sent",
)


def forgetful(ended: Callable[..., None]) -> Callable[..., None]:
    def changed(callback: SweepCallback, *arguments: Any, **options: Any) -> None:
        callback._delivered.clear()
        ended(callback, *arguments, **options)

    return changed


def decided_first(early: EarlyStops, trial: Trial, epoch: int, metrics: Any) -> bool:
    name = trial.proposal.trial
    if early._judge is None or not early._judge.is_new(name, epoch):
        return name in early.pruned
    ends = early._judged(early._judge, trial, epoch, metrics)
    early._log.append(name, epoch, metrics)
    return ends


def unheard(resumed: Callable[..., Any]) -> Callable[..., Any]:
    return lambda training, out, setup, watch: resumed(training, out, setup, Watch())


def without_pruned(state: Callable[..., TrialState]) -> Callable[..., TrialState]:
    def changed(*arguments: Any) -> TrialState:
        known = state(*arguments)
        return TrialState(known.proposal) if known.ending == "pruned" else known

    return changed


def told_once(warm_up: Callable[..., Any]) -> Callable[..., Any]:
    def changed(sweep: Sweep, run: Path, journal: Journal) -> Any:
        known = any(event["event"] == EVENT for event in read_journal(run / "journal.jsonl"))
        return [] if known else warm_up(sweep, run, journal)

    return changed


def without_values(end: Callable[..., None]) -> Callable[..., None]:
    def changed(turns: Turns, trial: Trial, outcome: Outcome | None) -> None:
        end(turns, trial, None if outcome is None else replace(outcome, values=(None,)))

    return changed


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_of_our_own_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(0)  # what is imported by it is whole
    mutated(monkeypatch, mutant)
    with pytest.raises(AssertionError):
        run_all(range(SEARCHED))
