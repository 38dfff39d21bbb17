"""What a model says of clips, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rich.cells import cell_len

from orchestrator.cli.printing.tables import console, name_width, table
from orchestrator.ensembling.predicting import PredictedClip, ranked
from trainables.contract.names import printable


def print_predictions(
    predictions: Sequence[PredictedClip], classes: Sequence[str], top: int
) -> None:
    """A line per clip with its most probable classes, or one per class where that is wider than
    standard output: no answer is left out.
    """
    out = console()
    shown = min(top, len(classes))
    places = [f"{number}." if number > 1 else "class" for number in range(1, shown + 1)]
    clips = [printable(each.clip) for each in predictions]
    answers = [
        [
            (printable(classes[k]), f"{100 * each.probabilities[k]:.1f}")
            for k in ranked(each.probabilities, shown)
        ]
        for each in predictions
    ]
    width = name_width(out, ("clip", *clips)) + sum(
        max(map(cell_len, (place, *(each[k][0] for each in answers)))) + 2 + len("100.0") + 2
        for k, place in enumerate(places)
    )
    made = table("clip")
    for place in places if width <= out.width else ["class"]:
        made.add_column(place, overflow="fold")
        made.add_column("%", justify="right", no_wrap=True)
    for clip, said in zip(clips, answers, strict=True):
        if width <= out.width:
            made.add_row(clip, *(cell for answer in said for cell in answer))
        else:
            for k, answer in enumerate(said):
                made.add_row("" if k else clip, *answer)
    out.print(made)


def as_csv(predictions: Sequence[PredictedClip], classes: Sequence[str], top: int | None) -> str:
    """clip, class, probability and a column per class; of the `top` classes a pair of columns each
    instead.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    if top is None:
        writer.writerow(["clip", "class", "probability", *(f"p({name})" for name in classes)])
        for each in predictions:
            best = ranked(each.probabilities, 1)[0]
            values = [f"{value:.6g}" for value in each.probabilities]
            writer.writerow([each.clip, classes[best], values[best], *values])
        return sink.getvalue()
    numbers = range(1, min(top, len(classes)) + 1)
    writer.writerow(
        ["clip", *(f"{name}_{k}" for k in numbers for name in ("class", "probability"))]
    )
    for each in predictions:
        row = [each.clip]
        for k in ranked(each.probabilities, top):
            row += [classes[k], f"{each.probabilities[k]:.6g}"]
        writer.writerow(row)
    return sink.getvalue()


def as_json(predictions: Sequence[PredictedClip], classes: Sequence[str], top: int | None) -> str:
    """A list of records, the most probable class first in each; `top` classes, or all."""
    records = []
    for each in predictions:
        order = ranked(each.probabilities, top)
        records.append(
            {
                "clip": each.clip,
                "class": classes[order[0]],
                "probability": float(each.probabilities[order[0]]),
                "probabilities": {classes[k]: float(each.probabilities[k]) for k in order},
            }
        )
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"
