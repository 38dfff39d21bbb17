"""What the page shows of hyperparameters and of training: every trial with its values, how much of
the differences a parameter explains, and the learning curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.record.states import TrialState
from orchestrator.report.page.points import Json, finite
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import load_curve

LEAST_TRIALS = 8
"""With fewer there is nothing to be said of importances."""
GROUPS = 4
"""Into how many groups of equal size the values of a numeric parameter are divided."""
SHUFFLES = 500
POINTS = 60_000
"""Of all learning curves together: with more, epochs between are left out."""
POOLED = ""
"""In place of a cell: all cells together, each around its own mean."""

Floats = npt.NDArray[np.float64]


def reached(state: TrialState) -> float | None:
    """Top-1 on the selection clips of a trial that finished, or was pruned, as far as it came."""
    if state.result is not None:
        return state.result.selection_top1
    return state.stopped_values.get("selection_top1")


def trials_with_values(trials: Sequence[TrialState]) -> Json:
    """Every trial with what was searched in it: `parameters` with their kind, and a row each."""
    names = _searched(trials)
    rows = [
        [
            state.proposal.trial,
            state.proposal.cell,
            state.status,
            finite(reached(state), 5),
            state.result.epochs if state.result is not None else state.stopped_at,
            *(_plain(state.proposal.assignment.get(name)) for name in names),
        ]
        for state in trials
    ]
    return {
        "columns": ["trial", "cell", "status", "selection", "epochs"],
        "parameters": names,
        "rows": rows,
    }


def _searched(trials: Sequence[TrialState]) -> list[str]:
    """Parameters that tell trials of one cell apart, in the order of the sweep file."""
    values: dict[tuple[str, str], set[str]] = {}
    for state in trials:
        for name, value in state.proposal.assignment.items():
            values.setdefault((name, state.proposal.cell), set()).add(label(value))
    return list(dict.fromkeys(name for (name, _), found in values.items() if len(found) > 1))


def _plain(value: Any) -> float | str | None:
    """Numbers as they are, everything else as the sweep file writes it."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return finite(value)
    return label(value)


def importances(trials: Sequence[TrialState]) -> dict[str, list[Json]]:
    """By cell, and of all cells together (`POOLED`): of the differences in selection accuracy among
    finished trials, the part that goes with each parameter by itself; the most first.

    The part is omega squared of a one-way analysis of variance, (SSB - (k - 1) MSW) / (SST + MSW)
    with k groups: unlike the plain share it is about 0 for a parameter without effect, however many
    values it has. Values of a number are divided into up to 4 groups of equal size. `chance` is
    what 95 of 100 shuffles stay below. Parameters that act only together are not seen.
    """
    cells: dict[str, list[TrialState]] = {}
    for state in trials:
        if state.result is not None and state.result.selection_top1 is not None:
            cells.setdefault(state.proposal.cell, []).append(state)
    accuracies = {
        cell: np.array([state.result.selection_top1 for state in own if state.result])
        for cell, own in cells.items()
    }
    found = {cell: _importances(own, accuracies[cell], ()) for cell, own in cells.items()}
    if len(cells) > 1:
        pooled = [state for own in cells.values() for state in own]
        centred = np.concatenate([each - each.mean() for each in accuracies.values()])
        lengths = tuple(len(own) for own in cells.values())
        found[POOLED] = _importances(pooled, centred, lengths)
    return {cell: lines for cell, lines in found.items() if lines}


def _importances(
    trials: Sequence[TrialState], accuracies: Floats, strata: Sequence[int]
) -> list[Json]:
    """strata: lengths of the cells, within which accuracies are shuffled; none: all are one."""
    if len(trials) < LEAST_TRIALS or np.ptp(accuracies) == 0:
        return []
    lines = []
    generator = np.random.default_rng(0)
    shuffled = _shuffled(accuracies, strata or (len(trials),), generator)
    for name in _searched(trials):
        groups = grouped([state.proposal.assignment.get(name) for state in trials])
        if groups.max() == 0:
            continue
        share = omega_squared(accuracies[None], groups)[0]
        chance = np.quantile(omega_squared(shuffled, groups), 0.95)
        lines.append(
            {
                "parameter": name,
                "share": finite(max(float(share), 0.0), 3),
                "chance": finite(max(float(chance), 0.0), 3),
                "trials": len(trials),
            }
        )
    return sorted(lines, key=lambda line: -line["share"])


def _shuffled(values: Floats, lengths: Sequence[int], generator: np.random.Generator) -> Floats:
    """(SHUFFLES, N), shuffled within each stretch."""
    parts, start = [], 0
    for length in lengths:
        part = np.tile(values[start : start + length], (SHUFFLES, 1))
        parts.append(generator.permuted(part, axis=1))
        start += length
    return np.concatenate(parts, axis=1)


def grouped(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """The number of the group of each value: equal ones are in one, numbers of more than `GROUPS`
    values with their neighbours.
    """
    numbers = [
        value if isinstance(value, int | float) and not isinstance(value, bool) else None
        for value in values
    ]
    if None not in numbers and len(set(numbers)) > GROUPS:
        found = np.array(numbers, dtype=float)
        edges = np.quantile(found, np.arange(1, GROUPS) / GROUPS)
        return np.unique(np.searchsorted(edges, found), return_inverse=True)[1]
    names = {name: i for i, name in enumerate(dict.fromkeys(label(value) for value in values))}
    return np.array([names[label(value)] for value in values])


def omega_squared(values: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """Of each row of `values` (R, N), whose columns are in the groups (N,): (R,)."""
    k, n = int(groups.max()) + 1, values.shape[1]
    if n <= k:
        return np.zeros(len(values))
    members = np.eye(k)[groups]  # (N, k)
    means = values @ members / members.sum(axis=0)
    total = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    within = ((values - means[:, groups]) ** 2).sum(axis=1)
    noise = within / (n - k)
    found: Floats = (total - within - (k - 1) * noise) / np.maximum(total + noise, 1e-12)
    return found


def learning_curves(run: Path, trials: Sequence[TrialState]) -> Json:
    """By number of the trial in `trials_with_values`: epochs, selection accuracy, training loss.

    Accuracies are whole numbers of 1/10000. Every curve is there; the epochs of it that are depend
    on how many trials there are.
    """
    most = max(8, POINTS // max(len(trials), 1))
    curves: dict[str, Json] = {}
    for number, state in enumerate(trials):
        columns = load_curve(state.proposal.folder(run).metrics_file)
        epochs = columns.get("epoch", [])
        if not epochs:
            continue
        kept = _spread(len(epochs), most)
        curves[str(number)] = {
            "epochs": [int(epochs[i]) + 1 for i in kept],
            "selection": _column(columns, "selection_top1", kept, 10_000),
            "loss": _column(columns, "train_loss", kept, None),
        }
    return curves


def _spread(length: int, most: int) -> list[int]:
    """Up to `most` places, first and last among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})


def _column(
    columns: Mapping[str, list[Any]], name: str, kept: Sequence[int], scale: int | None
) -> list[float | None]:
    values = columns.get(name)
    if not values or len(values) <= max(kept):
        return []
    known = [finite(values[i], 4) for i in kept]
    if all(value is None for value in known):
        return []
    if scale is None:
        return known
    return [None if value is None else round(scale * value) for value in known]
