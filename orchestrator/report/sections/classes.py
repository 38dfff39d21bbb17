"""What the sweep's last ensemble, or its best network, gets right and wrong, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.report.sections.words import NONE
from orchestrator.report.tables import markdown_table, percent

MOST = 10  # classes and confusions in the report; the tables have them all


def classes(row: Row, evaluation: FinalEvaluation, found: Predictions | None) -> list[str]:
    """The classes of lowest accuracy and the most frequent confusions; nothing in evaluations of
    version 4.
    """
    if found is None:
        return []
    by_class = sorted(found.by_class(row.name), key=lambda each: each.accuracy)
    best = next(
        (each.against for each in evaluation.comparisons if each.ensemble == row.name), None
    )
    others = {each.label: each for each in found.by_class(best)} if best else {}
    lines = [
        {
            "class": each.name,
            "clips": str(each.clips),
            "right %": percent(each.accuracy),
            **(
                {f"`{best}` %": percent(others[each.label].accuracy) if others else NONE}
                if best
                else {}
            ),
            "most often taken for": f"{each.taken_for} ({each.taken})" if each.taken else "",
        }
        for each in by_class[:MOST]
    ]
    confusions = [
        f"- {found.classes[label]} taken for {found.classes[first]}: {clips}"
        for label, first, clips in found.confusions(row.name)[:MOST]
    ]
    wrong = len(found.misclassified(row.name))
    shown = f"The {len(lines)} of {len(by_class)} classes of lowest accuracy"
    text = (
        f"{shown if len(by_class) > MOST else 'All classes'}, on the {len(found.ids)} test clips;"
        f" {wrong} of them are misclassified. Every network, class and clip is in"
        " `tables/per_class.csv`, `tables/confusion.csv` and `tables/misclassified.csv`."
    )
    parts = [f"## By class: `{row.name}`", text, markdown_table(lines)]
    return [*parts, "Most frequent confusions:", "\n".join(confusions)] if confusions else parts


def class_cells(tables: Sequence[Predictions]) -> list[dict[str, Any]]:
    """The accuracy of every class that occurs, of every network and ensemble."""
    return [
        {"name": name, **each.to_json()}
        for found in tables
        for name in found.firsts
        for each in found.by_class(name)
    ]


def confusion_cells(tables: Sequence[Predictions]) -> list[dict[str, Any]]:
    """Every cell of the confusion matrices that is not 0, the right ones among them."""
    return [
        {
            "name": name,
            "class": found.classes[label],
            "taken_for": found.classes[first],
            "clips": int(counts[label, first]),
        }
        for found in tables
        for name in found.firsts
        for counts in [found.confusion(name)]
        for label, first in zip(*counts.nonzero(), strict=True)
    ]


def misclassified_cells(tables: Sequence[Predictions]) -> list[dict[str, Any]]:
    """Every clip that at least one network or ensemble gets wrong: how many do, and what each of
    these takes it for; those that many get wrong first.
    """
    rows: list[dict[str, Any]] = []
    for found in tables:
        names = list(found.firsts)
        firsts = np.stack([found.firsts[name] for name in names])
        wrong = firsts != found.labels  # (networks, clips)
        for row in np.flatnonzero(wrong.any(axis=0)):
            taken = {names[i]: found.classes[firsts[i, row]] for i in np.flatnonzero(wrong[:, row])}
            label = found.classes[found.labels[row]]
            rows.append({"id": found.ids[row], "class": label, "wrong": len(taken), **taken})
    return sorted(rows, key=lambda row: -row["wrong"])
