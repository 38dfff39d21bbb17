"""Which trials start from the weights of a dense trial of the same sweep, and of which."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.trials.proposed import Trial
from trainables.contract.sparsity import FROM_THE_SWEEP


def starts_from_dense(trial: Trial) -> bool:
    """Whether the trial says `sparsity.from: dense`."""
    return trial.config.sparsity.source == FROM_THE_SWEEP


def linked(trials: Sequence[Trial], among: Iterable[Trial] | None = None) -> list[Trial]:
    """The trials, each with the dense ones it may start from; those are looked for `among` others,
    default: the trials themselves. A trial that knows its own keeps them: what came later was not
    there when it was proposed.
    """
    if not any(map(starts_from_dense, trials)):
        return list(trials)
    sources: dict[str, list[str]] = {}
    for trial in trials if among is None else among:
        if trial.config.sparsity.dense:
            sources.setdefault(_common(trial), []).append(trial.proposal.trial)
    return [
        (
            replace(
                trial,
                proposal=replace(trial.proposal, after=tuple(sources.get(_common(trial), ()))),
            )
            if starts_from_dense(trial) and not trial.proposal.after
            else trial
        )
        for trial in trials
    ]


def cells_behind(trials: Sequence[Trial]) -> dict[str, frozenset[str]]:
    """By cell, the cells whose dense trials its own may start from. trials: linked ones."""
    cell_of = {trial.proposal.trial: trial.proposal.cell for trial in trials}
    found: dict[str, frozenset[str]] = {}
    for trial in trials:
        before = frozenset(cell_of[name] for name in trial.proposal.after if name in cell_of)
        if before:
            found[trial.proposal.cell] = found.get(trial.proposal.cell, frozenset()) | before
    return found


def needed(
    trials: Iterable[Trial], behind: Mapping[str, Iterable[str]] | None = None
) -> Callable[[Trial], bool]:
    """Whether the weights of a trial may be those that another one starts from. behind: of cells
    whose trials are not all among `trials`, see `cells_behind`.
    """
    names = {name for trial in trials for name in trial.proposal.after}
    cells = {cell for before in (behind or {}).values() for cell in before}
    return lambda trial: (
        trial.proposal.trial in names
        or (trial.proposal.cell in cells and trial.config.sparsity.dense)
    )


def _common(trial: Trial) -> str:
    """What a trial shares with the dense one it starts from: model, data, seed and the cell axes
    outside `sparsity`.

    Not the recipe where that is searched within a cell: what trains scores well need not be what
    trained the weights.
    """
    config = trial.config
    axes = {
        axis: value
        for axis, value in trial.proposal.axes.items()
        if not axis.startswith("sparsity.")
    }
    return json.dumps(
        [
            config.model.model_dump(mode="json"),
            config.data.model_dump(mode="json"),
            config.seed,
            axes,
        ],
        sort_keys=True,
    )
