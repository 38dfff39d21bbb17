"""What the page shows class by class: confusion matrices from the final evaluation, whose labels
it has noted; none is read again.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ensembling.results import Row
from orchestrator.report.findings import Findings
from orchestrator.report.page.points import Json, finite

MOST_CELLS = 150_000
"""Of all confusion matrices together, as far as they are not 0."""


def confusions(found: Findings, order: Sequence[Row]) -> Json | None:
    """The matrices of networks and ensembles, those of `order` first, as far as there is room;
    None in evaluations of version 4.

    A matrix is a list [class * K + taken for, clips, ...] of its cells that are not 0.
    """
    evaluation = found.evaluation
    if evaluation is None or not found.predictions:
        return None
    divisions = list(found.predictions)
    ordered = {row.name: row for row in (*order, *evaluation.rows)}
    members: list[Json] = []
    left_out, cells = 0, 0
    for row in ordered.values():
        predictions = found.predictions.get(row.division)
        if predictions is None or row.name not in predictions.firsts:
            continue
        counts = predictions.confusion(row.name).ravel()
        places = counts.nonzero()[0]
        cells += len(places)
        if cells > MOST_CELLS and members:
            left_out += 1
            continue
        flat = [int(number) for place in places for number in (place, counts[place])]
        members.append({"name": row.name, "of": divisions.index(row.division), "cells": flat})
    classes = [list(predictions.classes) for predictions in found.predictions.values()]
    return {"classes": classes, "members": members, "left_out": left_out} if members else None


def reliabilities(rows: Sequence[Row]) -> list[Json]:
    """How often networks are right, by how sure they are, of those rows of which it is known."""
    return [
        {
            "name": row.name,
            "ece": finite(sure.ece, 4),
            "by_chance": finite(sure.ece_by_chance, 4),
            "bins": [
                [finite(part.confidence, 4), finite(part.right, 4), part.clips]
                for part in sure.bins
            ],
        }
        for row in rows
        if (sure := row.calibration) is not None
    ]
