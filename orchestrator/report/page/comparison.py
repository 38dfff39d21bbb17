"""The page that holds two sweeps against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.evaluate import paired
from orchestrator.ensembling.results import Row
from orchestrator.record.forecasts import used_by
from orchestrator.report.content import Block, Heading, Table
from orchestrator.report.findings import Findings, bytes_by_trial
from orchestrator.report.page.html import escaped
from orchestrator.report.page.points import COSTS, Json, columns_and_rows, point_of, trial_point
from orchestrator.report.page.sweep import card
from orchestrator.report.page.writing import Page, chart, part
from orchestrator.report.sections.decision import Candidate, candidates
from orchestrator.report.sections.overview import flatten
from orchestrator.report.sections.words import NONE
from orchestrator.report.tables import percent
from orchestrator.report.verdicts import judgement

MOST_LETTERS = 120
"""Of a setting in the table."""


def write_comparison(first: Findings, second: Findings) -> Path:
    """Write report/with-SECOND.html of the first sweep."""
    return comparison(first, second).write(first.run / "report" / f"with-{second.run.name}.html")


def comparison(first: Findings, second: Findings) -> Page:
    """What both ship, on the same clips where they have them, and in what the sweeps differ."""
    names = _names(first, second)
    chosen = [candidates(each) for each in (first, second)]
    cards = "".join(
        card(each, f"{name}: {each.title.lower()}")
        for name, own in zip(names, chosen, strict=True)
        for each in own
    )
    answer: list[Block] = [
        _against(first, second, names),
        _best_so_far(first, second, names),
    ]
    parts = [
        part(
            "answer",
            "Answer",
            "<h2>What each ships</h2>",
            f'<div class="cards">{cards}</div>' if cards else "",
            [each for each in answer if each],
        ),
        part("cost", "Cost", "<h2>Accuracy against cost</h2>", chart("cost", "Both sweeps")),
        part("used", "Used", [Heading("What they used"), _used(first, second, names)]),
        part("settings", "Settings", _settings(first, second, names)),
    ]
    return Page(
        title=f"{names[0]} against {names[1]}",
        lead=escaped(f"{first.run} and {second.run}"),
        state="",
        parts=[each for each in parts if each is not None],
        data={"cost": _points(first, second, names, chosen)},
    )


def _names(first: Findings, second: Findings) -> tuple[str, str]:
    """Of the sweeps; of their folders where both have one name."""
    if first.name != second.name:
        return first.name, second.name
    return str(first.run), str(second.run)


def _points(
    first: Findings,
    second: Findings,
    names: tuple[str, str],
    chosen: Sequence[Sequence[Candidate]],
) -> Json:
    both = list(zip(names, (first, second), strict=True))
    rows = [
        {**point_of(row, found.evaluation, bytes_by_trial(found.trials)), **_of(name, row.name)}
        for name, found in both
        if found.evaluation is not None
        for row in found.evaluation.rows
    ]
    trials = [
        {**trial_point(state, state.result), **_of(name, state.proposal.trial)}
        for name, found in both
        for state in found.trials
        if state.result is not None
    ]
    return {
        "rows": columns_and_rows(rows),
        "trials": columns_and_rows(trials),
        "costs": COSTS,
        "ships": [
            f"{name}: {each.row.name}"
            for name, own in zip(names, chosen, strict=True)
            for each in own
        ],
    }


def _of(sweep: str, name: str) -> dict[str, str]:
    return {"name": f"{sweep}: {name}", "group": sweep}


def _against(first: Findings, second: Findings, names: tuple[str, str]) -> str:
    """What the first ships against what the second ships, clip by clip where the final evaluations
    noted the same clips; "" before both took place.
    """
    rows = [each.evaluation.headline if each.evaluation else None for each in (first, second)]
    one, other = rows
    if one is None or other is None:
        return ""
    said = f"`{one.name}` of {names[0]} against `{other.name}` of {names[1]}"
    mine, theirs = _predictions(first, one), _predictions(second, other)
    if mine is None or theirs is None or not _same_clips(mine, theirs):
        return (
            f"{said}: they are not tested on the same clips, so that their accuracies are not to be"
            " compared."
        )
    hits = [
        np.asarray(found.firsts[row.name] == found.labels)
        for found, row in ((mine, one), (theirs, other))
    ]
    test = paired(*hits)
    return (
        f"{said}, on the same {test.clips:,} test clips: {100 * test.difference:+.2f} ±"
        f" {100 * test.error:.2f} points, only the first has {test.first_only} right, only the"
        f" second {test.second_only} (sign test p = {test.p_value:.2g}). **The first is"
        f" {judgement(test, 'the second')}.**"
    )


def _predictions(found: Findings, row: Row) -> Predictions | None:
    predictions = found.predictions.get(row.division)
    return predictions if predictions is not None and row.name in predictions.firsts else None


def _same_clips(one: Predictions, other: Predictions) -> bool:
    return one.ids == other.ids and np.array_equal(one.labels, other.labels)


def _best_so_far(first: Findings, second: Findings, names: tuple[str, str]) -> str:
    """Selection accuracies, where a final evaluation is missing."""
    if first.evaluation is not None and second.evaluation is not None:
        return ""
    words = []
    for name, found in zip(names, (first, second), strict=True):
        best = _best(found)
        words.append(f"{name} {NONE if best is None else f'{percent(best)} %'}")
    return (
        f"Best accuracy on the selection clips: {', '.join(words)}. The best of more tries looks"
        " better than it is by more."
    )


def _best(found: Findings) -> float | None:
    known = (state.result.selection_top1 for state in found.trials if state.result is not None)
    return max((each for each in known if each is not None), default=None)


def _used(first: Findings, second: Findings, names: tuple[str, str]) -> Table:
    rows = []
    for name, found in zip(names, (first, second), strict=True):
        used, best = used_by(found.run, found.trials, found.journal), _best(found)
        rows.append(
            {
                "sweep": f"`{name}`",
                "trials": f"{used.trials:,}",
                "finished": f"{sum(state.result is not None for state in found.trials):,}",
                "epochs": f"{used.epochs:,}",
                "hours": f"{used.hours:,.3g}",
                "disk GB": f"{used.disk_gb:,.3g}",
                "best on selection %": NONE if best is None else percent(best),
            }
        )
    return Table(rows)


def _settings(first: Findings, second: Findings, names: tuple[str, str]) -> list[Block]:
    """Every setting that differs."""
    one, other = flatten(first.sweep), flatten(second.sweep)
    rows = [
        {"": f"`{name}`", names[0]: _value(one, name), names[1]: _value(other, name)}
        for name in dict.fromkeys(chain(one, other))
        if one.get(name) != other.get(name)
    ]
    if not rows:
        return [Heading("Settings"), "Both sweeps have the same settings."]
    return [Heading("Settings that differ"), Table(rows)]


def _value(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return ""
    text = json.dumps(settings[name])
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."
