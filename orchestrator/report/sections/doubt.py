"""What there is to doubt about the figures: intervals, calibration, the luck of choosing, how much
the members of an ensemble differ, and whether searching has helped.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.ensembling.statistics.intervals import Interval
from orchestrator.report.content import Block, Heading, Table
from orchestrator.report.sections.words import NONE
from orchestrator.report.tables import percent, span

MOST_ROWS = 12


FEW = ("name", "test top-1 %", "95 % (Wilson)", "over clips", "over subjects", "ECE %")
"""Columns of the first table that are read first."""


def doubt(evaluation: FinalEvaluation | None, foremost: Sequence[Row]) -> list[Block]:
    """The sections; nothing where the evaluation is of version 5 or earlier."""
    if evaluation is None or evaluation.version is None or not foremost:
        return []
    return [
        Heading("How sure the figures are"),
        Table([_interval_line(row) for row in foremost], few=FEW),
        _intervals_legend(foremost),
        *_luck(evaluation, foremost),
        *_first_tried(evaluation),
        *_diversity(evaluation),
        *_paper_style(evaluation),
    ]


def _interval_line(row: Row) -> dict[str, str]:
    found, sure = row.bootstrap, row.calibration
    subjects = found.subjects if found else None
    return {
        "name": f"`{row.name}`",
        "test top-1 %": percent(row.test.top1),
        "95 % (Wilson)": _or_none(row.test.interval),
        "over clips": _or_none(found.clips if found else None),
        "over subjects": _or_none(subjects),
        "log-loss": NONE if row.test.cross_entropy is None else f"{row.test.cross_entropy:.3f}",
        "ECE %": percent(sure.ece) if sure else NONE,
        "by chance": percent(sure.ece_by_chance) if sure else NONE,
        "confidence - accuracy": f"{100 * sure.over_confident:+.2f}" if sure else NONE,
        "Brier": f"{sure.brier:.3f}" if sure else NONE,
    }


def _or_none(found: Interval | None) -> str:
    return span(found) if found else NONE


def _intervals_legend(rows: Sequence[Row]) -> str:
    counts = sorted({row.bootstrap.subject_count for row in rows if row.bootstrap})
    few = f"{' and '.join(map(str, counts))} here; " if counts else ""
    return (
        "Intervals of 95 %: Wilson's and a bootstrap (BCa) over the test clips, as if other clips"
        " of the same people were drawn, and a bootstrap over the people who perform them"
        f" ({few}with fewer than 8 there is none, with fewer than 20 it is too narrow). A"
        " bootstrap says nothing (n/a) where every sample has the same mean, as of an accuracy of"
        " 100 %; Wilson's does. None speaks of other seeds. Log-loss, ECE and Brier are n/a where"
        " logits are summed with weights that were not fitted by log-loss: their softmax means no"
        " probability. ECE: expected calibration error, 15 bins of equal width; `by"
        " chance` is what a perfectly calibrated network has on as many clips. Equal-mass ECE is in"
        " `tables/results.csv`, the bins are in `evaluation.json`."
    )


def _luck(evaluation: FinalEvaluation, foremost: Sequence[Row]) -> list[Block]:
    rows = [row for row in foremost if row.luck is not None]
    title = Heading("Luck of choosing", 3)
    if not any(split.division.held_out for split in evaluation.splits):
        return [
            title,
            "Nothing was held out to choose on, so nothing can be said of what choosing adds.",
        ]
    if not rows:
        return [title, "There was one trial in each cell and no weight to choose."]
    drawn = sorted({row.luck.draws for row in rows if row.luck})
    text = (
        "What is chosen by its accuracy on the selection clips looks better there than it is. The"
        " corrected figure repeats the whole choice (the trial of every cell, then the weights) on"
        f" bootstrap samples of these clips ({' and '.join(map(str, drawn))} of them) and evaluates"
        " what each chooses on the clips that it lacks (BBC-CV). Its interval is wider than it need"
        " be, as each sample lacks only 37 % of the clips, and speaks of other clips of the same"
        " people. Which epoch was kept, which trials were stopped early, which ensemble and which"
        " single network ship is not decided again. `cross-fitted`: each fifth of the clips is"
        " scored with what was chosen on the others."
    )
    return [title, text, Table([_luck_line(row) for row in rows])]


def _luck_line(row: Row) -> dict[str, str]:
    found = row.luck
    assert found is not None
    return {
        "name": f"`{row.name}`",
        "chosen from": str(found.contenders),
        "selection top-1 %": percent(found.naive),
        "corrected %": percent(found.corrected),
        "95 % of corrected": span(found.interval),
        "luck": f"{100 * found.bias:+.2f}",
        "cross-fitted %": percent(row.cross_fitted.top1) if row.cross_fitted else NONE,
    }


def _first_tried(evaluation: FinalEvaluation) -> list[Block]:
    """Overtuning, in a sentence."""
    found = evaluation.first_tried
    if not found:
        return []
    better = sum(each.difference > 0 for each in found)
    worse = sum(each.difference < 0 for each in found)
    mean = fmean(each.difference for each in found)
    worst = min(found, key=lambda each: each.difference)
    text = (
        f"Of {len(found)} cells in which there was a choice, the chosen trial is better on test"
        f" than the first one tried in {better}, worse in {worse} (searching on the selection clips"
        f" was overtuning there), as good or the same in {len(found) - better - worse}; the mean"
        f" difference is {100 * mean:+.2f} points."
    )
    if worst.difference < 0:
        text += (
            f" Most is lost in `{worst.cell}`: {percent(worst.first_top1)} % of the first,"
            f" {percent(worst.chosen_top1)} % of the chosen one of {worst.contenders}."
        )
    where = "Every cell is in `tables/first_tried.csv`."
    return [Heading("Has searching helped?", 3), f"{text} {where}"]


def _diversity(evaluation: FinalEvaluation) -> list[Block]:
    rows = [row for row in evaluation.rows if row.diversity is not None][-MOST_ROWS:]
    if not rows:
        return []
    text = (
        "Means over pairs of networks, on the test clips. Q: Yule's statistic of being right, 1"
        " where both err on the same clips, 0 where independently of each other. Disagreement: only"
        " one of them is right. Different classes: also where both are wrong. Error overlap: of the"
        " clips that one of two has wrong, both have. All wrong: clips that no network of the"
        " ensemble has right."
    )
    lines = [
        {
            "ensemble": f"`{row.name}`",
            "networks": str(found.members),
            "Q": NONE if found.q is None else f"{found.q:.3f}",
            "disagreement %": NONE
            if found.different_classes is None
            else percent(found.disagreement),
            "different classes %": percent(
                found.disagreement if found.different_classes is None else found.different_classes
            ),
            "both wrong %": percent(found.double_fault),
            "error overlap %": NONE
            if found.error_overlap is None
            else percent(found.error_overlap),
            "all wrong %": percent(found.all_wrong),
        }
        for row in rows
        if (found := row.diversity) is not None
    ]
    return [Heading("How much the networks differ", 3), text, Table(lines)]


def _paper_style(evaluation: FinalEvaluation) -> list[Block]:
    if not evaluation.paper_style:
        return []
    text = (
        "Asked for with `--paper-style`: the trial of every cell, and the weights, chosen by their"
        " accuracy on the test clips, as the papers' scripts do. These figures are the best that"
        " was to be had there and estimate nothing; they are compared with nothing."
    )
    honest = {row.name: row for row in evaluation.rows}
    lines = [
        {
            "paper style": f"`{each.name}`",
            "chosen on test %": percent(each.test.top1),
            "chosen on selection %": (
                percent(honest[each.name].test.top1) if each.name in honest else NONE
            ),
            "trials": ", ".join(each.trials),
        }
        for each in reversed(evaluation.paper_style)
    ]
    return [Heading("Paper style: chosen on the test clips", 3), text, Table(lines[:MOST_ROWS])]


def first_tried_cells(evaluation: FinalEvaluation) -> list[dict[str, Any]]:
    """Every cell in which there was a choice."""
    return [
        {
            **each.model_dump(exclude={"test"}),
            "difference": each.difference,
            "p_value": each.test.p_value if each.test else None,
        }
        for each in evaluation.first_tried
    ]
