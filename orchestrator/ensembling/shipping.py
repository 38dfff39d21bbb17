"""Which ensemble a sweep ships, decided on the selection split by a rule that stands before any
score is known.

The last one of the file ships. Where the file names none, and the papers' fixed recipe stands
beside what greedy selection chose, the smaller of the two ships unless the other is better by more
than one standard error of their difference (as Breiman et al. 1984 prune trees). What was chosen is
held against the fixed recipe on clips that it was not chosen on; of several ensembles of the fixed
recipe (of several backbones) against the best one on these clips, of equal ones the smallest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.ensembling.budgets import written
from orchestrator.ensembling.build import Built, Ensemble
from orchestrator.ensembling.evaluate import BoolArray, Paired, paired, ranks
from orchestrator.ensembling.what_if import cross_fitted_rows

if TYPE_CHECKING:
    from orchestrator.sweep import EnsembleConfig


def in_shipping_order(built: Built, recipes: Sequence[EnsembleConfig]) -> tuple[Built, str]:
    """The ensembles with the one that ships last, and why it does, in words; no words where the
    file's order decides.
    """
    names = [each.name for each in built.ensembles]
    default = next((each for each in recipes[1:] if each.is_default_choice), None)
    if default is None or default.name not in names or len(names) < 2:
        return built, ""
    chosen = built.ensembles[names.index(default.name)]
    others = [each for each in built.ensembles if each is not chosen]
    rivals = [each for each in others if each.recipe == others[-1].recipe]
    fixed = min(rivals, key=lambda each: (-_right(each), _size(each)))
    found = _against(chosen, fixed)
    if found is None:
        return built, ""
    smaller, larger = sorted((chosen, fixed), key=_size)
    ahead = found.difference if larger is chosen else -found.difference
    ships = larger if ahead > _error(found) else smaller
    order = [*(each for each in built.ensembles if each is not ships), ships]
    why = _why(ships, chosen, fixed, found)
    if len(rivals) > 1:
        why += (
            f" `{fixed.name}` is the best of {len(rivals)} such ensembles on the selection split."
        )
    return replace(built, ensembles=tuple(order)), why


def _error(found: Paired) -> float:
    """Standard error of the difference if neither is better: sqrt(b + c) / n of the b + c clips
    that only one of them gets right.
    """
    return math.sqrt(found.first_only + found.second_only) / found.clips


def _right(ensemble: Ensemble) -> int:
    """How many selection clips it gets right."""
    table = ensemble.selection
    if table is None or table.labels is None:
        return 0
    return int((ranks(table.logits, table.labels) == 0).sum())


def _size(ensemble: Ensemble) -> float:
    return ensemble.cost["nonzero_params"]


def _against(chosen: Ensemble, fixed: Ensemble) -> Paired | None:
    """The chosen one against the fixed recipe on the selection split; None where clips are too few
    to choose again on parts of them.
    """
    rows, table = cross_fitted_rows(chosen), fixed.selection
    if rows is None or table is None or table.labels is None:
        return None
    first: BoolArray = ranks(rows, table.labels) == 0
    second: BoolArray = ranks(table.logits, table.labels) == 0
    return paired(first, second)


def _why(ships: Ensemble, chosen: Ensemble, fixed: Ensemble, found: Paired) -> str:
    other = fixed if ships is chosen else chosen
    return (
        f"`{ships.name}` ships: on the selection split `{chosen.name}`, weights chosen without the"
        f" clips they are held to, is {100 * found.difference:+.2f} points from `{fixed.name}`,"
        f" standard error {100 * _error(found):.2f}; it has {written(_size(ships))} non-zero"
        f" parameters, the other {written(_size(other))}. The smaller one ships unless the other is"
        " better by more than one standard error."
    )
