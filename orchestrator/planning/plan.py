"""What a sweep will cost, before it runs: cells, trials, sizes, time, disk.

Arithmetic on the file and the store; nothing is trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.planning.calibration import correction_of
from orchestrator.planning.expected import (
    CELL_S,
    CONCLUSION_S,
    PROPOSAL_S,
    START_S,
    Expected,
    TrialTime,
    corrected,
)
from orchestrator.planning.machine import Machine, present, this_machine
from orchestrator.planning.memory import Memory, memory_of, memory_problems, together
from orchestrator.planning.searching import searching
from orchestrator.planning.sharing import SharedPlan, Sharing
from orchestrator.planning.sizes import Sizes
from orchestrator.planning.space import Footprints, free_bytes
from orchestrator.planning.stopping import EarlyStopping, early_stopping
from orchestrator.planning.variants import Variant, bare_layers, variants_of
from orchestrator.record.folder import folder_of, known_proposals
from orchestrator.record.forecasts import Forecast
from orchestrator.record.states import TrialState, begun_epochs, load_trials
from orchestrator.record.times import earlier_times, load_times
from orchestrator.sweep import EnsembleConfig, Sweep
from orchestrator.sweep.ensembles import SEED
from orchestrator.sweep.leaves import LEAVES, unused
from orchestrator.trials.beginnings import shared_beginnings
from orchestrator.trials.cells import expand
from orchestrator.trials.space import Trial, all_trials
from trainables.contract.addresses import is_address
from trainables.contract.errors import UserError
from trainables.sparse.rows import compiled, without_numba

if TYPE_CHECKING:
    from trainables.data.store.reading import Split

MOST_NAMED = 5  # of many cells


@dataclass(frozen=True)
class CellPlan:
    """One cell and how many trials it holds; `trials_done` of them have ended."""

    cell: str
    axes: dict[str, Any]
    trials: int
    trials_done: int
    hours: float  # all its trials one after another
    # cells whose dense trials its trials start from: those are trained first
    after: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The cost of a sweep. Times are estimates for this machine, without the `done` trials: those
    that have ended, with a result or without one.
    """

    name: str
    digest: str
    cells: tuple[CellPlan, ...]
    variants: tuple[Variant, ...]
    trials: int
    done: int
    epochs: int  # of all trials to their last epochs
    waiting: int  # trials that start from the weights of a dense one of the sweep, not ended
    training_clips: int
    selection_clips: int
    test_clips: int
    trial_hours: float  # of all trials still to run, to their last epochs, one after another
    # of everything still to do: as many trials at a time as the machine takes, none before those it
    # starts from, and what comes before and after them
    wall_hours: float
    rest_hours: float  # of it: start-up, proposals, timing of networks, ensembles and report
    disk_gb: float
    memory: Memory
    mlflow_runs: int
    machine: Machine
    early: EarlyStopping | None  # None: every trial trains to its last epoch
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    ensembles: tuple[str, ...] = ()  # what the sweep ends with, in words
    disk_free_gb: float | None = None  # in the storage folder; None: it is an address
    # the first epochs that several trials share; all times are without what is not trained again
    shared: SharedPlan | None = None

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return asdict(self)

    @property
    def expected_hours(self) -> tuple[float, float]:
        """The range of `wall_hours` with early stopping."""
        if self.early is None:
            return self.wall_hours, self.wall_hours
        low, high = self.early.low / self.early.total, self.early.high / self.early.total
        trials, rest = self.wall_hours - self.rest_hours, self.rest_hours
        return low * trials + rest, high * trials + rest

    @property
    def expected_epochs(self) -> tuple[int, int]:
        """Of all trials, ended ones among them; with early stopping a range."""
        saved = 0 if self.shared is None else self.shared.epochs_saved
        if self.early is None:
            return self.epochs - saved, self.epochs - saved
        low, high, total = self.early.low, self.early.high, self.early.total
        return low - round(saved * low / total), high - round(saved * high / total)

    @property
    def forecast(self) -> Forecast:
        """What is noted when the sweep begins."""
        basis = self.machine.describe()
        epochs, hours = self.expected_epochs, self.expected_hours
        return Forecast(self.trials, epochs, hours, self.disk_gb, basis)


@dataclass(frozen=True)
class _Facts:
    """What a plan is made of."""

    sweep: Sweep
    split: Split
    sizes: Sizes
    everything: Sequence[Trial]
    ended: frozenset[str]  # trials that need no further run
    machine: Machine
    expected: Expected
    times: Mapping[str, TrialTime]  # of whole trials, by trial
    sharing: Sharing
    seconds: Mapping[str, float]  # by trial, without what another one trains for it

    @property
    def left(self) -> dict[str, float]:
        """Hours of the trials that have not ended."""
        return {
            name: value / 3600 for name, value in self.seconds.items() if name not in self.ended
        }


def plan(sweep: Sweep, run: Path | None = None) -> Plan:
    """The cost of a checked sweep; UserError if its store cannot be read.

    run: its folder, where that has another name.
    """
    facts = _facts(sweep, run or folder_of(sweep))
    split, everything = facts.split, facts.everything
    left, cells = facts.left, _cells(facts)
    after = {trial.proposal.trial: trial.proposal.after for trial in everything}
    at_once, sharing = facts.machine.concurrent, facts.sharing
    wall, rest = (
        sharing.wall_hours(left, facts.times, after, at_once),
        _rest_hours(facts, len(cells)),
    )
    memory = memory_of(everything, facts.sizes, split, facts.machine.gpus)
    disk = Footprints(facts.sizes, split).needed(sweep, everything, facts.machine.concurrent)
    runs = 1 + len(everything) + ensemble_count(sweep)
    return Plan(
        name=sweep.name,
        digest=sweep.digest(),
        cells=cells,
        variants=variants_of(
            everything,
            facts.sizes,
            facts.seconds,
            evaluated=len(split.selection),
            device="cuda" if facts.machine.gpus else "cpu",
        ),
        trials=len(everything),
        done=sum(trial.proposal.trial in facts.ended for trial in everything),
        waiting=sum(
            bool(trial.proposal.after) for trial in everything if trial.proposal.trial in left
        ),
        training_clips=len(split.train),
        selection_clips=len(split.selection),
        test_clips=len(split.test),
        epochs=sum(trial.config.total_epochs for trial in everything),
        trial_hours=sum(left.values()),
        wall_hours=wall + rest,
        rest_hours=rest,
        disk_gb=disk / 1e9,
        memory=memory,
        mlflow_runs=0 if sweep.tracking.is_off else runs,
        machine=facts.machine,
        early=early_stopping(sweep, everything, facts.machine.concurrent),
        assumptions=_ASSUMPTIONS,
        notes=(
            *_notes(facts, [cell.trials for cell in cells]),
            *bare_layers(everything, facts.sizes),
            *together(sweep, memory, facts.machine.concurrent),
        ),
        ensembles=tuple(map(described, sweep.ensembles)),
        disk_free_gb=_free_gb(sweep),
        shared=sharing.plan(facts.times, left),
    )


def _free_gb(sweep: Sweep) -> float | None:
    """None where the sweep lies at an address."""
    return None if is_address(sweep.storage) else free_bytes(Path(sweep.storage)) / 1e9


def described(recipe: EnsembleConfig) -> str:
    """An entry of `ensembles` in words: what is combined, how, and within what."""
    words = f"{recipe.name}: {recipe.method} over {', '.join(recipe.axes)}"
    if recipe.from_:
        words += f" of {', '.join(recipe.from_)}"
    if recipe.per:
        words += f", one for each {', '.join(recipe.per)}"
    limits = [f"{measure} {limit}" for measure, limit in recipe.budget.given.items()]
    return words + (f", within {', '.join(limits)}" if limits else "")


def _facts(sweep: Sweep, run: Path) -> _Facts:
    from trainables.data.store.cache import open_outline

    store = open_outline(sweep.data.store)
    split = store.split(sweep.data.protocol, sweep.data.selection)
    everything, sizes = all_trials(sweep, known_proposals(sweep, run)), Sizes(store)
    machine = this_machine(sweep.resources)
    correction = correction_of(earlier_times(run.parent, machine.name))
    own = load_times(run)
    if own is not None and own.machine == machine.name:
        correction = correction_of([own]).over(correction)
    machine = replace(machine, corrected_by=correction.trials)
    expected = Expected(sizes, split, machine.pace)
    whole = {trial.proposal.trial: expected.of(trial.config) for trial in everything}
    states = _states(run)
    ended = frozenset(state.proposal.trial for state in states if state.ended)
    begun = begun_epochs(run, states)
    sharing = Sharing(shared_beginnings(sweep, everything), ended, begun, run)
    once = {name: sharing.own(name, time) for name, time in whole.items()}
    return _Facts(
        sweep,
        split,
        sizes,
        everything,
        ended,
        machine,
        expected,
        whole,
        sharing,
        corrected(once, correction),
    )


def _states(run: Path) -> tuple[TrialState, ...]:
    """The trials of the sweep in `run`; none where there is no such folder, or it cannot be
    read.
    """
    try:
        return load_trials(run)
    except UserError:
        return ()


def _cells(facts: _Facts) -> tuple[CellPlan, ...]:
    """Cells with a trial, in the order of the sweep."""
    cell_of = {trial.proposal.trial: trial.proposal.cell for trial in facts.everything}
    groups: dict[str, list[Trial]] = {}
    for trial in facts.everything:
        groups.setdefault(trial.proposal.cell, []).append(trial)
    return tuple(
        CellPlan(
            cell=cell,
            axes=dict(group[0].proposal.axes),
            trials=len(group),
            trials_done=sum(trial.proposal.trial in facts.ended for trial in group),
            hours=sum(facts.seconds[trial.proposal.trial] for trial in group) / 3600,
            after=tuple(
                dict.fromkeys(cell_of[name] for trial in group for name in trial.proposal.after)
            ),
        )
        for cell, group in groups.items()
    )


_ASSUMPTIONS = (
    (
        "a trial takes what was measured for its steps, operations and numbers on one core; a GPU's"
        " figures are assumed, not measured"
    ),
    "nothing else runs on the machine",
    (
        "disk holds the deploy form and the scores of every trial, and two checkpoints (last and"
        " best, float32), momentum and masks of those that run or that retain.checkpoints keeps,"
        " and every beginning that trials share"
    ),
)


def _rest_hours(facts: _Facts, cells: int) -> float:
    """Hours of what is done before, between and after the trials that are left; none where there
    are none.
    """
    if not facts.left:
        return 0.0
    seconds = START_S + CONCLUSION_S + cells * CELL_S
    seconds += PROPOSAL_S.get(facts.sweep.method.name, 0.0) * len(facts.left)
    if not facts.sweep.chooses_by_latency:
        sparse = not facts.machine.gpus and compiled()
        seconds += facts.expected.timing_seconds(facts.everything, sparse=sparse)
    return seconds / 3600


def ensemble_count(sweep: Sweep) -> int:
    """How many ensembles the recipes make: one for each combination of their `per` axes."""
    total = 0
    for recipe in sweep.ensembles:
        groups = 1
        for axis in recipe.per:
            groups *= sweep.method.repeats if axis == SEED else len(sweep.parameters[axis].values)
        total += groups
    return total


def check_fit(sweep: Sweep, planned: Plan, address: str | None = None) -> None:
    """UserError where the plan needs more than the file's budget, or a trial more memory than it
    gets, one line per figure. address: of the cluster that the sweep runs on; None: this machine.
    """
    needs: Mapping[str, tuple[float, str]] = {
        "hours": (
            planned.expected_hours[1],
            f"{planned.expected_hours[1]:.3g} h on this machine ({planned.machine.describe()})",
        ),
        "disk_gb": (planned.disk_gb, f"{planned.disk_gb:.3g} GB"),
        "trials": (planned.trials, f"{planned.trials} trials"),
    }
    problems = memory_problems(sweep, planned.memory, here=address is None)
    for key, (need, text) in needs.items():
        allowed = getattr(sweep.budget, key)
        if allowed is not None and need > allowed:
            rule = f"the sweep is expected to need {text}, the budget allows {allowed:g}"
            problems.append(sweep.problem(("budget", key), rule))
    if problems:
        raise UserError.of(problems)


def _notes(facts: _Facts, trials_per_cell: Sequence[int]) -> Iterable[str]:
    """What a user might not expect."""
    sweep, everything = facts.sweep, facts.everything
    yield from _empty_cells(facts)
    yield from searching(sweep)
    cores, cards = present()
    asked = {
        "cpus": sweep.resources.cores,
        "gpus": 0 if sweep.resources.gpus == "auto" else sweep.resources.gpus,
    }
    for (name, amount), have, unit in zip(
        asked.items(), (cores, len(cards)), ("CPU cores", "GPUs"), strict=True
    ):
        if amount > have:
            rule = (
                f"a trial does not fit on this machine, which has {have} {unit}, got {amount:g}: a"
                " sweep needs a larger machine or cluster"
            )
            yield sweep.problem(("resources", name), rule)
    wanted = (sweep.method.trials_per_cell or 0) * sweep.method.seeds
    fewer = sum(drawn < wanted for drawn in trials_per_cell)
    if fewer:
        yield (
            f"{fewer} cells have fewer than {sweep.method.trials_per_cell} different assignments"
            " and get fewer trials"
        )
    for total, own in sorted(
        {(trial.config.total_epochs, trial.config.train.epochs) for trial in everything}
    ):
        if total > own:
            yield (
                f"a trial that rewinds its weights trains {total} epochs in all, {own} of them"
                " before the first pruning"
            )
    if (
        not facts.machine.gpus
        and any(trial.config.trains_kept_weights for trial in everything)
        and not compiled()
    ):
        yield without_numba("are trained dense on a CPU")
    if (
        sweep.data.selection.kind == "none"
        and sweep.ensembles
        and not sweep.is_written(("ensembles",))
    ):
        yield (
            "no clips are held out, so no ensemble is chosen: the sweep ends with the papers' fixed"
            " recipe alone"
        )
    idle, shared = frozenset(LEAVES), sweep.leaves()
    for trial in everything:
        idle &= unused({**shared, **trial.proposal.axes, **trial.proposal.assignment})
    for name in sorted(name for name in idle if sweep.is_written(sweep.place_of_leaf(name))):
        yield sweep.problem(sweep.place_of_leaf(name), "has no effect on any trial of this sweep")


def _empty_cells(facts: _Facts) -> Iterable[str]:
    """Cells that the constraints leave without a trial: those are dropped."""
    filled = {json.dumps(dict(trial.proposal.axes)) for trial in facts.everything}
    free = facts.sweep.model_copy(update={"constraints": ()})
    empty = [cell.id for cell in expand(free) if json.dumps(dict(cell.axes)) not in filled]
    if empty:
        rule = (
            f"{len(empty)} cell{'' if len(empty) == 1 else 's'} in which no combination satisfies"
            f" the constraints {'is' if len(empty) == 1 else 'are'} left out:"
            f" {', '.join(empty[:MOST_NAMED])}{', ...' if len(empty) > MOST_NAMED else ''}"
        )
        yield facts.sweep.problem(("constraints",), rule)
