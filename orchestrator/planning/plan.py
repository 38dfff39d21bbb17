"""What a sweep will cost, before it runs: cells, trials, sizes, time, disk.

Arithmetic on the file and the store; nothing is trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.planning.memory import Memory, memory_of, memory_problems, together
from orchestrator.planning.sizes import BYTES, FLOPS_PER_MAC, PASSES, Sizes, clip_flops
from orchestrator.planning.stopping import EarlyStopping, early_stopping
from orchestrator.planning.variants import Variant, bare_layers, variants_of
from orchestrator.record.folder import known_proposals
from orchestrator.sweep import EnsembleConfig, Sweep
from orchestrator.sweep.ensembles import SEED
from orchestrator.sweep.leaves import LEAVES, unused
from orchestrator.trials.cells import expand
from orchestrator.trials.space import Trial, all_trials
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from trainables.data.store.reading import Split

CPU_RATE = 30e9
"""Assumed training speed of one CPU core, FLOP/s sustained: a round figure, replaced by the
measured rate once a trial is complete.
"""
MOST_NAMED = 5  # of many cells
GPU_RATE = 20e12
"""Assumed training speed of one GPU, FLOP/s sustained."""


@dataclass(frozen=True)
class CellPlan:
    """One cell and how many trials it holds; `trials_done` of them are complete."""

    cell: str
    axes: dict[str, Any]
    trials: int
    trials_done: int
    hours: float  # of training, all its trials one after another
    # cells whose dense trials its trials start from: those are trained first
    after: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """What the time estimate assumes of the machine."""

    device: str
    gpus: float  # of one trial
    flops_per_s: float  # of one trial
    concurrent: int
    measured: bool

    def describe(self) -> str:
        source = "measured on complete trials of this sweep" if self.measured else "assumed"
        rate = self.flops_per_s / 1e9
        return (
            f"{rate:{',.0f' if rate >= 10 else '.2g'}} GFLOP/s per trial on {self.device}"
            f" ({source}), {self.concurrent} at a time"
        )


@dataclass(frozen=True)
class Plan:
    """The cost of a sweep. Times are estimates for this machine, `done` trials not counted."""

    name: str
    digest: str
    cells: tuple[CellPlan, ...]
    variants: tuple[Variant, ...]
    trials: int
    done: int
    waiting: int  # trials that start from the weights of a dense one of the sweep, not complete
    training_clips: int
    selection_clips: int
    test_clips: int
    training_hours: float  # of all trials still to run, to their last epochs, one after another
    wall_hours: float  # as many at a time as the machine takes, none before the one it starts from
    disk_gb: float
    memory: Memory
    mlflow_runs: int
    machine: Machine
    early: EarlyStopping | None  # None: every trial trains to its last epoch
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    ensembles: tuple[str, ...] = ()  # what the sweep ends with, in words

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return asdict(self)

    @property
    def expected_hours(self) -> tuple[float, float]:
        """The range of `wall_hours` with early stopping."""
        if self.early is None:
            return self.wall_hours, self.wall_hours
        low, high = self.early.low / self.early.total, self.early.high / self.early.total
        return low * self.wall_hours, high * self.wall_hours


@dataclass(frozen=True)
class _Facts:
    """What a plan is made of."""

    sweep: Sweep
    split: Split
    sizes: Sizes
    everything: Sequence[Trial]
    complete: Sequence[Trial]
    machine: Machine
    seconds: Mapping[str, float]  # of training, by trial

    @property
    def left(self) -> dict[str, float]:
        """Hours of training of the trials that are not complete."""
        done = {trial.proposal.trial for trial in self.complete}
        return {name: value / 3600 for name, value in self.seconds.items() if name not in done}


def plan(sweep: Sweep) -> Plan:
    """The cost of a checked sweep; UserError if its store cannot be read."""
    facts = _facts(sweep)
    split, store, everything = facts.split, facts.sizes.store, facts.everything
    left, cells = facts.left, _cells(facts)
    memory = memory_of(everything, facts.sizes, split, facts.machine.gpus)
    score_bytes = (len(split.selection) + len(split.test)) * len(store.info.classes) * BYTES
    disk = sum(facts.sizes.disk_bytes(trial.config) + score_bytes for trial in everything)
    runs = 1 + len(everything) + ensemble_count(sweep)
    return Plan(
        name=sweep.name,
        digest=sweep.digest(),
        cells=cells,
        variants=variants_of(everything, facts.sizes, facts.seconds),
        trials=len(everything),
        done=len(facts.complete),
        waiting=sum(
            bool(trial.proposal.after) for trial in everything if trial.proposal.trial in left
        ),
        training_clips=len(split.train),
        selection_clips=len(split.selection),
        test_clips=len(split.test),
        training_hours=sum(left.values()),
        wall_hours=_wall_hours(everything, left, facts.machine.concurrent),
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
    )


def described(recipe: EnsembleConfig) -> str:
    """An entry of `ensembles` in words: what is combined, how, and within what."""
    words = f"{recipe.name}: {recipe.method} over {', '.join(recipe.axes)}"
    if recipe.from_:
        words += f" of {', '.join(recipe.from_)}"
    if recipe.per:
        words += f", one for each {', '.join(recipe.per)}"
    limits = [f"{measure} {limit}" for measure, limit in recipe.budget.given.items()]
    return words + (f", within {', '.join(limits)}" if limits else "")


def _facts(sweep: Sweep) -> _Facts:
    from trainables.data.store.cache import open_store

    store = open_store(sweep.data.store)
    split = store.split(sweep.data.protocol, sweep.data.selection)
    everything, sizes = all_trials(sweep, known_proposals(sweep)), Sizes(store)
    run = Path(sweep.storage) / sweep.name
    complete = (
        [trial for trial in everything if trial.proposal.folder(run).is_complete()]
        if run.is_dir()
        else []
    )
    machine = _machine(sweep, _measured_rate(run, complete, sizes))
    seconds = {
        trial.proposal.trial: (
            sizes.training_flops(trial.config, len(split.train)) / machine.flops_per_s
        )
        for trial in everything
    }
    return _Facts(sweep, split, sizes, everything, complete, machine, seconds)


def _cells(facts: _Facts) -> tuple[CellPlan, ...]:
    """Cells with a trial, in the order of the sweep."""
    done = {trial.proposal.trial for trial in facts.complete}
    cell_of = {trial.proposal.trial: trial.proposal.cell for trial in facts.everything}
    groups: dict[str, list[Trial]] = {}
    for trial in facts.everything:
        groups.setdefault(trial.proposal.cell, []).append(trial)
    return tuple(
        CellPlan(
            cell=cell,
            axes=dict(group[0].proposal.axes),
            trials=len(group),
            trials_done=sum(trial.proposal.trial in done for trial in group),
            hours=sum(facts.seconds[trial.proposal.trial] for trial in group) / 3600,
            after=tuple(
                dict.fromkeys(cell_of[name] for trial in group for name in trial.proposal.after)
            ),
        )
        for cell, group in groups.items()
    )


_ASSUMPTIONS = (
    (
        f"a training step costs {PASSES} forward passes, a multiply-accumulate {FLOPS_PER_MAC}"
        " FLOP; evaluation and start-up are not counted"
    ),
    (
        f"unless measured: {CPU_RATE / 1e9:.0f} GFLOP/s per CPU core, {GPU_RATE / 1e12:.0f} TFLOP/s"
        " per GPU"
    ),
    (
        "disk holds two checkpoints (last and best, float32), momentum, masks, the deploy form and"
        " the scores of every trial"
    ),
)


def _wall_hours(everything: Iterable[Trial], left: Mapping[str, float], concurrent: int) -> float:
    """Hours until the trials that are left have run: shared out over the machine, but no less than
    the longest that follows on another.
    """
    chains = [
        left[trial.proposal.trial]
        + max((left.get(name, 0.0) for name in trial.proposal.after), default=0.0)
        for trial in everything
        if trial.proposal.trial in left
    ]
    return max(sum(left.values()) / max(1, min(concurrent, len(left))), max(chains, default=0.0))


def ensemble_count(sweep: Sweep) -> int:
    """How many ensembles the recipes make: one for each combination of their `per` axes."""
    total = 0
    for recipe in sweep.ensembles:
        groups = 1
        for axis in recipe.per:
            groups *= sweep.method.seeds if axis == SEED else len(sweep.parameters[axis].values)
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


def _measured_rate(run: Path, done: Iterable[Trial], sizes: Sizes) -> float | None:
    """Median training FLOP/s of the complete trials, None without any."""
    rates = []
    for trial in done:
        result = trial.proposal.folder(run).load_if_complete()
        if result is not None:
            rates.append(result.clips_per_s * clip_flops(trial.config, sizes.count(trial.config)))
    return median(rates) if rates else None


def _machine(sweep: Sweep, measured: float | None) -> Machine:
    """This machine as the sweep would use it, found without loading torch; one trial at a time
    where none fits.
    """
    cores, present = _present()
    wanted = sweep.resources
    per_trial = float(wanted.gpus) if not isinstance(wanted.gpus, str) else min(1.0, float(present))
    if per_trial > 0:
        fits, rate, device = (
            int(max(present, 1) / per_trial),
            GPU_RATE * per_trial,
            f"{per_trial:g} GPU",
        )
        fits = min(fits, cores // wanted.cpus)
    else:
        fits, rate, device = (
            cores // wanted.cpus,
            CPU_RATE * wanted.cpus,
            f"{wanted.cpus} CPU core{'s' if wanted.cpus > 1 else ''}",
        )
    concurrent = max(1, min(fits, wanted.max_concurrent or fits))
    return Machine(device, per_trial, measured or rate, concurrent, measured is not None)


def _present() -> tuple[int, int]:
    """CPU cores and GPUs of this machine."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return cores, len(
        [entry for entry in Path("/dev").glob("nvidia[0-9]*") if entry.name[6:].isdigit()]
    )


def _notes(facts: _Facts, trials_per_cell: Sequence[int]) -> Iterable[str]:
    """What a user might not expect."""
    sweep, everything = facts.sweep, facts.everything
    yield from _empty_cells(facts)
    asked = {
        "cpus": sweep.resources.cpus,
        "gpus": 0 if sweep.resources.gpus == "auto" else sweep.resources.gpus,
    }
    for (name, amount), have, unit in zip(
        asked.items(), _present(), ("CPU cores", "GPUs"), strict=True
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
