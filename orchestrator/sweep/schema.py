"""The typed form of a sweep file.

What a trial is made of comes from the contract; here is what surrounds it.

The comment beside a field is its description in the JSON schema.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    SkipValidation,
    field_validator,
    model_validator,
)

from orchestrator.sweep.document import Path, locate
from orchestrator.sweep.leaves import SECTIONS, leaves_of
from orchestrator.sweep.limits import EnsembleBudget
from orchestrator.sweep.presets import Combine
from orchestrator.sweep.problems import nearest
from orchestrator.sweep.searches import SearchName
from orchestrator.sweep.secrets import expanded
from orchestrator.sweep.stopping import NoEarlyTermination, StoppingOptions
from orchestrator.sweep.strategies import STRATEGIES
from trainables.contract.artifacts import LATENCIES, RESULT_METRICS
from trainables.contract.config import DataConfig, Frozen, ModelConfig, SparsityConfig, TrainConfig
from trainables.contract.frozen import once_each, without_defaults
from trainables.contract.secrets import redacted

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""Of a sweep or an ensemble: a folder is called by it, as short as those of cells."""
Positive = Annotated[float, Field(gt=0.0)]
Distribution = Literal["uniform", "log_uniform", "int_uniform", "int_log_uniform"]
CELL_AXES = ("model.backbone", "data.stream", "sparsity.level")
"""Cell axes unless `axis: trial` is given: their trials must not compete, an ensemble needs all of
them.
"""
CHOICE = "greedy"
"""The name of the default's ensemble that is chosen, not fixed."""


def known_metric(value: str) -> str:
    """`value`, if a finished trial reports it; the error suggests the nearest."""
    if value not in RESULT_METRICS:
        guess = nearest(value, RESULT_METRICS)
        raise ValueError(
            "must be a metric that trials report, got"
            f" '{value}'{guess or ', known are ' + ', '.join(RESULT_METRICS)}"
        )
    return value


class Parameter(Frozen):
    """What a sweep does with one leaf: tries `values`, or draws from a distribution between `min`
    and `max`.
    """

    values: tuple[JsonValue, ...] = ()  # tried one by one
    distribution: Distribution | None = None  # drawn from; inferred from min and max if not given
    min: float | None = None  # smallest value drawn
    max: float | None = None  # largest value drawn
    step: Positive | None = None  # distance between values drawn, counted from min
    # cell: one cell per value, trials of different cells never compete
    axis: Literal["cell", "trial"] = "trial"


class ParameterSpec(Frozen):
    """The long form of a parameter in the file."""

    value: JsonValue = None  # fixed
    values: tuple[JsonValue, ...] | None = None  # tried one by one
    preset: str | None = None  # data.stream only: the values are the streams that a paper combines
    distribution: Distribution | None = None  # drawn from; inferred from min and max if not given
    min: float | None = None  # smallest value drawn
    max: float | None = None  # largest value drawn
    step: Positive | None = None  # distance between values drawn, counted from min
    # cell: one cell per value; default for model.backbone, data.stream and sparsity.level
    axis: Literal["cell", "trial"] | None = None


class MetricLimit(Frozen):
    """A bound on what a finished trial reports; a trial outside is not chosen."""

    metric: str  # one of the metrics a trial reports
    max: float | None = None  # largest value allowed
    min: float | None = None  # smallest value allowed

    _known = field_validator("metric")(known_metric)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("a limit on a metric needs max or min, but has neither")
        return self


class Method(Frozen):
    """How assignments of the parameters are found within a cell."""

    # grid: every combination; random: trials_per_cell draws; qmc: draws that fill the space evenly;
    # tpe, gp, nsga2: learn from the trials of the cell that have ended; auto: chosen by the space
    name: SearchName = "grid"
    # not for a grid: how many assignments are tried in each cell
    trials_per_cell: Annotated[int, Field(ge=1, le=100_000)] | None = None
    # how often each assignment is trained, with seeds seed, seed + 1, ...
    seeds: int = Field(default=1, ge=1, le=1000)
    # tpe, gp, qmc, nsga2, auto: with how many seeds each cell's best assignment is trained at last
    final_seeds: int = Field(default=1, ge=1, le=1000)
    # trials of a cell that must have ended before the search learns from them (nsga2: the size of a
    # generation); until then as random draws; default: a quarter of trials_per_cell, at most 10
    startup_trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    warm_start: tuple[str, ...] = ()  # sweeps whose trials the search learns from before its own
    seed: int = Field(default=0, ge=0)  # of the draws

    @property
    def repeats(self) -> int:
        """With how many seeds the best assignment of a cell is trained."""
        return max(self.seeds, self.final_seeds)


class Objective(Frozen):
    """What a good trial is; the first objective decides which trial of a cell is best."""

    metric: str  # one of the metrics a trial reports
    goal: Literal["maximize", "minimize"]  # which way is better

    _known = field_validator("metric")(known_metric)


class Resources(Frozen):
    """What one trial gets, and how many run at a time."""

    # per trial: a fraction up to 1 or a whole number; auto: 1 if there is one, which trials share
    # as long as its throughput grows
    gpus: Literal["auto"] | Annotated[float, Field(ge=0.0)] = "auto"
    # CPU cores per trial; auto: 1, or more where trials are fewer than cores
    cpus: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    per_trial_memory_gb: Positive | None = None  # main memory a trial asks for
    # trials at a time; default: as many as fit
    max_concurrent: Annotated[int, Field(ge=1)] | None = None

    @property
    def cores(self) -> int:
        """What a trial gets at least."""
        return 1 if self.cpus == "auto" else self.cpus

    @field_validator("gpus")
    @classmethod
    def _fraction_or_whole(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value > 1 and not value.is_integer():
            raise ValueError(f"must be a fraction up to 1 or a whole number, got {value}")
        return value


class SweepBudget(Frozen):
    """What the whole sweep may use; `plan` refuses a sweep that is expected to need more."""

    hours: Positive | None = None  # wall clock
    disk_gb: Positive | None = None  # 1e9 bytes in the storage folder
    trials: Annotated[int, Field(ge=1)] | None = None  # trials in all cells together


class Failure(Frozen):
    """How much may go wrong."""

    max_restarts: int = Field(default=3, ge=0)  # per trial, from its checkpoint
    # of the trials may fail before the sweep counts as failed
    tolerated_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    # a trial that is silent for so many times its usual epoch is ended and started again; never:
    # it is waited for
    stall_factor: Literal["never"] | Annotated[float, Field(gt=1.0)] = 10.0
    # no silence shorter than this counts; before its first report a trial has three times as long
    stall_seconds: Positive = 600.0
    # a node of a cluster is given no more trials once so many different ones failed there and got
    # on elsewhere; never: all nodes are kept
    exclude_node: Literal["never"] | Annotated[int, Field(ge=2)] = 3


class Retain(Frozen):
    """What stays on disk of trials that have ended. Deploy forms, scores and results always do."""

    # full training checkpoints of finished trials: all of them, that of the best trial of each
    # cell, or none; those that other trials of the sweep start from always stay
    checkpoints: Literal["all", "best_per_cell", "none"] = "all"


class Tracking(Frozen):
    """Where MLflow records the sweep."""

    # of the MLflow store or server; none: no tracking. `${NAME}` stays as it is until the store is
    # opened: what it holds is never written down.
    uri: str = "sqlite:///mlflow.db"
    experiment: str | None = None  # default: the sweep's name

    @property
    def is_off(self) -> bool:
        """Whether nothing is recorded."""
        return expanded(self.uri, "tracking.uri") == "none"


def _strategy(name: str) -> str:
    STRATEGIES.find(name)
    return name


class EnsembleConfig(Frozen):
    """One ensemble per combination of the `per` axes: members along the `over` axes, combined with
    weights.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: Name
    # the cell axis whose values are combined, or a list of axes: all their combinations at once;
    # `seed` is an axis, too
    over: str | Annotated[tuple[str, ...], Field(min_length=1)]
    per: tuple[str, ...] = ()  # axes that stay apart; default: all cell axes that remain
    # earlier ensembles that are the members; default: the best trial of each cell
    from_: tuple[str, ...] = Field(default=(), alias="from")
    # how the weights are found: a strategy's name, or package.module:NAME
    method: Annotated[str, AfterValidator(_strategy)] = "mean"
    options: dict[str, Any] = Field(default_factory=dict)  # of the method
    # a preset's name, or value: weight; values left out take no part
    weights: str | dict[str, Annotated[float, Field(ge=0.0)]] | None = None
    # what is summed; normalised: logits over their standard deviation; a preset brings its own
    combine: Combine = "probabilities"
    budget: EnsembleBudget = EnsembleBudget()  # what its networks may cost together
    # written by the program: the greedy ensemble of a file that names none
    default: Literal[True] | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that are combined."""
        return (self.over,) if isinstance(self.over, str) else self.over

    @property
    def is_default_choice(self) -> bool:
        """Whether it is the greedy ensemble that a file without `ensembles` gets: such a one in a
        file that names it is not.
        """
        plain_one = EnsembleConfig(
            name=CHOICE,
            over=self.over,
            method="greedy",
            budget=EnsembleBudget(nonzero_params=self.budget.nonzero_params),
            default=True,
        )
        return self == plain_one and self.budget.nonzero_params in (None, "1x")


class Final(Frozen):
    """How the final accuracy is to be read."""

    # held_out: chosen on held-out clips; paper: trained on everything, last epoch
    protocol_report: tuple[Literal["held_out", "paper"], ...]


class Settings(Frozen):
    """The sweep file without the sections that make up a trial."""

    version: Literal[1]  # of this form
    name: Name  # of the folder under `storage` and of the MLflow experiment
    method: Method = Method()
    # default: selection_top1, maximize
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] | None = None
    # whether trials end before their last epoch; default: none
    early_terminate: StoppingOptions = NoEarlyTermination()
    resources: Resources = Resources()
    budget: SweepBudget = SweepBudget()
    failure: Failure = Failure()
    retain: Retain = Retain()
    tracking: Tracking = Tracking()
    storage: str = Field(default="runs", min_length=1)  # folder of the sweeps' folders
    # default: multi_level over sparsity.level, then final over data.stream
    ensembles: tuple[EnsembleConfig, ...] | None = None
    final: Final | None = None  # default: paper if data.selection.kind is none, else held_out
    seed: int = Field(default=0, ge=0)  # of the first repetition of every trial


class Sweep(Frozen):
    """A checked sweep: every default filled in, every name known.

    `data`, `model`, `sparsity` and `train` hold what all trials share; the leaves in `parameters`
    replace theirs, so a section alone need not be a valid combination.
    """

    version: Literal[1]
    name: str
    data: DataConfig
    parameters: dict[str, Parameter]  # searched leaves, in the file's order
    constraints: tuple[str | MetricLimit, ...]
    sparsity: SkipValidation[SparsityConfig]
    model: SkipValidation[ModelConfig]
    train: SkipValidation[TrainConfig]
    method: Method
    objectives: tuple[Objective, ...]
    early_terminate: StoppingOptions
    resources: Resources
    budget: SweepBudget
    failure: Failure
    retain: Retain = Retain()  # with a default: sweeps from before it keep their digest
    tracking: Tracking
    storage: str
    ensembles: tuple[EnsembleConfig, ...]
    final: Final
    seed: int
    _source: str = PrivateAttr(default="")  # how messages call the file
    _text: str = PrivateAttr(default="")  # the file as it was read
    _places: dict[Path, str] = PrivateAttr(default_factory=dict)

    def resolved(self) -> dict[str, Any]:
        """The whole sweep as JSON, defaults filled in; itself a valid sweep file, without the
        password of `tracking.uri`. What it holds is not to be changed.
        """
        return dict(self._resolved())

    @once_each
    def _resolved(self) -> dict[str, Any]:
        surroundings = self.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={*SECTIONS, "parameters"}
        )
        trial = {
            name: getattr(self, name).model_dump(mode="json", warnings=False) for name in SECTIONS
        }
        searched = {
            name: parameter.model_dump(mode="json", exclude_defaults=True)
            for name, parameter in self.parameters.items()
        }
        surroundings["tracking"]["uri"] = redacted(self.tracking.uri)
        return (
            surroundings
            | trial
            | {
                "parameters": {
                    name: {**spec, "axis": self.parameters[name].axis}
                    for name, spec in searched.items()
                }
            }
        )

    @once_each
    def digest(self) -> str:
        """Twelve hexadecimal digits that name the sweep, wherever it lies; settings at their
        defaults take no part, nor does the greedy ensemble that came to the default ones later.
        """
        kept = tuple(each for each in self.ensembles if not each.is_default_choice)
        named = self.model_copy(update={"ensembles": kept, "storage": "runs"})
        content = json.dumps(without_defaults(named, derived=False), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def leaves(self) -> dict[str, Any]:
        """What all trials share, JSON values by dotted leaf name; the values are not to be
        changed.
        """
        return dict(self._leaves())

    @once_each
    def _leaves(self) -> dict[str, Any]:
        return leaves_of(self)

    def problem(self, path: Path, rule: str) -> str:
        """A message about what the file says at `path`, with file and line."""
        return f"{locate(self._places, self._source, path)}: {rule}"

    def place_of_leaf(self, leaf: str) -> Path:
        """Where the file speaks of a leaf: under `parameters`, in its section, or nowhere (the
        nearest section).
        """
        searched: Path = ("parameters", leaf)
        return searched if searched in self._places else tuple(leaf.split("."))

    def is_written(self, path: Path) -> bool:
        """Whether the file (or `--set`) gives a value at `path`."""
        return path in self._places

    def is_of(self, path: object) -> bool:
        """Whether the sweep was read from that file."""
        return self._source == str(path)

    @property
    def text(self) -> str:
        """The file as it was read, before variables and `--set`, without passwords."""
        return redacted(self._text)

    @property
    def cell_axes(self) -> tuple[str, ...]:
        """Leaves that make cells, in the file's order."""
        return tuple(
            name for name, parameter in self.parameters.items() if parameter.axis == "cell"
        )

    @property
    def searched(self) -> tuple[str, ...]:
        """Leaves searched within a cell, in the file's order."""
        return tuple(
            name for name, parameter in self.parameters.items() if parameter.axis == "trial"
        )

    @property
    def expressions(self) -> tuple[str, ...]:
        """Constraints on the configuration: checked before a trial exists."""
        return tuple(constraint for constraint in self.constraints if isinstance(constraint, str))

    @property
    def chooses_by_latency(self) -> bool:
        """Whether an objective or a limit is a latency: every trial then measures its own."""
        named = [each.metric for each in self.objectives]
        named += [each.metric for each in self.metric_limits]
        return not set(LATENCIES).isdisjoint(named)

    @property
    def metric_limits(self) -> tuple[MetricLimit, ...]:
        """Constraints on the outcome: checked when trials are chosen."""
        return tuple(
            constraint for constraint in self.constraints if isinstance(constraint, MetricLimit)
        )
