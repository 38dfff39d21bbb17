"""What a sweep will cost, before it runs: cells, trials, sizes, time, disk.

Arithmetic on the file and the store; nothing is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.record.folder import known_proposals
from orchestrator.sweep import Sweep
from orchestrator.sweep.leaves import LEAVES, leaves_of, unused
from orchestrator.trials.cells import expand
from orchestrator.trials.space import Trial, all_trials
from trainables.contract.config import SparsityConfig, TrialConfig
from trainables.contract.errors import UserError
from trainables.contract.sparsity import level_name
from trainables.cost.counting.count import Count
from trainables.cost.counting.levels import count_trial, training_share
from trainables.sparsity.amounts import emptied

if TYPE_CHECKING:
    from trainables.data.store.reading import Store

CPU_RATE = 30e9
"""Assumed training speed of one CPU core, FLOP/s sustained: a round figure, replaced by the
measured rate once a trial is complete.
"""
GPU_RATE = 20e12
"""Assumed training speed of one GPU, FLOP/s sustained."""
FLOPS_PER_MAC = 2
PASSES = 3
"""One training step costs about three forward passes: one forward, two for the gradients of
activations and weights.
"""
BYTES = 4
"""Of one float32."""


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
class Variant:
    """A network: model and input, at one or several sparsity levels."""

    # leaves of the model: the backbone and those in which the variants differ
    settings: dict[str, Any]
    streams: tuple[str, ...]  # with the same input block, so of the same size
    trials: int
    params: int
    deploy_params: int
    # of the training form, by sparsity level (and scope, structure and sharing, where there are
    # several)
    nonzero_params: dict[str, int]
    # of those levels, the ones that a price decides in training: no more than all parameters stay
    at_most: tuple[str, ...]
    deploy_nonzero_params: dict[str, int]  # of the deploy form
    # levels at which the deploy form's figure is an expected value: masks meet there in one kernel
    # by chance
    expected: tuple[str, ...]
    gmacs: float  # training form, 1e9 multiply-accumulates per clip
    deploy_gmacs: float
    seconds_per_trial: float  # mean over the variant's trials


@dataclass(frozen=True)
class Machine:
    """What the time estimate assumes of the machine."""

    device: str
    flops_per_s: float  # of one trial
    concurrent: int
    measured: bool

    def describe(self) -> str:
        source = "measured on complete trials of this sweep" if self.measured else "assumed"
        return (
            f"{self.flops_per_s / 1e9:,.0f} GFLOP/s per trial on {self.device} ({source}),"
            f" {self.concurrent} at a time"
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
    training_hours: float  # of all trials still to run, one after another
    wall_hours: float  # as many at a time as the machine takes, none before the one it starts from
    disk_gb: float
    mlflow_runs: int
    machine: Machine
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON."""
        return asdict(self)


def plan(sweep: Sweep) -> Plan:
    """The cost of a checked sweep; UserError if its store cannot be read."""
    from trainables.data.store.cache import open_store

    store = open_store(sweep.data.store)
    split = store.split(sweep.data.protocol, sweep.data.selection)
    everything = all_trials(sweep, known_proposals(sweep))
    by_cell = {
        cell: [trial for trial in everything if trial.proposal.axes == cell.axes]
        for cell in expand(sweep)
    }
    cell_of = {trial.proposal.trial: trial.proposal.cell for trial in everything}
    run = Path(sweep.storage) / sweep.name
    complete = [trial for trial in everything if trial.proposal.folder(run).is_complete()]
    done = {trial.proposal.trial for trial in complete}
    counts = {trial.proposal.trial: _count(trial.config, store) for trial in everything}
    machine = _machine(sweep, _measured_rate(run, complete, counts))
    seconds = {
        trial.proposal.trial: (
            training_flops(trial.config, counts[trial.proposal.trial], len(split.train))
            / machine.flops_per_s
        )
        for trial in everything
    }
    left = {name: value / 3600 for name, value in seconds.items() if name not in done}
    score_bytes = (len(split.selection) + len(split.test)) * len(store.info.classes) * BYTES
    return Plan(
        name=sweep.name,
        digest=sweep.digest(),
        cells=tuple(
            CellPlan(
                cell=cell.id,
                axes=dict(cell.axes),
                trials=len(group),
                trials_done=sum(trial.proposal.trial in done for trial in group),
                hours=sum(seconds[trial.proposal.trial] for trial in group) / 3600,
                after=tuple(
                    dict.fromkeys(cell_of[name] for trial in group for name in trial.proposal.after)
                ),
            )
            for cell, group in by_cell.items()
        ),
        variants=_variants(everything, counts, seconds),
        trials=len(everything),
        done=len(done),
        waiting=sum(
            bool(trial.proposal.after) for trial in everything if trial.proposal.trial in left
        ),
        training_clips=len(split.train),
        selection_clips=len(split.selection),
        test_clips=len(split.test),
        training_hours=sum(left.values()),
        wall_hours=_wall_hours(everything, left, machine.concurrent),
        disk_gb=sum(
            disk_bytes(counts[trial.proposal.trial], trial.config) + score_bytes
            for trial in everything
        )
        / 1e9,
        mlflow_runs=(0 if sweep.tracking.is_off else 1 + len(everything) + ensemble_count(sweep)),
        machine=machine,
        assumptions=_ASSUMPTIONS,
        notes=(
            *_notes(sweep, [len(group) for group in by_cell.values()], everything),
            *_bare_layers(everything, counts),
        ),
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


def training_flops(config: TrialConfig, cost: Count, clips: int) -> float:
    """Work of one trial's training: clips x repeat x epochs, in all rounds, x 3 passes x MACs x 2;
    of nested levels the MACs of those that a step trains.
    """
    return clips * config.data.repeat * config.total_epochs * _clip_flops(config, cost)


def _clip_flops(config: TrialConfig, cost: Count) -> float:
    """Work of a step on one clip."""
    return PASSES * training_share(config.sparsity) * cost.training.gmacs * 1e9 * FLOPS_PER_MAC


def disk_bytes(cost: Count, config: TrialConfig) -> float:
    """What one trial leaves on disk without its scores: weights and momentum, best weights, deploy
    form, and in both checkpoints masks, the scores or gates they are made of with their momentum,
    and what weights go back to.
    """
    sparsity = config.sparsity
    networks = 0 if sparsity.dense else max(1, len(sparsity.levels))  # each with masks of its own
    masks = 2 * networks * cost.maskable_params
    # a gate per weight, with means of its gradient and square
    gated = sparsity.level == "learned" and sparsity.gate == "hard_concrete"
    scored = sparsity.level != "learned" and sparsity.generator in ("score_trainable", "supermask")
    scores = (6 * gated + 3 * scored) * cost.maskable_params if masks else 0
    rewind_point = 2 * cost.training.params if sparsity.rewinds and sparsity.rewind_epoch else 0
    return BYTES * (3 * cost.training.params + masks + scores + rewind_point + cost.deploy.params)


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
            groups *= len(sweep.parameters[axis].values)
        total += groups
    return total


def check_budget(sweep: Sweep, planned: Plan) -> None:
    """UserError where the plan needs more than the file's budget, one line per figure."""
    needs: Mapping[str, tuple[float, str]] = {
        "hours": (
            planned.wall_hours,
            f"{planned.wall_hours:.3g} h on this machine ({planned.machine.describe()})",
        ),
        "disk_gb": (planned.disk_gb, f"{planned.disk_gb:.3g} GB"),
        "trials": (planned.trials, f"{planned.trials} trials"),
    }
    problems = []
    for key, (need, text) in needs.items():
        allowed = getattr(sweep.budget, key)
        if allowed is not None and need > allowed:
            problems.append(
                sweep.problem(
                    ("budget", key),
                    f"the sweep is expected to need {text}, the budget allows {allowed:g}",
                )
            )
    if problems:
        raise UserError.of(problems)


def _count(config: TrialConfig, store: Store) -> Count:
    return count_trial(
        config, store.layout, classes=len(store.info.classes), persons=store.info.persons
    )


def _measured_rate(run: Path, done: Iterable[Trial], counts: Mapping[str, Count]) -> float | None:
    """Median training FLOP/s of the complete trials, None without any."""
    rates = []
    for trial in done:
        result = trial.proposal.folder(run).load()
        rates.append(result.clips_per_s * _clip_flops(trial.config, counts[trial.proposal.trial]))
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
    return Machine(device, measured or rate, concurrent, measured is not None)


def _present() -> tuple[int, int]:
    """CPU cores and GPUs of this machine."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return cores, len(
        [entry for entry in Path("/dev").glob("nvidia[0-9]*") if entry.name[6:].isdigit()]
    )


def _variants(
    everything: Sequence[Trial], counts: Mapping[str, Count], seconds: Mapping[str, float]
) -> tuple[Variant, ...]:
    """Trials grouped by what decides a network's size."""
    groups: dict[tuple[str, str, int, str], list[Trial]] = {}
    for trial in everything:
        model, data = trial.config.model, trial.config.data
        sparsity = trial.config.sparsity
        several = sparsity.model_dump_json() if sparsity.network != "single" else ""
        groups.setdefault(
            (
                model.model_dump_json(),
                model.input_block_for(data.stream_config),
                data.frames,
                several,
            ),
            [],
        ).append(trial)
    models = [group[0].config.model.model_dump(mode="json") for group in groups.values()]
    differing = [
        name
        for name in models[0]
        if name == "backbone" or len({str(model[name]) for model in models}) > 1
    ]
    found = []
    for settings, group in zip(models, groups.values(), strict=True):
        idle = unused(leaves_of(group[0].config))
        cost, levels = counts[group[0].proposal.trial], _levels(group)
        found.append(
            Variant(
                settings={
                    **{
                        f"model.{name}": settings[name]
                        for name in differing
                        if f"model.{name}" not in idle
                    },
                    **(
                        {"sparsity.network": network}
                        if (network := group[0].config.sparsity.network) != "single"
                        else {}
                    ),
                },
                streams=tuple(dict.fromkeys(trial.config.data.stream_name for trial in group)),
                trials=len(group),
                params=cost.training.params,
                deploy_params=cost.deploy.params,
                nonzero_params={
                    name: cost.nonzero_params(sparsity) for name, sparsity in levels.items()
                },
                at_most=tuple(
                    name for name, sparsity in levels.items() if sparsity.price is not None
                ),
                deploy_nonzero_params={
                    name: cost.deploy_nonzero_params(sparsity)[0]
                    for name, sparsity in levels.items()
                },
                expected=tuple(
                    name
                    for name, sparsity in levels.items()
                    if not cost.deploy_nonzero_params(sparsity)[1]
                ),
                gmacs=cost.training.gmacs,
                deploy_gmacs=cost.deploy.gmacs,
                seconds_per_trial=sum(seconds[trial.proposal.trial] for trial in group)
                / len(group),
            )
        )
    return tuple(found)


def _levels(group: Sequence[Trial]) -> dict[str, SparsityConfig]:
    """What the group removes, by level, and by scope, structure and sharing where it has several of
    them.
    """
    settings = ("scope", "structure", "sharing")
    configs = sorted(
        (trial.config.sparsity for trial in group),
        key=lambda each: (each.expected_level, *(getattr(each, s) for s in settings)),
    )
    several = [
        name
        for name in settings
        if len({getattr(config, name) for config in configs if _chooses(config)}) > 1
    ]
    return {
        " ".join(
            [
                config.described,
                *(str(getattr(config, name)) for name in several if _chooses(config)),
            ]
        ): config
        for config in configs
    }


def _chooses(config: SparsityConfig) -> bool:
    """Whether settings beside the level say how many weights go; a learned level is one of all
    tensors together.
    """
    return not config.dense and config.level != "learned"


def _bare_layers(everything: Sequence[Trial], counts: Mapping[str, Count]) -> tuple[str, ...]:
    """Layers that a level leaves without any weight, as far as that is known before masks are
    drawn; each network once.
    """
    found = []
    for trial in everything:
        for single in (
            trial.config.sparsity.singles if trial.config.sparsity.sharing == "none" else ()
        ):
            bare = emptied(counts[trial.proposal.trial].kernels, single)
            layers = [
                (f"{'x'.join(map(str, shape))} in block {block}", chance)
                for block, shape, chance in bare
            ]
            words = {
                layer: "" if chance == 1 else f" ({100 * chance:.0f} %)" for layer, chance in layers
            }
            if words:
                verb = "leaves" if all(chance == 1 for _, chance in layers) else "may leave"
                text = ", ".join(f"{layer}{chance}" for layer, chance in words.items())
                found.append(
                    f"sparsity.level {level_name(single.expected_level)} {verb} no weight in"
                    f" {trial.config.model.backbone}'s {text}"
                )
    return tuple(dict.fromkeys(found))


def _notes(
    sweep: Sweep, trials_per_cell: Sequence[int], everything: Sequence[Trial]
) -> Iterable[str]:
    """What a user might not expect."""
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
    fewer = sum(found < wanted for found in trials_per_cell)
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
    idle = frozenset(LEAVES)
    for trial in everything:
        leaves = sweep.leaves() | dict(trial.proposal.axes) | dict(trial.proposal.assignment)
        idle &= unused(leaves)
    for name in sorted(name for name in idle if sweep.is_written(sweep.place_of_leaf(name))):
        yield sweep.problem(sweep.place_of_leaf(name), "has no effect on any trial of this sweep")
