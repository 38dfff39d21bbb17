"""Writes the report of a sweep: report.md with its tables and figures, and the page; made again at
any time from the files of the sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.states import TrialState
from orchestrator.report.content import Block, Heading, Picture
from orchestrator.report.findings import Findings, read_findings
from orchestrator.report.markdown import to_markdown
from orchestrator.report.page.sweep import write_page
from orchestrator.report.pictures import draw_all
from orchestrator.report.sections.classes import (
    change_cells,
    class_cells,
    classes,
    confusion_cells,
    misclassified_cells,
)
from orchestrator.report.sections.decision import candidates, decision
from orchestrator.report.sections.doubt import doubt, first_tried_cells
from orchestrator.report.sections.forecast import forecast, resources
from orchestrator.report.sections.fronts import draw_fronts, front_cells, fronts
from orchestrator.report.sections.overview import overview, settings
from orchestrator.report.sections.papers import paper_cells, papers
from orchestrator.report.sections.results import answer, foremost, results
from orchestrator.report.sections.trials import absent, levels, tradeoffs, trial_table, warnings
from orchestrator.report.tables import (
    comparison_cells,
    level_cells,
    result_cells,
    trial_cells,
    write_csv,
)
from orchestrator.report.violins import (
    THRESHOLD,
    Violin,
    draw_violins,
    violin_cells,
    violin_section,
    violins,
)
from trainables.contract.disk import write_atomic


def write_report(run: Path, confidence: float = THRESHOLD, *, paper_style: bool = False) -> Path:
    """Write `run`/report/ (report.md, index.html, tables/*.csv, figures/*.png) and return
    report.md.

    Works before the sweep has ended, too. confidence: the probability below which clips are in the
    second row of the violins. paper_style: say what choosing on the test clips has given, where
    that was asked for.
    """
    found, out = read_findings(run, paper_style=paper_style), run / "report"
    sureness = violins(run, found.evaluation, confidence)
    _write_tables(out / "tables", found.trials, found.evaluation, list(found.predictions.values()))
    if sureness:
        write_csv(out / "tables" / "violins.csv", [violin_cells(each) for each in sureness])
    if found.published:
        write_csv(out / "tables" / "papers.csv", paper_cells(found.published))
    pictures = draw_all(found, out / "figures")
    text = to_markdown(f"Sweep {found.name}", _parts(found, sureness, pictures))
    write_page(found)
    write_atomic(out / "report.md", text.encode())
    return out / "report.md"


def _parts(
    found: Findings, sureness: Sequence[Violin], pictures: Mapping[str, Path]
) -> list[Block]:
    """What report.md says, from its answer to the settings."""
    trials, evaluation, figures = found.trials, found.evaluation, found.run / "report" / "figures"
    headline = evaluation.headline if evaluation is not None else None
    by_class: list[Block] = []
    if evaluation is not None and headline is not None:
        by_class = classes(headline, evaluation, found.predictions.get(headline.division))
    return [
        *decision(candidates(found)),
        *answer(evaluation),
        Heading("The sweep"),
        overview(trials, evaluation, found.journal),
        *absent(trials, evaluation),
        *warnings(trials),
        *([Heading("Figures")] if pictures else []),
        *(Picture(title, f"figures/{path.name}") for title, path in pictures.items()),
        *by_class,
        *violin_section(sureness, draw_violins(sureness, figures / "violins.png")),
        *results(evaluation),
        *doubt(evaluation, foremost(evaluation) if evaluation else ()),
        *papers(found.published),
        *fronts(evaluation, draw_fronts(evaluation, figures)),
        *tradeoffs(trials, found.goals),
        *levels(trials, evaluation),
        *trial_table(trials),
        *forecast(found.run, trials, found.journal),
        *resources(found.journal),
        Heading("Settings"),
        settings(found.sweep),
    ]


def _write_tables(
    out: Path,
    trials: Sequence[TrialState],
    evaluation: FinalEvaluation | None,
    predictions: Sequence[Predictions],
) -> None:
    write_csv(out / "trials.csv", [trial_cells(state) for state in trials])
    if evaluation is None:
        return
    write_csv(out / "results.csv", [result_cells(row) for row in evaluation.rows])
    rows = [level_cells(row, level) for row in evaluation.rows for level in row.levels]
    write_csv(out / "levels.csv", rows)
    write_csv(out / "comparisons.csv", comparison_cells(evaluation))
    if evaluation.fronts:
        write_csv(out / "fronts.csv", [front_cells(point) for point in evaluation.fronts])
    if evaluation.first_tried:
        write_csv(out / "first_tried.csv", first_tried_cells(evaluation))
    if predictions:
        write_csv(out / "per_class.csv", class_cells(predictions))
        write_csv(out / "class_changes.csv", change_cells(predictions, evaluation))
        write_csv(out / "confusion.csv", confusion_cells(predictions))
        write_csv(out / "misclassified.csv", misclassified_cells(predictions))
