"""What `what-if` prints. Knows how to print, not how to choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import console, table
from orchestrator.ensembling.budgets import MEASURES, written

if TYPE_CHECKING:
    from orchestrator.ensembling.evaluate import Accuracy
    from orchestrator.ensembling.results import FrontPoint
    from orchestrator.ensembling.what_if import Answer, Imagined

SELECTION = (
    "These figures are of the selection split; the test split was not opened. What is chosen looks"
    " better there than it is."
)


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """Every ensemble with its networks, its cost and its figures, and whose figures they are."""
    if as_json:
        print(json.dumps(answer.to_json(), indent=2))
        return
    out = console()
    for ensemble in answer.ensembles:
        out.print(f"{ensemble.name}: {_recipe(ensemble)}", soft_wrap=True)
        found = table("network", "weight")
        total = sum(ensemble.weights.values())
        for source, weight in ensemble.weights.items():
            found.add_row(source, f"{weight / total:.3f}")
        out.print(found)
        out.print(f"cost: {_cost(ensemble)}", soft_wrap=True)
        out.print(f"selection top-1: {_percent(ensemble.selection)}", soft_wrap=True)
        if ensemble.cross_fitted is not None:
            out.print(
                f"cross-fitted: {_honest(ensemble.cross_fitted)}, each fifth of the clips with the"
                " weights chosen on the others (trials are not chosen again)",
                soft_wrap=True,
            )
        name, alone = ensemble.best_network
        out.print(f"best network by itself: {name} {_percent(alone)}", soft_wrap=True)
    for name, why in answer.skipped.items():
        out.print(f"{name}: {why}", soft_wrap=True)
    out.print(
        SELECTION
        + (
            " The cross-fitted figure does so much less."
            if any(each.cross_fitted for each in answer.ensembles)
            else ""
        ),
        soft_wrap=True,
    )


def print_front(points: Sequence[FrontPoint], *, as_json: bool) -> None:
    """What each budget buys, the cheapest first."""
    if as_json:
        content = [point.model_dump(mode="json", exclude={"test", "clean"}) for point in points]
        print(json.dumps({"split": "selection", "front": content}, indent=2))
        return
    found = table(points[0].measure, "selection top-1", text="made of")
    for point in points:
        total = sum(point.weights.values())
        made = ", ".join(f"{name} {weight / total:.2f}" for name, weight in point.weights.items())
        found.add_row(written(point.cost), _percent(point.selection), made)
    out = console()
    out.print(found)
    out.print(SELECTION, soft_wrap=True)


def _recipe(ensemble: Imagined) -> str:
    networks = f"{ensemble.networks} network{'' if ensemble.networks == 1 else 's'}"
    return f"{networks}, {ensemble.method} of {ensemble.combine}"


def _cost(ensemble: Imagined) -> str:
    return ", ".join(
        f"{measure} {written(ensemble.cost[measure])}"
        + (f" of {written(ensemble.limits[measure])}" if measure in ensemble.limits else "")
        for measure in MEASURES
        if measure in ensemble.cost
    )


def _percent(found: Accuracy) -> str:
    """Without an error: it would not cover what choosing adds."""
    return f"{100 * found.top1:.2f} % ({found.clips} clips)"


def _honest(found: Accuracy) -> str:
    return f"{100 * found.top1:.2f} % ± {100 * found.top1_error:.2f} ({found.clips} clips)"
