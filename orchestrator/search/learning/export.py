"""The trials of a sweep as Optuna studies in a file, one study for each cell, for whoever looks at
them with Optuna's own tools. Nothing is read back from it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.search.learning.leaves import leaf_of
from orchestrator.search.learning.study import excesses, quietly
from orchestrator.search.protocol import Outcome
from orchestrator.sweep import Parameter, Sweep
from orchestrator.trials.proposed import Proposal


@dataclass(frozen=True, slots=True)
class Exported:
    """A trial as it is exported."""

    proposal: Proposal
    outcome: Outcome | None  # None: it has not ended
    began: float | None  # seconds since the epoch; None: it waits
    ended: float | None
    about: Mapping[str, str]  # what else is known of it


def export(sweep: Sweep, trials: Iterable[Exported], path: Path) -> int:
    """Write them to a new SQLite file, which takes the place of `path` once it is whole; returns
    how many studies it holds. OSError where it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        number = _write(sweep, trials, draft)
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return number


def _write(sweep: Sweep, trials: Iterable[Exported], path: Path) -> int:
    cells: dict[str, list[Exported]] = {}
    for each in trials:
        cells.setdefault(each.proposal.cell, []).append(each)
    with quietly():
        storage = RDBStorage(f"sqlite:///{path}")
        try:
            for cell, members in cells.items():
                study = optuna.create_study(
                    storage=storage,
                    study_name=f"{sweep.name}/{cell}",
                    directions=[each.goal for each in sweep.objectives],
                )
                study.set_metric_names([each.metric for each in sweep.objectives])
                for member in members:
                    study.add_trial(_frozen(sweep, member))
        finally:
            storage.engine.dispose()
    return len(cells)


def _frozen(sweep: Sweep, exported: Exported) -> FrozenTrial:
    proposal, outcome = exported.proposal, exported.outcome
    found = {
        name: shown
        for name, value in proposal.assignment.items()
        if (shown := _shown(sweep.parameters.get(name), value)) is not None
    }
    waits = outcome is None and exported.began is None
    trial = create_trial(
        **({"state": TrialState.WAITING} if waits else _ending(sweep, outcome)),
        params={name: value for name, (value, _) in found.items()},
        distributions={name: distribution for name, (_, distribution) in found.items()},
        user_attrs={"trial": proposal.trial, "seed": proposal.seed, **exported.about},
    )
    # Optuna shows local times
    if exported.began is not None:
        trial.datetime_start = datetime.fromtimestamp(exported.began)
    if outcome is not None and exported.ended is not None:
        trial.datetime_complete = datetime.fromtimestamp(exported.ended)
    return trial


def _ending(sweep: Sweep, outcome: Outcome | None) -> dict[str, Any]:
    """State and values, as the searches' own studies have them."""
    if outcome is None:
        return {"state": TrialState.RUNNING}
    values = [value for value in outcome.values if value is not None]
    whole = len(values) == len(sweep.objectives)
    if outcome.ending == "finished" and whole:
        constraints: dict[str, float] = {}
        for limit in sweep.metric_limits:
            constraints |= excesses(limit, outcome.metrics.get(limit.metric))
        return {"state": TrialState.COMPLETE, "values": values, "constraints": constraints}
    if outcome.ending == "pruned":
        known = {max(outcome.epochs, 1): values[0]} if whole and len(values) == 1 else {}
        return {"state": TrialState.PRUNED, "intermediate_values": known}
    return {"state": TrialState.FAIL}


def _shown(parameter: Parameter | None, value: Any) -> tuple[Any, BaseDistribution] | None:
    """Listed values and steps as they are, not as the samplers see them; None where the sweep does
    not search the leaf any more, or not with this value.
    """
    if parameter is None:
        return None
    if parameter.values:
        choices = [_plain(each) for each in parameter.values]
        shown = _plain(value)
        return (shown, CategoricalDistribution(choices)) if shown in choices else None
    if parameter.step is not None and parameter.distribution == "uniform":
        assert parameter.min is not None
        assert parameter.max is not None
        return float(value), optuna.distributions.FloatDistribution(parameter.min, parameter.max)
    leaf = leaf_of(parameter)
    return None if leaf.suggested(value) is None else (value, leaf.distribution)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
