"""What the sweep's last ensemble, or its best network, gets right and wrong, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.ensembling.statistics.changes import (
    ClassChange,
    ConfusionChange,
    class_changes,
    confusion_changes,
)
from orchestrator.report.content import Block, Bullets, Heading, Table
from orchestrator.report.sections.words import NONE
from orchestrator.report.tables import percent

MOST_AGAINST = 2  # networks that the headline is held against by class
MOST_CHANGES = 5
MOST = 10  # classes and confusions in the report; the tables have them all


def classes(row: Row, evaluation: FinalEvaluation, found: Predictions | None) -> list[Block]:
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
    told = {(each.name, each.taken_for) for each in by_class[:MOST]}  # in the table already
    confusions = [
        f"{found.classes[label]} taken for {found.classes[first]}: {clips}"
        for label, first, clips in found.confusions(row.name)
        if (found.classes[label], found.classes[first]) not in told
    ][:MOST]
    wrong = len(found.misclassified(row.name))
    shown = f"The {len(lines)} of {len(by_class)} classes of lowest accuracy"
    text = (
        f"{shown if len(by_class) > MOST else 'All classes'}, on the {len(found.ids)} test clips;"
        f" {wrong} of them are misclassified. Every network, class and clip is in"
        " `tables/per_class.csv`, `tables/confusion.csv` and `tables/misclassified.csv`."
    )
    parts: list[Block] = [Heading(f"By class: `{row.name}`"), text, Table(lines)]
    if confusions:
        parts += ["The most frequent of the other confusions:", Bullets(confusions)]
    return parts + _changes(row, evaluation, found)


def _changes(row: Row, evaluation: FinalEvaluation, found: Predictions) -> list[Block]:
    """What an ensemble gains and loses by class against the networks it is held against."""
    own = [each for each in evaluation.comparisons if each.ensemble == row.name]
    roles = {each.against: each.role for each in reversed(own)}  # the first of its roles
    parts: list[Block] = []
    for against in list(dict.fromkeys(each.against for each in own))[:MOST_AGAINST]:
        changes = class_changes(found.firsts[row.name], found.firsts[against], found.labels)
        order = sorted(changes, key=lambda each: each.first - each.second)
        gains = [each for each in reversed(order) if each.first > each.second]
        losses = [each for each in order if each.first < each.second]
        changed = confusion_changes(
            found.firsts[row.name], found.firsts[against], found.labels, len(found.classes)
        )
        parts += [
            Heading(f"By class against `{against}` ({roles[against]})", 3),
            f"Classes that gain: {len(gains)}, that lose: {len(losses)}, that stay:"
            f" {len(changes) - len(gains + losses)}. Clips right with the network, then with the"
            " ensemble; and the confusions that changed most. All classes are in"
            " `tables/class_changes.csv`.",
            Bullets(
                [
                    line
                    for line in (
                        _listed("gains", gains, found),
                        _listed("losses", losses, found),
                        _confused(changed, found),
                    )
                    if line
                ]
            ),
        ]
    return [part for part in parts if part != Bullets([])]


def _listed(kind: str, changes: Sequence[ClassChange], found: Predictions) -> str:
    texts = [
        f"{found.classes[each.label]} {each.second} to {each.first} of {each.clips}"
        for each in changes[:MOST_CHANGES]
    ]
    return f"{kind}: {'; '.join(texts)}" if texts else ""


def _confused(changes: Sequence[ConfusionChange], found: Predictions) -> str:
    texts = [
        f"{found.classes[each.label]} taken for {found.classes[each.taken_for]}"
        f" {each.second} to {each.first}"
        for each in changes[:MOST_CHANGES]
    ]
    return f"confusions: {'; '.join(texts)}" if texts else ""


def change_cells(
    tables: Sequence[Predictions], evaluation: FinalEvaluation
) -> list[dict[str, Any]]:
    """Every class of every ensemble against the networks it is held against."""
    return [
        {
            "ensemble": ensemble,
            "against": against,
            "class": found.classes[each.label],
            "clips": each.clips,
            "right": each.first,
            "right_against": each.second,
            "only_ensemble": each.first_only,
            "only_against": each.second_only,
            "difference": each.difference,
        }
        for ensemble, against in dict.fromkeys(
            (each.ensemble, each.against) for each in evaluation.comparisons
        )
        for found in tables
        if {ensemble, against} <= found.firsts.keys()
        for each in class_changes(found.firsts[ensemble], found.firsts[against], found.labels)
    ]


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
