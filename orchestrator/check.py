"""Everything that can be known to be wrong with a sweep before a trial starts: the file, its trials, its data. Starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.space import all_trials, check_space
from orchestrator.sweep import Sweep, load_sweep
from orchestrator.sweep.document import Path as Place
from orchestrator.sweep.problems import nearest, one_of
from trainables.contract.config import TrialConfig
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from trainables.data.store import Store
    from trainables.layouts import Layout


def checked_sweep(path: Path | str, overrides: Sequence[str] = (), *, data: bool = True) -> Sweep:
    """The sweep of a file, its trials and, with `data`, its store found good; UserError lists every problem."""
    sweep = load_sweep(path, overrides)
    problems = check_space(sweep) + (check_data(sweep) if data else _check_graphs(sweep, None))
    if problems:
        raise UserError.of(dict.fromkeys(problems))
    return sweep


def check_data(sweep: Sweep) -> list[str]:
    """What is wrong with the sweep's data: the store, the protocol, the layout, the split. Empty if trials can start."""
    from trainables.data.cache import open_store

    try:
        store = open_store(sweep.data.store)
    except UserError as error:
        return [_problem(sweep, "data.store", text) for text in error.problems]
    problems = _check_layout(sweep, store) + _check_graphs(sweep, store.layout) + _check_settings(sweep, store)
    known = list(store.info.protocols)
    if sweep.data.protocol not in known:
        rule = f"{one_of(known)} in {sweep.data.store}, got '{sweep.data.protocol}'{nearest(sweep.data.protocol, known)}"
        return [*problems, _problem(sweep, "data.protocol", rule)]
    try:
        store.split(sweep.data.protocol, sweep.data.selection)
    except UserError as error:
        problems += [_problem(sweep, "data.selection", text) for text in error.problems]
    return problems


def _check_layout(sweep: Sweep, store: Store) -> list[str]:
    parameter = sweep.parameters.get("model.layout")
    asked = [str(value) for value in parameter.values] if parameter else [sweep.model.layout]
    own = store.layout.name
    wrong = [name for name in asked if name not in ("auto", own)]
    return [_problem(sweep, "model.layout", f"must be auto or {own}, the layout of {sweep.data.store}, got '{name}'") for name in wrong]


def _check_graphs(sweep: Sweep, layout: Layout | None) -> list[str]:
    """Joints that a model names and the skeleton lacks, each once; without the store's layout, of the built-in one a model names."""
    if sweep.model.centre == "root" and "model.centre" not in sweep.parameters:
        return []
    from trainables.graphs import graph_parents
    from trainables.layouts import LAYOUTS

    rules: list[str] = []
    for config in _configs(sweep):
        skeleton = layout or LAYOUTS.get(config.model.layout)
        try:
            if skeleton is not None:
                graph_parents(config.model, skeleton)
        except UserError as error:
            rules += [text.removeprefix("model.centre ") for text in error.problems]
    return [_problem(sweep, "model.centre", rule) for rule in dict.fromkeys(rules)]


def _configs(sweep: Sweep) -> list[TrialConfig]:
    """Of all trials; none where they cannot be built, which is reported as a problem of the space."""
    try:
        return [trial.config for trial in all_trials(sweep)]
    except UserError:
        return []


def _check_settings(sweep: Sweep, store: Store) -> list[str]:
    """Leaves of `data` that could not act on the store, each value once."""
    from trainables.data.settings import PIPELINE_LEAVES, in_vain

    searched = not sweep.parameters.keys().isdisjoint(f"data.{name}" for name in PIPELINE_LEAVES)
    configs = [config.data for config in _configs(sweep)] if searched else [sweep.data]
    found = [problem for data in configs for problem in in_vain(data, store.info, store.layout)]
    return [_problem(sweep, leaf, rule) for leaf, rule in dict.fromkeys(found)]


def _problem(sweep: Sweep, leaf: str, rule: str) -> str:
    place: Place = sweep.place_of_leaf(leaf)
    return sweep.problem(place, rule)
