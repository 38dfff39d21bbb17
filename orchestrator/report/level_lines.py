"""Accuracy by level as lines of a figure: which networks of a sweep differ in nothing but how many
weights are removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.ensembling.results import LevelRow, Row
from orchestrator.record.states import TrialState
from orchestrator.report.figures import LevelLine, LevelPoint
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import TrialResult

Key = tuple[tuple[str, str], ...]  # axes with their values

LEVEL, BACKBONE = "sparsity.level", "model.backbone"
_SPEAK_FOR_THEMSELVES = (BACKBONE, "data.stream", "sparsity.network")
"""Axes whose values need no name beside them."""


def level_panels(
    rows: Sequence[Row], trials: Sequence[TrialState]
) -> tuple[dict[str, list[LevelLine]], bool]:
    """Lines by the title of their panel, and whether their bars are of seeds (else of clips); no
    panel where nothing has two levels.

    Members that share all cell axes but the level are a line, and so are the levels of one network;
    what is said by all levels together, and by dense networks, stands beside it. With several
    backbones, and more to tell apart than these, each backbone has a panel.
    """
    results = {state.proposal.trial: state.result for state in trials if state.result is not None}
    rows = [row for row in rows if all(trial in results for trial in row.trials)]
    curves: dict[Key, list[Row]] = {}
    for row in rows:
        if _is_sparse(row, results):
            curves.setdefault(_key(_others(row)), []).append(row)
    curves = {key: own for key, own in curves.items() if len(own) > 1}
    kinds = {*curves, *(_key(_others(row)) for row in rows if row.levels)}
    backbones = {dict(key).get(BACKBONE) for key in kinds}
    apart = 1 < len(backbones) < len(kinds)
    over_seeds = all(row.seeds is not None for row in rows)
    panels: dict[str, list[LevelLine]] = {}
    for row in rows if kinds else ():
        axes = dict(sorted(_others(row).items()))  # an ensemble's are in the order of its recipe
        own = curves.get(_key(axes), [])
        title = label(axes.pop(BACKBONE)) if apart and BACKBONE in axes else ""
        name = ", ".join(_named(axis, value) for axis, value in axes.items())
        lines = panels.setdefault(title, [])
        if _is_sparse(row, results):
            if own and row is own[0]:
                points = [
                    _point(each, _removed(results[each.trials[0]]), over_seeds) for each in own
                ]
                lines.append(
                    LevelLine(
                        name or "sparse",
                        name,
                        "levels",
                        sorted(points, key=lambda point: point.level),
                    )
                )
        elif row.levels:
            points = [_point(each, float(each.level), over_seeds) for each in row.levels]
            lines.append(
                LevelLine(name, name, "levels", sorted(points, key=lambda point: point.level))
            )
            lines.append(
                LevelLine(
                    f"levels together: {name}", name, "ensemble", [_point(row, 0.0, over_seeds)]
                )
            )
        elif row.kind == "member":
            flat = ", ".join(filter(None, ["dense" if row.dense else "", name]))
            lines.append(LevelLine(flat, flat, "flat", [_point(row, 0.0, over_seeds)]))
        elif own and LEVEL not in row.axes:
            lines.append(
                LevelLine(
                    f"levels together: {name or row.name}",
                    name,
                    "ensemble",
                    [_point(row, 0.0, over_seeds)],
                )
            )
    return panels, over_seeds


def _is_sparse(row: Row, results: Mapping[str, TrialResult]) -> bool:
    """A single network with a level of its own."""
    return row.kind == "member" and not row.dense and not results[row.trials[0]].levels


def _others(row: Row) -> dict[str, object]:
    return {axis: value for axis, value in row.axes.items() if axis != LEVEL}


def _key(axes: Mapping[str, object]) -> Key:
    return tuple(sorted((axis, label(value)) for axis, value in axes.items()))


def _named(axis: str, value: object) -> str:
    """`joint`, `warmup 0.6`."""
    return (
        label(value)
        if axis in _SPEAK_FOR_THEMSELVES
        else f"{axis.rpartition('.')[2]} {label(value)}"
    )


def _removed(result: TrialResult) -> float:
    """The share of the maskable weights that a network lacks."""
    return result.cost.removed_params / result.cost.maskable_params


def _point(row: Row | LevelRow, level: float, over_seeds: bool) -> LevelPoint:
    if over_seeds and row.seeds is not None:
        return LevelPoint(level, row.seeds.test_mean, row.seeds.test_std, row.seeds.seeds)
    return LevelPoint(level, row.test.top1, row.test.top1_error)
