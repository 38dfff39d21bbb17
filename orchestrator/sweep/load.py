"""From a sweep file to a checked Sweep, or every problem at once.

Reads no data: `orchestrator.planning.check` looks at stores and trials.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.sweep.constraints import leaf_names
from orchestrator.sweep.document import Document, override, parse, show
from orchestrator.sweep.document import Path as Place
from orchestrator.sweep.ensembles import default_ensembles, resolve_ensembles
from orchestrator.sweep.leaves import DERIVED_FROM, LEAVES, SECTIONS
from orchestrator.sweep.parameters import read_parameters, read_sections
from orchestrator.sweep.problems import nearest, report, rule_of
from orchestrator.sweep.schema import (
    Final,
    Method,
    MetricLimit,
    Objective,
    Parameter,
    Settings,
    Sweep,
)
from orchestrator.sweep.searches import SEARCHES
from trainables.contract.config import (
    DataConfig,
    ModelConfig,
    SelectionConfig,
    SparsityConfig,
    TrainConfig,
)
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import LARGEST_YAML, read_text, reason

SECRET: frozenset[Place] = frozenset({("tracking", "uri")})
"""Values that may hold a password: variables in them are read when they are used."""

_BY_HAND = (*SECTIONS, "parameters", "constraints")
"""Top-level keys whose short forms pydantic does not read."""


class FaultySweep(UserError):
    """Every problem of a sweep file, from top to bottom, and what it says rightly of its data."""

    def __init__(self, document: Document, leaves: Mapping[str, Any]) -> None:
        super().__init__(*_by_line(document.name, document.problems))
        self._document = document
        self.store: str | None = leaves.get("data.store")
        self.protocol: str | None = leaves.get("data.protocol")

    def beside(self, problems: Mapping[str, Sequence[str]]) -> UserError:
        """These problems and those of the data, by leaf."""
        for name, rules in problems.items():
            searched: Place = ("parameters", name)
            known = searched in self._document.places
            for rule in rules:
                self._document.add(searched if known else tuple(name.split(".")), rule)
        return UserError.of(_by_line(self._document.name, self._document.problems))


def _by_line(name: str, problems: Iterable[str]) -> list[str]:
    """Problems from top to bottom of the file; those without a line last."""
    line = re.compile(rf"{re.escape(name)}:(\d+)\b")
    return sorted(
        problems,
        key=lambda problem: int(match[1]) if (match := line.match(problem)) else 10**9,
    )


def load_sweep(path: Path | str, overrides: Sequence[str] = ()) -> Sweep:
    """Read, complete and check a sweep file; `overrides` are `a.b=value`. FaultySweep lists every
    problem with file and line, another UserError says why the file cannot be read at all.

    A bare name (`quickstart`) is looked up among the shipped search spaces.
    """
    return parse_sweep(*_read(Path(path)), overrides)


def parse_sweep(name: str, text: str, overrides: Sequence[str] = ()) -> Sweep:
    """Like `load_sweep`, from the text of a sweep file; `name` is what messages call it."""
    document = parse(text, name, kept=SECRET)
    if not isinstance(document.values, dict):
        raise UserError(f"{name}: must be a mapping (key: value), got {show(document.values)}")
    for assignment in overrides:
        override(document, assignment, LEAVES)
    settings, wrong = _settings(document)
    sections = read_sections(document)
    before = len(document.problems)
    fixed, searched = read_parameters(document)
    axes_known = len(document.problems) == before
    _check_overrides(document, fixed | searched)
    leaves = _complete(document, sections | fixed, searched)
    constraints = _constraints(document)
    if "method" not in wrong:
        _check_method(document, settings.method, searched)
    objectives = _objectives(document, settings, leaves["data.selection.kind"])
    final = _final(document, settings, leaves["data.selection.kind"])
    ensembles = settings.ensembles
    if ensembles is None:
        ensembles = default_ensembles(
            searched,
            held_out=leaves["data.selection.kind"] != "none",
            sparse="sparsity.level" in searched or leaves["sparsity.level"] != 0,
        )
    if (axes_known or not document.lookup(("ensembles",))) and "method" not in wrong:
        seeds = [settings.seed + i for i in range(settings.method.repeats)]
        ensembles = resolve_ensembles(document, ensembles, searched, seeds)
    if document.problems:
        raise FaultySweep(document, leaves)
    tracking = settings.tracking.model_copy(
        update={"experiment": settings.tracking.experiment or settings.name}
    )
    checked = {
        "parameters": searched,
        "constraints": constraints,
        "objectives": objectives,
        "final": final,
        "ensembles": ensembles,
    }
    surroundings = {field: getattr(settings, field) for field in Settings.model_fields} | {
        "tracking": tracking
    }
    sweep = Sweep(**surroundings | _trial_sections(leaves) | checked)
    sweep._source, sweep._text, sweep._places = name, text, dict(document.places)
    return sweep


def shipped() -> dict[str, Any]:
    """The search spaces that come with the package, by name."""
    files = [
        entry
        for entry in resources.files("search_spaces").iterdir()
        if entry.name.endswith(".yaml")
    ]
    return {
        entry.name.removesuffix(".yaml"): entry
        for entry in sorted(files, key=lambda entry: entry.name)
    }


def _read(path: Path) -> tuple[str, str]:
    """(name for messages, text) of a sweep file."""
    try:
        if not path.exists() and path.parent == Path() and not path.suffix:
            known = shipped()
            if str(path) not in known:
                raise UserError(
                    f"{path}: no such file, and no shipped search space of that name"
                    f" ({', '.join(known)}){nearest(path, known)}"
                )
            return f"{path} (shipped)", known[str(path)].read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # such as a name that no file system takes
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: must be a sweep file, but {reason(error)}") from error
    return str(path), read_text(path, "a sweep file", most=LARGEST_YAML)


def _settings(document: Document) -> tuple[Settings, set[str]]:
    """Everything pydantic can check as it stands, and the sections with problems, which are
    replaced by their defaults, so that checking goes on.
    """
    given = {
        key: value
        for key, value in document.values.items()
        if key not in _BY_HAND and value is not None
    }
    try:
        return Settings.model_validate_json(json.dumps(given), strict=True), set()
    except ValidationError as error:
        errors = error.errors(include_url=False)
    unknown = [
        item for item in errors if item["type"] == "extra_forbidden" and len(item["loc"]) == 1
    ]
    report(document, (), [item for item in errors if item not in unknown], Settings)
    for item in unknown:
        key = item["loc"][0]
        document.add((key,), f"unknown key{nearest(key, (*Settings.model_fields, *_BY_HAND))}")
    wrong = {str(item["loc"][0]) for item in errors}
    settings = Settings.model_validate(
        {"version": 1, "name": "unnamed"}
        | {key: value for key, value in given.items() if key not in wrong}
    )
    return settings, wrong


def _check_overrides(document: Document, parameters: Iterable[str]) -> None:
    """A leaf set in its section has no effect where `parameters` speaks of it."""
    for name in parameters:
        place = document.places.get(tuple(name.split(".")), "")
        if place.startswith("--set"):
            document.add(
                tuple(name.split(".")),
                f"has no effect beside parameters.{name}; use --set parameters.{name}=...",
            )


def _complete(
    document: Document, given: Mapping[str, Any], searched: Mapping[str, Parameter]
) -> dict[str, Any]:
    """All leaves: given ones and the contract's defaults, None for a default that each trial
    derives from what is searched.

    Without a selection split the last epoch is kept.
    """
    leaves: dict[str, Any] = {}
    for name, leaf in LEAVES.items():
        if name in given:
            leaves[name] = given[name]
        elif not searched.keys().isdisjoint(DERIVED_FROM.get(name, ())):
            leaves[name] = None
        elif not leaf.required:
            leaves[name] = leaf.default_beside(leaves)
        elif not document.lookup(leaf.path) and ("parameters", name) not in document.places:
            document.add(leaf.path, "required, but not given")
    if leaves["data.selection.kind"] == "none":
        keeps = (
            searched["train.keep"].values
            if "train.keep" in searched
            else (given.get("train.keep", "last"),)
        )
        if "best" in keeps:
            place = (
                ("parameters", "train.keep")
                if ("parameters", "train.keep") in document.places
                else ("train", "keep")
            )
            document.add(
                place,
                "must be last where data.selection.kind is none: there is nothing to choose an"
                " epoch on",
                "best",
            )
        leaves["train.keep"] = "last"
    _check_selection(document, leaves)
    return leaves


def _check_selection(document: Document, leaves: Mapping[str, Any]) -> None:
    """Whether the leaves of `data.selection`, each valid, fit together."""
    prefix = "data.selection."
    try:
        SelectionConfig.model_validate(
            {
                name.removeprefix(prefix): value
                for name, value in leaves.items()
                if name.startswith(prefix)
            }
        )
    except ValidationError as error:
        for item in error.errors(include_url=False):
            name = prefix + str(item["loc"][0])
            document.add(
                (
                    ("parameters", name)
                    if ("parameters", name) in document.places
                    else tuple(name.split("."))
                ),
                rule_of(item),
            )


def _constraints(document: Document) -> tuple[str | MetricLimit, ...]:
    raw = document.lookup(("constraints",))
    if raw is None:
        return ()
    if not isinstance(raw, list):
        document.add(("constraints",), "must be a list", raw)
        return ()
    found: list[str | MetricLimit] = []
    bounds: dict[str, tuple[float, float]] = {}
    for i, item in enumerate(raw):
        place = ("constraints", i)
        try:
            if isinstance(item, str):
                found.append(item)
                for name in leaf_names(item):
                    if name not in LEAVES:
                        document.add(place, f"unknown leaf '{name}'{nearest(name, LEAVES)}")
            elif isinstance(item, dict):
                limit = MetricLimit.model_validate_json(json.dumps(item), strict=True)
                _check_limit(document, place, limit, bounds)
                found.append(limit)
            else:
                document.add(place, "must be an expression or {metric: ..., max: ...}", item)
        except ValidationError as error:
            report(document, place, error.errors(include_url=False), MetricLimit)
        except ValueError as error:
            document.add(place, str(error))
    return tuple(found)


def _check_limit(
    document: Document, place: Place, limit: MetricLimit, bounds: dict[str, tuple[float, float]]
) -> None:
    """Whether a trial can keep it beside those that were read before, whose bounds it narrows."""
    low, high = bounds.get(limit.metric, (-math.inf, math.inf))
    low = low if limit.min is None else max(low, limit.min)
    high = high if limit.max is None else min(high, limit.max)
    if low > high:
        document.add(
            place,
            f"no trial can keep it: {limit.metric} would be at least {low:g} and at most {high:g}",
        )
    else:
        bounds[limit.metric] = low, high


def _check_method(document: Document, method: Method, searched: Mapping[str, Parameter]) -> None:
    if SEARCHES.find(method.name).given == "combinations":
        for name in (name for name, parameter in searched.items() if parameter.distribution):
            document.add(
                ("parameters", name),
                "a grid needs values, this is a range; give values or use method random",
            )
        if method.trials_per_cell is not None:
            document.add(
                ("method", "trials_per_cell"),
                "has no meaning for a grid, which tries every combination",
                method.trials_per_cell,
            )
    elif method.trials_per_cell is None and "method" in document.values:
        document.add(
            ("method",),
            f"{method.name} needs trials_per_cell: how many assignments are tried in each cell",
        )
    _check_asked(document, method)


def _check_asked(document: Document, method: Method) -> None:
    """Settings of searches that make their trials one by one, and of those that do not."""
    card = SEARCHES.find(method.name)
    if card.asked and method.seeds > 1:
        rule = (
            f"must be 1 for {method.name}, which would learn the same of every seed; final_seeds"
            " repeats each cell's best assignment"
        )
        document.add(("method", "seeds"), rule, method.seeds)
    if not card.asked and method.final_seeds > 1:
        rule = f"has no meaning for {method.name}; seeds repeats every assignment"
        document.add(("method", "final_seeds"), rule, method.final_seeds)
    if not card.learns:
        rule = f"has no meaning for {method.name}, which does not learn"
        if method.startup_trials is not None:
            document.add(("method", "startup_trials"), rule, method.startup_trials)
        if method.warm_start:
            document.add(("method", "warm_start"), rule, list(method.warm_start))
    first, asked = method.startup_trials or 0, method.trials_per_cell or 0
    if card.learns and 0 < asked <= first and not method.warm_start:
        rule = (
            f"must be less than trials_per_cell ({asked}): {method.name} learns nothing before so"
            " many trials of a cell have ended"
        )
        document.add(("method", "startup_trials"), rule, first)
    most = card.most_trials
    if most is not None and asked > most:
        rule = (
            f"must be at most {most} for {method.name}, whose time grows with the cube of the"
            " trials it has seen; use tpe"
        )
        document.add(("method", "trials_per_cell"), rule, asked)


def _objectives(
    document: Document, settings: Settings, selection_kind: str
) -> tuple[Objective, ...]:
    if settings.objectives is None:
        if selection_kind == "none":
            return (Objective(metric="train_loss", goal="minimize"),)
        return (Objective(metric="selection_top1", goal="maximize"),)
    for i, objective in enumerate(settings.objectives):
        if selection_kind == "none" and objective.metric.startswith("selection_"):
            rule = "needs a selection split, but data.selection.kind is none; use train_loss"
            document.add(("objectives", i, "metric"), rule, objective.metric)
        before = [each for each in settings.objectives[:i] if each.metric == objective.metric]
        if before and before[0].goal != objective.goal:
            rule = f"contradicts the objective above that is to {before[0].goal} {objective.metric}"
            document.add(("objectives", i, "goal"), rule, objective.goal)
        elif before:
            rule = "must differ from the other objectives' metrics"
            document.add(("objectives", i, "metric"), rule, objective.metric)
    return settings.objectives


def _final(document: Document, settings: Settings, selection_kind: str) -> Final:
    fitting = "paper" if selection_kind == "none" else "held_out"
    if settings.final is None:
        return Final.model_validate({"protocol_report": [fitting]})
    asked = settings.final.protocol_report
    place = ("final", "protocol_report")
    if len(set(asked)) > 1:
        document.add(
            place,
            "must be held_out or paper: they train on different clips; run two sweeps for both",
            list(asked),
        )
    elif asked != (fitting,):
        needs = (
            "needs data.selection.kind none"
            if fitting == "held_out"
            else "needs a selection split, but data.selection.kind is none"
        )
        document.add(place, f"{asked[0] if asked else 'an empty list'} {needs}", list(asked))
    return settings.final


def _trial_sections(leaves: Mapping[str, Any]) -> dict[str, BaseModel]:
    """The four sections of a trial.

    Each leaf is valid; whether they fit together is checked per trial, after the search has
    replaced some.
    """
    values = {
        name: None if value is None else LEAVES[name].adapter.validate_python(value)
        for name, value in leaves.items()
    }

    def below(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in values.items()
            if name.startswith(prefix) and "." not in name[len(prefix) :]
        }

    return {
        "data": DataConfig.model_construct(
            None, selection=SelectionConfig(**below("data.selection.")), **below("data.")
        ),
        "model": ModelConfig.model_construct(None, **below("model.")),
        "sparsity": SparsityConfig.model_construct(None, **below("sparsity.")),
        "train": TrainConfig.model_construct(None, **below("train.")),
    }
