"""What is wrong with a sweep's early stopping, and what it is expected to leave of the trials.

Starts nothing.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.planning.sizes import SIZE_METRICS
from orchestrator.stopping.course import Course, fewest_trials, points_of
from orchestrator.stopping.judge import group_of
from orchestrator.stopping.rules import RULES
from orchestrator.sweep import Sweep
from orchestrator.sweep.stopping import (
    Comparing,
    MedianOptions,
    NoEarlyTermination,
    PlateauOptions,
)
from orchestrator.trials.best import repeats_best
from orchestrator.trials.space import Trial
from trainables.contract.artifacts import EPOCH_METRICS, RESULT_METRICS

EVERY_EPOCH = tuple(name for name in EPOCH_METRICS if name in RESULT_METRICS and name != "level")
"""Metrics of a result that a trial reports after every epoch, whatever its level is."""

STEPS = 100_000
"""Epochs that are played through, at most, to say what a rule leaves of one kind of cell."""
MOST_ORDERS = 100
PERCENT = (5, 95)
"""Of the orders in which trials may come: what is expected lies between these."""


def check_stopping(sweep: Sweep, trials: Sequence[Trial]) -> list[str]:
    """Comparisons that could not be made, each rule once; nothing where trials do not end early."""
    options = sweep.early_terminate
    if isinstance(options, NoEarlyTermination):
        return []
    problems = _check_objectives(sweep) + _check_places(sweep, options, trials)
    largest = max(Counter(map(group_of, trials)).values(), default=0)
    if 0 < largest < fewest_trials(options):
        rule = (
            f"{options.type} compares trials of one cell and needs {fewest_trials(options)} in some"
            f" cell to end one, but no cell has more than {largest}"
        )
        problems.append(sweep.problem(("early_terminate",), rule))
    return problems


def _check_objectives(sweep: Sweep) -> list[str]:
    """Objectives that are not known while a trial trains."""
    known = (*EVERY_EPOCH, *SIZE_METRICS)
    kind = sweep.early_terminate.type
    problems = [
        sweep.problem(
            ("objectives", i, "metric"),
            f"{each.metric} is known at a trial's end alone, but early_terminate {kind} compares"
            f" trials before; such a sweep may have {', '.join(known)}",
        )
        for i, each in enumerate(sweep.objectives)
        if each.metric not in known
    ]
    if not problems and not any(each.metric in EVERY_EPOCH for each in sweep.objectives):
        rule = (
            f"early_terminate {kind} compares what trials learn and needs one of"
            f" {', '.join(EVERY_EPOCH)} among the objectives"
        )
        problems.append(sweep.problem(("objectives",), rule))
    return problems


def _check_places(sweep: Sweep, options: Comparing, trials: Iterable[Trial]) -> list[str]:
    """Comparisons before the masks are final, and such as no epoch is left for."""
    found: dict[tuple[str, ...], str] = {}
    for trial in trials:
        course, cell = Course.of(trial.config, options), trial.proposal.cell
        final = trial.config.first_kept_epoch
        if course.start < final and not options.during_warmup:
            rule = (
                f"must be at least {final}, the epochs after which the masks are final (cell"
                f" {cell}), got {course.start}; before, all levels are the same dense network,"
                " which during_warmup: true lets it compare"
            )
            found.setdefault(("early_terminate", "min_epochs"), rule)
        elif not points_of(options, course):
            key, rule = _without_comparison(options, course)
            found.setdefault(("early_terminate", *key), f"{rule} (cell {cell})")
    return [sweep.problem(place, rule) for place, rule in found.items()]


def _without_comparison(options: Comparing, course: Course) -> tuple[tuple[str, ...], str]:
    """The setting that leaves no epoch for a comparison of such a trial, and why."""
    key = "patience" if isinstance(options, PlateauOptions) else "grace"
    given, rule = getattr(options, key), "must leave an epoch after the first comparison, got"
    if given is not None and course.start + 1 < course.epochs:  # a smaller one would fit
        return (key,), f"{rule} {given} after the first {course.start} of {course.epochs} epochs"
    if options.min_epochs != "after_warmup":
        return ("min_epochs",), f"{rule} {options.min_epochs} of {course.epochs} epochs"
    return (), (
        f"of {course.epochs} epochs the first {course.start} count for no comparison, and the last"
        " is none: there is no other"
    )


@dataclass(frozen=True)
class Survivors:
    """What early stopping leaves of cells of one kind. Ranges hold for nine in ten orders in which
    the trials may come.
    """

    cells: int  # of this kind
    trials: int  # of each that are compared
    epochs: int  # of a whole trial
    points: tuple[int, ...]  # epochs of training after which trials are first compared, or rungs
    # how many trials go on from each point, and at last how many end their training
    reach: tuple[tuple[int, int], ...]
    spent: tuple[int, int]  # epochs of all trials of one cell


@dataclass(frozen=True)
class EarlyStopping:
    """What a sweep's rule is expected to save."""

    rule: str
    kinds: tuple[Survivors, ...]
    never: int  # trials that others start from, which never end early
    low: int  # epochs of all trials
    high: int
    total: int  # without early stopping

    @property
    def words(self) -> str:
        """`12,000 to 14,000 of 22,000 epochs (55 to 64 %)`."""
        share = f"{100 * self.low / self.total:.0f} to {100 * self.high / self.total:.0f} %"
        return f"{self.low:,} to {self.high:,} of {self.total:,} epochs ({share})"


def early_stopping(sweep: Sweep, trials: Sequence[Trial], at_once: int) -> EarlyStopping | None:
    """What is expected of the sweep's rule, with so many trials at a time; None where it has none.

    Each kind of cell is played through with curves that never cross, in random order.
    """
    options = sweep.early_terminate
    if isinstance(options, NoEarlyTermination):
        return None
    needed = {name for trial in trials for name in trial.proposal.after}
    whole = needed | {t.proposal.trial for t in trials if repeats_best(sweep, t.proposal)}
    groups: dict[tuple[str, bool], list[Course]] = {}
    for trial in trials:
        if trial.proposal.trial not in whole:
            groups.setdefault(group_of(trial), []).append(Course.of(trial.config, options))
    kinds = Counter(
        tuple(sorted(courses, key=lambda each: (each.epochs, each.start)))
        for courses in groups.values()
    )
    found = tuple(_survivors(options, courses, cells, at_once) for courses, cells in kinds.items())
    fixed = sum(t.config.total_epochs for t in trials if t.proposal.trial in whole)
    return EarlyStopping(
        rule=options.type,
        kinds=found,
        never=len(needed),
        low=fixed + sum(each.cells * each.spent[0] for each in found),
        high=fixed + sum(each.cells * each.spent[1] for each in found),
        total=sum(trial.config.total_epochs for trial in trials),
    )


def _survivors(
    options: Comparing, courses: Sequence[Course], cells: int, at_once: int
) -> Survivors:
    total = sum(course.epochs for course in courses)
    points = points_of(options, courses[0])
    orders = max(1, min(MOST_ORDERS, STEPS // max(total, 1)))
    played = [_played(options, courses, at_once, random.Random(seed)) for seed in range(orders)]
    spent = [sum(epochs) for epochs in played]
    marks = [*(courses[0].start + point + 1 for point in points), courses[0].epochs]
    reach = [[sum(each >= mark for each in epochs) for epochs in played] for mark in marks]
    low, high = _range(spent)
    if isinstance(options, PlateauOptions | MedianOptions):  # it is not known how curves rise
        high = total
        reach = [[*numbers, len(courses)] for numbers in reach]
    return Survivors(
        cells=cells,
        trials=len(courses),
        epochs=courses[0].epochs,
        points=tuple(courses[0].start + point for point in points),
        reach=tuple(map(_range, reach)),
        spent=(low, high),
    )


def _played(
    options: Comparing, courses: Sequence[Course], at_once: int, rng: random.Random
) -> list[int]:
    """The epochs that each trial of a cell is trained, where every epoch takes as long and the
    better of two trials is better in every epoch.
    """
    rule = RULES[options.type](options)
    values = [rng.random() for _ in courses]
    waiting = deque(rng.sample(range(len(courses)), len(courses)))
    running: list[int] = []
    epochs = [0] * len(courses)
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(waiting.popleft())
        for trial in list(running):
            course = courses[trial]
            epochs[trial] += 1
            counted = epochs[trial] - course.start
            ended = counted > 0 and rule.ends(str(trial), course, counted, (values[trial],))
            if ended or epochs[trial] == course.epochs:
                running.remove(trial)
    return epochs


def _range(numbers: Sequence[int]) -> tuple[int, int]:
    ordered = sorted(numbers)
    low, high = (ordered[round(each / 100 * (len(ordered) - 1))] for each in PERCENT)
    return low, high
