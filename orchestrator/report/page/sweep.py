"""The page of one sweep: which parts it has, and the data of its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.folder import page_of
from orchestrator.record.journal import running_seconds, running_times
from orchestrator.report.content import Block, Bullets, Heading, Table
from orchestrator.report.findings import Findings
from orchestrator.report.page.classes import confusions, reliabilities
from orchestrator.report.page.html import escaped, inline, to_html
from orchestrator.report.page.points import (
    COSTS,
    finite,
    fronts_as_points,
    lines_of_levels,
    rows_as_points,
    trials_as_points,
)
from orchestrator.report.page.searched import importances, learning_curves, trials_with_values
from orchestrator.report.page.writing import Page, Part, chart, part
from orchestrator.report.sections.classes import classes
from orchestrator.report.sections.data import data_facts
from orchestrator.report.sections.decision import Candidate, candidates
from orchestrator.report.sections.doubt import doubt
from orchestrator.report.sections.forecast import forecast, resources
from orchestrator.report.sections.fronts import fronts
from orchestrator.report.sections.overview import overview, settings
from orchestrator.report.sections.papers import papers
from orchestrator.report.sections.reproduce import reproduce
from orchestrator.report.sections.results import foremost, results
from orchestrator.report.sections.trials import absent, levels, tradeoffs, trial_table, warnings
from orchestrator.report.tables import percent
from orchestrator.report.verdicts import verdicts


def write_page(found: Findings, *, reload_s: int = 0) -> Path:
    """Write report/index.html of the sweep; reload_s: the page loads itself again so often."""
    return sweep_page(found, reload_s=reload_s).write(page_of(found.run))


def sweep_page(found: Findings, *, reload_s: int = 0) -> Page:
    """The page; parts of which nothing is known are left out."""
    evaluation, chosen = found.evaluation, candidates(found)
    data = _data(found, chosen)
    parts = [
        _answer(found, chosen),
        part("scores", "Scores", _scores(results(evaluation))),
        _cost(found),
        _levels(found, data),
        part("papers", "Papers", _folded(papers(found.published))),
        part("sure", "How sure", _sure(found, data)),
        _search(found, data),
        _curves(data),
        _classes(found, data),
        part("trials", "Trials", trial_table(found.trials)),
        part("data", "Data", data_facts(found)),
        part("failures", "Missing", _missing(found)),
        part("forecast", "Forecast", _forecast(found)),
        part(
            "reproduce",
            "Reproduce",
            reproduce(found, [trial for each in chosen for trial in each.row.trials]),
            f"<details><summary>Settings of the sweep</summary>{to_html([settings(found.sweep)])}"
            "</details>",
        ),
    ]
    return Page(
        title=f"Sweep {found.name}",
        lead=_lead(found),
        state=_state(found, reload_s),
        parts=[each for each in parts if each is not None],
        data=data,
        reload_s=reload_s,
    )


def _state(found: Findings, reload_s: int) -> str:
    evaluated = found.evaluation is not None
    if reload_s:
        return "running again" if evaluated else "running"
    return "evaluated" if evaluated else "not evaluated"


def _lead(found: Findings) -> str:
    counts = Counter(state.status for state in found.trials)
    told = ", ".join(
        f"{counts[word]} {word}"
        for word in ("finished", "pruned", "failed", "unfinished", "discarded")
        if counts[word]
    )
    splits = found.evaluation.splits if found.evaluation is not None else ()
    data = " and ".join(f"{split.dataset}, {split.division.protocol}" for split in splits)
    hours = running_seconds(found.journal) / 3600
    cells = len({state.proposal.cell for state in found.trials})
    words = [
        data or str(found.sweep.get("data", {}).get("store", "")),
        f"{len(found.trials):,} trials in {cells:,} cell{'s' * (cells != 1)} ({told or 'none'})",
        f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min" if hours else "",
    ]
    return escaped(" · ".join(filter(None, words)))


def _answer(found: Findings, chosen: Sequence[Candidate]) -> Part | None:
    evaluation = found.evaluation
    if evaluation is None or not chosen:
        return part("answer", "So far", _so_far(found))
    cards = "".join(card(each, each.title) for each in chosen)
    verdict = to_html([Heading("Verdict", 3), Bullets(verdicts(evaluation))])
    paper = not all(each.row.division.held_out for each in chosen)
    note = (
        "Nothing was held out: these networks are of the last epoch, and the best of them is chosen"
        " by its test accuracy, which leans upwards."
        if paper
        else "Chosen on the selection clips; test accuracy is that of the final evaluation, which"
        " read the test labels when everything was decided."
    )
    return part(
        "answer",
        "Answer",
        f'<h2>What to ship</h2><div class="cards">{cards}</div><p class="note">{note}</p>{verdict}',
    )


def card(each: Candidate, kind: str) -> str:
    """One thing to ship: its accuracy, its costs, how sure that is, and how to take it home."""
    costs = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(text)}</dd></div>"
        for name, text in each.costs.items()
    )
    top1, _, error = each.accuracy.partition(" ± ")
    score = f"{escaped(top1)} % <small>± {escaped(error)} top-1 on test</small>"
    return (
        f'<article class="card"><p class="kind">{escaped(kind)}</p>'
        f"<h3>{escaped(each.row.name)}</h3>"
        f'<p class="score">{score}</p>{_interval(each)}<dl class="costs">{costs}</dl>'
        f"<h4>Against</h4>{_list(each.against)}<h4>How sure</h4>{_list(each.sure)}"
        f'<div class="listing"><pre>{escaped(chr(10).join(each.commands))}</pre></div></article>'
    )


def _interval(each: Candidate) -> str:
    """In words and as a bar from 0 to 100 %."""
    found = each.row.test.interval
    if found is None:
        return ""
    low, high = (100 * value for value in found)
    bar = (
        f'<i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
        f'<b style="left:{100 * each.row.test.top1:.2f}%"></b>'
    )
    return (
        f'<div class="range" aria-hidden="true">{bar}</div>'
        f'<p class="interval">95 % interval: {escaped(each.interval)} %</p>'
    )


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{inline(line)}</li>' for line in lines)}</ul>"


def _so_far(found: Findings) -> list[str | Block]:
    """What is known of a sweep that has no final evaluation."""
    finished = [state for state in found.trials if state.result is not None]
    text = "The final evaluation has not taken place: there are no test figures."
    if not found.trials:
        return [Heading("So far"), text, "No trial has been proposed yet."]
    known = [
        (state, state.result, top1)
        for state in finished
        if state.result is not None and (top1 := state.result.selection_top1) is not None
    ]
    if not known:
        return [Heading("So far"), text, f"{len(finished)} of {len(found.trials)} trials finished."]
    best: dict[str, tuple[Any, Any, float]] = {}
    for each in known:
        cell = each[0].proposal.cell
        if cell not in best or each[2] > best[cell][2]:
            best[cell] = each
    rows = [
        {
            "cell": f"`{cell}`",
            "best on selection %": f"{percent(top1)} ± {percent(_error(top1, result))}",
            "deploy non-zero": f"{result.cost.deploy_nonzero_params:,}",
            "trial": f"`{state.proposal.trial}`",
            "finished": str(sum(each.proposal.cell == cell for each in finished)),
        }
        for cell, (state, result, top1) in sorted(best.items(), key=lambda item: -item[1][2])
    ]
    table = Table(rows, best={"best on selection %": "highest"})
    note = "Selection figures: the best of many tries looks better than it is."
    return [Heading("So far"), text, table, note]


def _error(top1: float, result: Any) -> float:
    clips = max(result.selection_clips, 1)
    return float((top1 * (1 - top1) / clips) ** 0.5)


def _cost(found: Findings) -> Part | None:
    if not any(state.result for state in found.trials):
        return None
    figure = chart("cost", "Accuracy against cost, a point for each network and ensemble")
    budgets = fronts(found.evaluation, {})[1:]
    table = (
        f"<details><summary>Ensembles within budgets</summary>{to_html(budgets)}</details>"
        if budgets
        else ""
    )
    return part("cost", "Cost", "<h2>Accuracy against cost</h2>", figure, table)


def _levels(found: Findings, data: dict[str, object]) -> Part | None:
    figure = ""
    if data.get("levels"):
        figure = chart("levels", "Accuracy by share of weights removed, with published curves")
    table = levels(found.trials, found.evaluation)
    if not figure and not table:
        return None
    return part("levels", "Levels", "<h2>Accuracy by level</h2>", figure, table)


def _sure(found: Findings, data: dict[str, object]) -> str:
    evaluation = found.evaluation
    blocks = doubt(evaluation, foremost(evaluation) if evaluation else ())
    figure = ""
    if data.get("reliability"):
        figure = chart(
            "reliability",
            "How often a network is right, by how sure it is",
            title="Is it as sure as it is right?",
        )
    return to_html(blocks) + figure if blocks else ""


def _search(found: Findings, data: dict[str, Any]) -> Part | None:
    searched = data.get("searched")
    pieces: list[str | Sequence[Block]] = []
    if searched and searched["parameters"]:
        pieces.append(
            chart("parallel", "Every trial as a line through the values of its parameters")
        )
        if data.get("importances"):
            pieces.append(
                chart(
                    "importances",
                    "Part of the differences in accuracy that goes with each parameter",
                    title="Which parameters matter",
                )
            )
    if len(data.get("progress") or ()) > 1:
        pieces.append(
            chart("progress", "Selection accuracy of trials by time", title="Best so far")
        )
    pieces.append(_as_third(tradeoffs(found.trials, found.goals)))
    if not any(pieces):
        return None
    return part("search", "Search", "<h2>Hyperparameters</h2>", *pieces)


def _curves(data: dict[str, object]) -> Part | None:
    if not data.get("curves"):
        return None
    figure = chart("learning", "Learning curves of the trials of a cell")
    return part("curves", "Curves", "<h2>Learning curves</h2>", figure)


def _classes(found: Findings, data: dict[str, object]) -> Part | None:
    evaluation = found.evaluation
    headline = evaluation.headline if evaluation is not None else None
    if evaluation is None or headline is None or not data.get("classes"):
        return None
    figure = chart("confusion", "Confusion matrix of a network or ensemble on the test clips")
    words = classes(headline, evaluation, found.predictions.get(headline.division))
    return part(
        "classes",
        "Classes",
        '<h2>By class</h2><div class="columns"><div>',
        figure,
        '</div><div id="per-class"></div></div><details><summary>In words</summary>',
        words,
        "</details>",
    )


def _missing(found: Findings) -> list[Block]:
    """Failures with their reasons first; what they leave out after them."""
    failed = [state for state in found.trials if state.failure is not None]
    rows = [
        {
            "trial": f"`{state.proposal.trial}`",
            "cell": f"`{state.proposal.cell}`",
            "reason": str(state.failure),
        }
        for state in failed
    ]
    blocks: list[Block] = []
    if rows:
        reasons = Counter(str(state.failure) for state in failed)
        summary = [f"{count} x {reason}" for reason, count in reasons.most_common(5)]
        blocks += [Heading("Failures", 3), Bullets(summary), Table(rows)]
    rest = [state for state in found.trials if state.failure is None]
    blocks += _as_third(absent(rest, found.evaluation)) + _as_third(warnings(found.trials))
    return [Heading("What is missing"), *blocks] if blocks else []


def _forecast(found: Findings) -> list[Block]:
    expected = forecast(found.run, found.trials, found.journal)
    blocks = [
        *_as_third(expected),
        Heading("What happened", 3),
        overview(found.trials, found.evaluation, found.journal),
        *_as_third(resources(found.journal)),
    ]
    return [Heading("Expected and used"), *blocks]


def _as_third(blocks: Sequence[Block]) -> list[Block]:
    return [Heading(each.text, 3) if isinstance(each, Heading) else each for each in blocks]


def _scores(blocks: Sequence[Block]) -> str:
    """The table, then how to read it and how the ensembles are made."""
    if not blocks:
        return ""
    legend, rest = blocks[2:3], _as_third(blocks[3:])
    table = [_best_marked(each) for each in blocks[1:2] if isinstance(each, Table)]
    return (
        f"<h2>Scores</h2>{to_html(table)}<details><summary>How to read these figures</summary>"
        f"{to_html(legend)}</details>{to_html(rest)}"
    )


def _best_marked(table: Table) -> Table:
    accuracies = [name for name in table.columns if name.endswith("%")]
    return replace(table, best=dict.fromkeys(accuracies, "highest"))


def _folded(blocks: Sequence[Block]) -> str:
    """A part that is long and not read first."""
    if not blocks:
        return ""
    return (
        f"{to_html(blocks[:1])}<details><summary>Tables, with ours beside the published figures"
        f"</summary>{to_html(blocks[1:])}</details>"
    )


def _data(found: Findings, chosen: Sequence[Candidate]) -> dict[str, object]:
    """The data of the charts; None where there is none."""
    evaluation = found.evaluation
    order: Sequence[Row] = foremost(evaluation) if evaluation is not None else ()
    order = [*(each.row for each in chosen), *(row for row in reversed(order))]
    order = list({row.name: row for row in order}.values())
    return {
        "cost": {
            "rows": rows_as_points(evaluation, found.trials) if evaluation else None,
            "trials": trials_as_points(found.trials),
            "fronts": fronts_as_points(evaluation) if evaluation else [],
            "costs": COSTS,
            "ships": [each.row.name for each in chosen],
        },
        "levels": _lines(evaluation, found),
        "searched": trials_with_values(found.trials),
        "importances": importances(found.trials),
        "curves": learning_curves(found.run, found.trials),
        "classes": confusions(found, order),
        "reliability": reliabilities(order),
        "progress": _progress(found),
    }


def _lines(evaluation: FinalEvaluation | None, found: Findings) -> object:
    return lines_of_levels(evaluation, found.trials) if evaluation is not None else None


def _progress(found: Findings) -> list[list[object]]:
    """Hours since the first event, trial and selection accuracy of trials as they finished."""
    top1 = {
        state.proposal.trial: state.result.selection_top1
        for state in found.trials
        if state.result is not None and state.result.selection_top1 is not None
    }
    times = {
        event["trial"]: seconds / 3600
        for event, seconds in zip(found.journal, running_times(found.journal), strict=True)
        if event["event"] == "trial_finished" and event["trial"] in top1
    }
    return [
        [finite(hours, 4), trial, finite(top1[trial], 5)]
        for trial, hours in sorted(times.items(), key=lambda item: item[1])
    ]
